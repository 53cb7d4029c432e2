# SPDX-License-Identifier: MIT
"""Opens files as a recording. The suffix says how a file is read; what it is, its contents."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from typing import Any

from lplb.convert import arrays, lines, parquet, sglang, tables, trtllm, vllm
from lplb.convert.choices import Options
from lplb.convert.errors import ConvertError, PathLike, fail, shown
from lplb.convert.files import (
    check_readable,
    open_safetensors,
    read_json,
    read_npy,
    read_npz,
    read_pt,
    read_tensor,
)
from lplb.convert.layout import Layout, parse_layout
from lplb.convert.placement import read_placement
from lplb.convert.recording import Recording

_STAT, _RECORDS = "an SGLang dump of counts", "an SGLang dump of forward passes"
_WINDOW, _ARRAY = "a vLLM load window", "an array"
_TABLE, _CHOICES, _OWN = "a table of loads", "a table of chosen experts", "a load file"
_DUMPS = "expert_distribution_recorder_*.pt"
# What says that a file is a placement, which is no recording.
_PLACEMENT_KEYS = ("physical_to_logical", "model_maps", "layer_list", "initial_global_assignments")


def _text_hint(path: PathLike) -> None:
    """Raises an error that explains why an engine's log is refused, if `path` is one."""
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    if b"EPLB step:" in start or b"[Expert Balancedness]" in start:
        expected = "expected its tensors (docs/convert.md shows how to save them)"
        fail(path, "", f"is an engine's log, which has only means and maxima: {expected}")


def _content(path: PathLike) -> Any:
    """The array or the dict that a file holds."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in (".pt", ".pth"):
        return read_pt(path)
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix == ".safetensors":
        if trtllm.is_rank_file(path):
            fail(path, "", "is one rank's part of TensorRT-LLM's statistics, expected their folder")
        file = open_safetensors(path)
        keys: list[str] = file.keys()
        return {key: read_tensor(path, file, key) for key in keys}
    if suffix == ".json":
        return read_json(path)
    if suffix == ".parquet":
        return parquet.ParquetTable(path)
    if suffix == ".csv":
        return tables.CsvTable(path)
    check_readable(path)
    if suffix in (".jsonl", ".ndjson"):
        return None
    _text_hint(path)
    kinds = ".pt, .npy, .npz, .safetensors, .json, .jsonl, .csv, .parquet"
    fail(path, "", f"ends in {shown(suffix)}, expected {kinds}, or a folder of an engine's files")


def _kind(path: PathLike, content: Any, is_array: bool) -> str:
    """What a file is. Dicts are arrays by name if `is_array`, whatever their names are."""
    if content is None:
        return lines.kind_of(path)
    if isinstance(content, tables.CsvTable):
        return _TABLE
    if isinstance(content, parquet.ParquetTable):
        return _CHOICES if content.has_choices else _TABLE
    if isinstance(content, dict) and not is_array:
        if "logical_count" in content:
            return _STAT
        if "records" in content:
            return _RECORDS
        if any(key in content for key in vllm.KEYS):
            return _WINDOW
        if set(content) == {"load", "layers"}:
            return _OWN
        for key in _PLACEMENT_KEYS:
            if key in content:
                fail(path, key, "is a placement, expected loads; the command placement reads it")
    elif not isinstance(content, (dict, list)) and not hasattr(content, "shape"):
        fail(path, "", f"holds {shown(content)}, expected an array or a dict of arrays")
    return _ARRAY


def _expand(paths: Sequence[PathLike]) -> list[PathLike]:
    """`paths`, in which the dumps of SGLang's recorder replace the folders that hold them."""
    result: list[PathLike] = []
    for path in paths:
        if not os.path.isdir(path):
            result.append(path)
            continue
        names = sorted(fnmatch.filter(os.listdir(path), _DUMPS))
        if not names:
            fail(path, "", f"is a folder without rank*.safetensors or {_DUMPS}, expected either")
        result += [os.path.join(path, name) for name in names]
    return result


def _own(path: PathLike, content: dict[str, Any]) -> Recording:
    """A load file with layer numbers (docs/formats.md)."""
    recording = arrays.read_loads([(path, "load", content["load"])], known=True)
    numbers = content["layers"]
    if not isinstance(numbers, list) or len(numbers) != len(recording.layers):
        fail(path, "layers", f"is {shown(numbers)}, expected {len(recording.layers)} numbers")
    recording.layers = tuple(map(int, numbers))
    return recording


