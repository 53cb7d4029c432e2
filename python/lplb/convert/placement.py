# SPDX-License-Identifier: MIT
"""Reads and writes placements as LPLB's JSON and in SGLang's, vLLM's and TensorRT-LLM's forms."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail, need, shown
from lplb.convert.files import output, read_json, read_npy, read_pt, read_yaml
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, MAX_RANKS, IntArray, integer, slot_map

FORMS = ("lplb", "sglang", "vllm", "trtllm")

# All keys of LPLB's placement file (docs/formats.md).
_OWN_KEYS = (
    "num_ranks",
    "num_logical_experts",
    "physical_to_logical",
    "num_nodes",
    "rank_speed",
    "rank_alive",
    "logical_to_physical",
    "replica_count",
    "moves",
)
_TRTLLM_KEYS = ("num_slots", "initial_global_assignments", "layer_updates_per_iter")
# The name of the map in SGLang and vLLM; and its name in a dump of SGLang's recorder, which holds
# the map that was in use at the end.
_MAP_KEYS = ("physical_to_logical_map", "last_physical_to_logical_map")


@dataclass
class Placement:
    """Which logical expert each slot holds.

    Attributes
    ----------
    physical_to_logical : array [num_layers, num_physical], int64
        The logical expert in each slot. Slot p is on rank p / (num_physical / num_ranks).
    num_ranks : int, optional
        The number of ranks, from the file or from the caller. The forms of SGLang, vLLM and
        TensorRT-LLM do not hold it.
    num_nodes : int
        The number of nodes; 1 if the form does not hold it.
    layers : tuple of int, optional
        The model's number of each layer. Only TensorRT-LLM's form holds it.
    left_out : tuple of str
        Keys of the file that this class has no attribute for, such as `rank_speed`.
    """

    physical_to_logical: IntArray
    num_ranks: int | None = None
    num_nodes: int = 1
    layers: tuple[int, ...] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def num_logical_experts(self) -> int:
        """Experts of the model."""
        return int(self.physical_to_logical.max()) + 1

    def rows_for(self, layers: tuple[int, ...]) -> IntArray:
        """The rows for the model's `layers`; all rows if this placement does not number them."""
        if self.layers is None or not set(layers) <= set(self.layers):
            return self.physical_to_logical
        return self.physical_to_logical[[self.layers.index(layer) for layer in layers]]


def _from_own(path: PathLike, value: dict[str, Any]) -> Placement:
    for key in value:
        if key not in _OWN_KEYS:
            fail(path, key, f"is unknown, expected one of {', '.join(_OWN_KEYS)}")
    slots = slot_map(path, "physical_to_logical", value["physical_to_logical"])
    experts = integer(path, value, "num_logical_experts", 1, MAX_EXPERTS)
    if experts != int(slots.max()) + 1:
        problem = f"is {experts}, expected {int(slots.max()) + 1} as in physical_to_logical"
        fail(path, "num_logical_experts", problem)
    nodes = integer(path, value, "num_nodes", 1, MAX_RANKS) if "num_nodes" in value else 1
    return Placement(
        slots,
        integer(path, value, "num_ranks", 1, MAX_RANKS),
        nodes,
        left_out=tuple(key for key in ("rank_speed", "rank_alive", "moves") if key in value),
    )


def _from_trtllm(path: PathLike, value: dict[Any, Any]) -> Placement:
    for key in value:
        if key not in _TRTLLM_KEYS:
            fail(path, str(key), f"is unknown, expected one of {', '.join(_TRTLLM_KEYS)}")
    slots = integer(path, value, "num_slots", 1, MAX_EXPERTS)
    key, assignments = "initial_global_assignments", value.get("initial_global_assignments")
    if not isinstance(assignments, dict) or not assignments:
        fail(path, key, f"is {shown(assignments)}, expected the slots of each layer")
    rows: list[Any] = []
    for layer in sorted(assignments, key=str):
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            fail(path, key, f"has layer {shown(layer)}, expected a number >= 0")
        row = assignments[layer]
        if not isinstance(row, list) or len(row) != slots:
            problem = f"is {shown(row)}, expected a list of num_slots ({slots}) experts"
            fail(path, f"{key}[{layer}]", problem)
    layers = tuple(sorted(assignments))
    rows = [assignments[layer] for layer in layers]
    return Placement(slot_map(path, key, rows), layers=layers)


def _from_dict(path: PathLike, value: dict[Any, Any]) -> Placement:
    if "physical_to_logical" in value:
        return _from_own(path, value)
    if "num_slots" in value or "initial_global_assignments" in value:
        return _from_trtllm(path, value)
    options = value.get("moe_config")
    if isinstance(options, dict) and isinstance(options.get("load_balancer"), dict):
        return _from_trtllm(path, options["load_balancer"])
    for key in _MAP_KEYS:
        if key in value:
            return Placement(slot_map(path, key, value[key]))
    keys = ", ".join(map(str, list(value)[:20])) or "none"
    expected = (
        "physical_to_logical (a placement of lplb), physical_to_logical_map (SGLang, vLLM) "
        "or initial_global_assignments (TensorRT-LLM)"
    )
    fail(path, "", f"has keys {keys}, expected {expected}")


_READERS = {
    ".json": read_json,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".npy": read_npy,
    ".pt": read_pt,
    ".pth": read_pt,
}


