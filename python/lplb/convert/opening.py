# SPDX-License-Identifier: MIT
"""Opens files as a recording. What a file is, is detected from its contents."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from typing import Any

from lplb.convert import arrays, parquet, sglang, trtllm, vllm
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
from lplb.convert.placement import read_placement
from lplb.convert.recording import Recording

_STAT, _RECORDS = "an SGLang dump of counts", "an SGLang dump of forward passes"
_WINDOW, _ARRAY = "a vLLM load window", "an array"
_DUMPS = "expert_distribution_recorder_*.pt"


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
    check_readable(path)
    _text_hint(path)
    expected = ".pt, .npy, .npz, .safetensors, .json, .parquet, or a folder of an engine's files"
    fail(path, "", f"ends in {shown(suffix)}, expected {expected}")


def _kind(path: PathLike, content: Any) -> str:
    if isinstance(content, dict):
        if "logical_count" in content:
            return _STAT
        if "records" in content:
            return _RECORDS
        if vllm.WINDOW in content or vllm.ONE_PASS in content:
            return _WINDOW
    elif not hasattr(content, "shape") and not isinstance(content, list):
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


def _read(
    paths: Sequence[PathLike], key: str | None, topk: bool, num_experts: int | None
) -> Recording:
    if len(paths) == 1 and os.path.isdir(paths[0]) and trtllm.is_statistics(paths[0]):
        return trtllm.read_statistics(paths[0])
    if len(paths) == 1 and os.fspath(paths[0]).lower().endswith(".parquet") and not topk:
        return parquet.read_table(paths[0])
    expanded = _expand(paths)
    files = [(path, _content(path)) for path in expanded]
    chosen = key is not None or topk  # then the files hold arrays, whatever their keys are
    kinds = [_ARRAY if chosen else _kind(path, content) for path, content in files]
    kind = arrays.same_kind(kinds, expanded)
    if kind == _STAT:
        return sglang.read_stat(files)
    if kind == _RECORDS:
        return sglang.read_records(files)
    if kind == _WINDOW:
        return vllm.read_window(files)
    named: list[tuple[PathLike, str, Any]] = [
        (path, *(arrays.pick(path, content, key) if isinstance(content, dict) else ("", content)))
        for path, content in files
    ]
    if not topk:
        return arrays.read_loads(named)
    if num_experts is None:
        expected = "expected the number of experts too (--num-experts, or --placement)"
        fail(expanded[0], "", f"holds chosen experts: {expected}")
    return arrays.read_ids(named, num_experts)


def open_recording(
    paths: PathLike | Sequence[PathLike],
    *,
    key: str | None = None,
    topk: bool = False,
    num_experts: int | None = None,
    num_topk: int | None = None,
    placement: PathLike | None = None,
    copies: int = 1,
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
    topk : bool
        True if the arrays are chosen experts [tokens, layers, topk], not loads [steps, layers,
        experts].
    num_experts : int, optional
        With `topk`: how many experts the router chooses from; with `placement` too: how many slots.
    num_topk : int, optional
        The number of experts of each token, if the files do not say it.
    placement : path, optional
        The placement that was in use, in any form that `read_placement` reads. Give it if the files
        count slots: it says which expert each slot held.
    copies : int
        How often each token was counted. In a tensor-parallel group, for example, every rank counts
        the same tokens.

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
    if topk and num_experts is None and slots is not None:
        num_experts = slots.physical_to_logical.shape[1]
    recording = _read(paths, key, topk, num_experts)
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