def _read(
    paths: Sequence[PathLike], key: str | None, layout: Layout | None, topk: bool, options: Options
) -> Recording:
    if len(paths) == 1 and os.path.isdir(paths[0]) and trtllm.is_statistics(paths[0]):
        return trtllm.read_statistics(paths[0])
    expanded = _expand(paths)
    files = [(path, _content(path)) for path in expanded]
    chosen = key is not None or topk  # then dicts are arrays, whatever their keys are
    kind = arrays.same_kind([_kind(*file, chosen) for file in files], expanded)
    if layout is not None and kind not in (_ARRAY, _STAT):
        fail(expanded[0], "", f"is {kind}, expected an array, because a layout is given (--layout)")
    if (topk or options.drop_shared) and kind in (_TABLE, lines.LOADS, _OWN):
        fail(expanded[0], "", f"is {kind}, expected chosen experts (--topk, --drop-shared)")
    if kind == _STAT:
        return sglang.read_stat(files, layout)
    if kind == _RECORDS:
        return sglang.read_records(files)
    if kind == _WINDOW:
        return vllm.read_window(files)
    if kind == _TABLE:
        return tables.read_tables([table for _, table in files], options.num_experts)
    if kind == _CHOICES:
        return parquet.read_choice_tables([table for _, table in files], options)
    if kind == lines.LOADS:
        return lines.read_loads(expanded)
    if kind == lines.ROUTES:
        return lines.read_routes(expanded, options)
    if kind == _OWN:
        return _own(*files[0])
    layers = [None if key or layout else arrays.by_layer(content) for _, content in files]
    named: list[tuple[PathLike, str, Any]] = []
    for (path, content), found in zip(files, layers):
        if found is not None:
            content = arrays.stack_layers(path, found)
        is_dict = isinstance(content, dict)
        named.append((path, *(arrays.pick(path, content, key) if is_dict else ("", content))))
    if topk or (layout is not None and layout.is_choices):
        recording = arrays.read_ids(named, layout, options)
    else:
        recording = arrays.read_loads(named, layout)
    if layers[0] is not None:
        for path, found in zip(expanded, layers):
            if found is None or found.keys() != layers[0].keys():
                fail(path, "", f"has other layers than {expanded[0]}, expected the same")
        recording.layers = tuple(layers[0])
        recording.other_layouts = ""  # their names say what they are
    return recording


def open_recording(
    paths: PathLike | Sequence[PathLike],
    *,
    key: str | None = None,
    layout: str | None = None,
    topk: bool = False,
    num_experts: int | None = None,
    num_topk: int | None = None,
    placement: PathLike | None = None,
    copies: int = 1,
    drop_shared: bool = False,
    drop_repeats: bool = False,
) -> Recording:
    """Open what an engine recorded, or plain arrays.

    Files that can be mapped into memory are mapped, not read.

    Parameters
    ----------
    paths : path or sequence of paths
        The files of one recording: the files of all ranks, or files in the order of time. Or one
        folder, of SGLang's recorder or of TensorRT-LLM's statistics.
    key : str, optional
        The name of the array, if the files hold several.
    layout : str, optional
        The axes of the array, in their order: `steps_layers_experts`, `ranks_layers_experts`,
        `layers_ranks_local` (rank r has the experts from r * local on), `tokens_layers_topk`, or
        any other order of `steps`, `ranks`, `layers` and `experts`; of these with `local` in place
        of `experts`; or of `steps`, `ranks`, `tokens`, `layers` and `topk`. `ranks` are the ranks
        that counted. Axes of length 1 may be missing.
    topk : bool
        True if the arrays are chosen experts [tokens, layers, topk], not loads [steps, layers,
        experts].
    num_experts : int, optional
        How many experts the router chooses from; with `placement` too: how many slots. Chosen
        experts need it; a table of loads may lack experts without tokens.
    num_topk : int, optional
        The number of experts of each token, if the files do not say it.
    placement : path, optional
        The placement that was in use, in any form that `read_placement` reads. Give it if the files
        count slots: it says which expert each slot held.
    copies : int
        How often each token was counted. In a tensor-parallel group, for example, every rank counts
        the same tokens.
    drop_shared : bool
        Leave out ids from `num_experts` on among chosen experts: shared experts, or padding.
    drop_repeats : bool
        Leave out tokens whose chosen experts in all layers are those of more than a tenth of the
        tokens: padding or warm-up.

    Raises
    ------
    ConvertError
        If a file cannot be read or does not fit the others or the options.

    Examples
    --------
    >>> import tempfile, numpy
    >>> folder = tempfile.TemporaryDirectory()
    >>> numpy.save(folder.name + "/load.npy", [[[1, 2, 3]], [[4, 5, 6]]])
    >>> recording = open_recording(folder.name + "/load.npy")
    >>> [step[0].tolist() for step in recording.steps()]
    [[[1, 2, 3]], [[4, 5, 6]]]
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not paths:
        raise ConvertError("no file given, expected at least one")
    if copies < 1:
        raise ConvertError(f"copies is {copies}, expected 1 or more")
    slots = read_placement(placement) if placement is not None else None
    if num_experts is None and slots is not None:
        num_experts = slots.num_slots[1]
    options = Options(num_experts, drop_shared, drop_repeats)
    axes = parse_layout(layout) if layout is not None else None
    if topk and axes is not None and not axes.is_choices:
        raise ConvertError(f"layout is {layout!r}, expected tokens and topk in it (topk)")
    recording = _read(paths, key, axes, topk, options)
    recording.copies = copies
    if slots is not None and placement is not None:
        recording.map_with(slots.rows_for(recording.layers), placement)
    if num_topk is not None:
        if recording.num_topk not in (None, num_topk):
            problem = f"has {recording.num_topk} experts a token, expected {num_topk} (num_topk)"
            fail(recording.path, "", problem)
        recording.num_topk = num_topk
    experts, width = recording.num_logical_experts, recording.num_topk
    if width is not None and not 1 <= width <= experts:
        problem = f"num_topk is {width}, expected 1 to {experts}, the number of experts"
        fail(recording.path, "", problem)
    return recording