def read_placement(
    path: PathLike, num_ranks: int | None = None, num_nodes: int | None = None
) -> Placement:
    """Read a placement in any of the four forms. The form is detected from the contents.

    Parameters
    ----------
    path : path
        A `.json`, `.yaml`, `.yml`, `.npy`, `.pt` or `.pth` file. A dump of SGLang's recorder in
        mode `per_pass` or `per_token` holds the placement that was in use.
    num_ranks, num_nodes : int, optional
        The numbers of ranks and nodes, for forms that do not hold them.

    Raises
    ------
    ConvertError
        If the file has none of these forms, contradicts itself or `num_ranks`, or has an expert in
        no slot.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with open(folder.name + "/sglang.json", "w") as file:
    ...     _ = file.write('{"physical_to_logical_map": [[0, 1, 2, 0]]}')
    >>> read_placement(folder.name + "/sglang.json", num_ranks=2).num_logical_experts
    3
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _READERS:
        fail(path, "", f"ends in {shown(suffix)}, expected {', '.join(_READERS)}")
    value = _READERS[suffix](path)
    if isinstance(value, dict):
        placement = _from_dict(path, value)
    else:
        placement = Placement(slot_map(path, "the array", value))
    if num_ranks is not None:
        if placement.num_ranks not in (None, num_ranks):
            fail(path, "num_ranks", f"is {placement.num_ranks}, expected {num_ranks}")
        placement.num_ranks = num_ranks
    if num_nodes is not None:
        placement.num_nodes = num_nodes
    ranks, slots = placement.num_ranks, placement.physical_to_logical.shape[1]
    if ranks is not None and not (1 <= ranks <= MAX_RANKS and slots % ranks == 0):
        fail(path, "", f"has {slots} slots a layer, expected a multiple of num_ranks ({ranks})")
    nodes = placement.num_nodes
    if nodes < 1 or ranks is not None and ranks % nodes:
        fail(path, "", f"num_nodes is {nodes}, expected a divisor of num_ranks ({ranks})")
    return placement


def _rows(rows: IntArray) -> str:
    """`rows` as JSON, one row a line."""
    return "[" + ",\n ".join(json.dumps(row) for row in rows.tolist()) + "]"


def _own_text(placement: Placement) -> str:
    if placement.num_ranks is None:
        expected = "expected it for a placement of lplb (--num-ranks)"
        raise ConvertError(f"num_ranks is not known, {expected}")
    nodes = f' "num_nodes": {placement.num_nodes},' if placement.num_nodes != 1 else ""
    return (
        f'{{"num_ranks": {placement.num_ranks},{nodes} "num_logical_experts": '
        f'{placement.num_logical_experts}, "physical_to_logical":\n'
        f"{_rows(placement.physical_to_logical)}}}\n"
    )


def _trtllm_text(placement: Placement, first_layer: int, layer_updates_per_iter: int) -> str:
    rows = placement.physical_to_logical
    layers = placement.layers or tuple(range(first_layer, first_layer + len(rows)))
    lines = [
        f"num_slots: {rows.shape[1]}",
        f"layer_updates_per_iter: {layer_updates_per_iter}",
        "initial_global_assignments:",
    ]
    for layer, row in zip(layers, rows.tolist(), strict=True):
        lines.append(f"  {layer}: {json.dumps(row)}")
    return "\n".join(lines) + "\n"


def write_placement(
    placement: Placement,
    path: PathLike,
    form: str = "lplb",
    *,
    first_layer: int = 0,
    layer_updates_per_iter: int = 0,
) -> None:
    """Write `placement` in a form that the command or an engine reads.

    Parameters
    ----------
    path : path
        The file to write. "-" is standard output, for JSON and YAML.
    form : {"lplb", "sglang", "vllm", "trtllm"}
        - `lplb`: the JSON of docs/formats.md.
        - `sglang`: JSON or `.pt` for `--init-expert-location`, with its only key.
        - `vllm`: the array `physical_to_logical_map`, int64, as `.npy` or `.pt`.
        - `trtllm`: YAML for `moe_config.load_balancer`.
    first_layer : int
        `trtllm`: the model's number of the first layer, if the placement does not number its
        layers.
    layer_updates_per_iter : int
        `trtllm`: the number of layers that it may place again in each iteration; 0 keeps this
        placement.

    Raises
    ------
    ConvertError
        If the form needs something that the placement lacks, or `path` has another suffix.
    OutputError
        If `path` cannot be written.
    """
    if form not in FORMS:
        raise ConvertError(f"form is {form!r}, expected one of {', '.join(FORMS)}")
    rows = np.ascontiguousarray(placement.physical_to_logical)
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    allowed = {
        "lplb": (".json",),
        "sglang": (".json", ".pt"),
        "vllm": (".npy", ".pt"),
        "trtllm": (".yaml", ".yml"),
    }[form]
    standard = os.fspath(path) == "-" and form != "vllm"
    if suffix not in allowed and not standard:
        fail(path, "", f"ends in {shown(suffix)}, expected {' or '.join(allowed)} for {form}")
    if not 0 <= first_layer <= MAX_LAYERS - 1 or layer_updates_per_iter < 0:
        has = f"first_layer is {first_layer} and layer_updates_per_iter {layer_updates_per_iter}"
        raise ConvertError(f"{has}, expected numbers >= 0")
    if form == "lplb":
        data = _own_text(placement).encode()
    elif form == "trtllm":
        data = _trtllm_text(placement, first_layer, layer_updates_per_iter).encode()
    elif suffix in (".json", ""):
        data = f'{{"physical_to_logical_map":\n{_rows(rows)}}}\n'.encode()
    else:
        buffer = io.BytesIO()
        if suffix == ".npy":
            np.save(buffer, rows)
        else:
            torch = need("torch", "torch", path)
            tensor = torch.from_numpy(rows.copy())
            torch.save({"physical_to_logical_map": tensor} if form == "sglang" else tensor, buffer)
        data = buffer.getvalue()
    with output(path, "wb") as file:
        file.write(data)
