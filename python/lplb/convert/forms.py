# SPDX-License-Identifier: MIT
"""Reads placements in the forms of LPLB and of the engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, fail_shape, shown
from lplb.convert.values import (
    MAX_EXPERTS,
    MAX_LAYERS,
    MAX_RANKS,
    IntArray,
    as_array,
    integer,
    is_numbered,
    slot_map,
    slot_rows,
)

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
    "layers",
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
        The logical expert in each slot. Slot p is on rank p / (num_physical / num_ranks). If the
        layers have different numbers of slots, rows that are short end in -1; `rows` lacks these.
    num_ranks : int, optional
        The number of ranks, from the file or from the caller. The forms of SGLang, vLLM and
        TensorRT-LLM do not hold it.
    num_nodes : int
        The number of nodes; 1 if the form does not hold it.
    layers : tuple of int, optional
        The model's number of each layer, ascending. The forms of LPLB and TensorRT-LLM hold it; in
        SGLang's form a row's place is its number.
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

    @property
    def rows(self) -> list[IntArray]:
        """The logical expert in each slot, by layer: as many as the layer has slots."""
        return [row[row >= 0] for row in self.physical_to_logical]

    @property
    def num_slots(self) -> tuple[int, int]:
        """The smallest and the largest number of slots of a layer."""
        slots = (self.physical_to_logical >= 0).sum(axis=1)
        return int(slots.min()), int(slots.max())

    def rows_for(self, layers: tuple[int, ...]) -> IntArray:
        """The rows for the model's `layers`; all rows if this placement does not number them."""
        rows = self.physical_to_logical
        if self.layers is not None and set(layers) <= set(self.layers):
            rows = rows[[self.layers.index(layer) for layer in layers]]
        return rows[:, (rows >= 0).any(axis=0)]


def _layers(path: PathLike, value: object, num_layers: int) -> tuple[int, ...]:
    """The key `layers`: numbers of layers, ascending."""
    numbers = value if isinstance(value, list) else []
    if len(numbers) != num_layers or any(type(number) is not int for number in numbers):
        fail(path, "layers", f"is {shown(value)}, expected a list of {num_layers} layer numbers")
    if numbers[0] < 0 or (np.diff(numbers) <= 0).any():
        fail(path, "layers", f"is {shown(value)}, expected numbers >= 0, ascending")
    return tuple(numbers)


def _from_own(path: PathLike, value: dict[str, Any]) -> Placement:
    for key in value:
        if key not in _OWN_KEYS:
            fail(path, key, f"is unknown, expected one of {', '.join(_OWN_KEYS)}")
    slots = slot_rows(path, "physical_to_logical", value["physical_to_logical"])
    experts = integer(path, value, "num_logical_experts", 1, MAX_EXPERTS)
    if experts != int(slots.max()) + 1:
        problem = f"is {experts}, expected {int(slots.max()) + 1} as in physical_to_logical"
        fail(path, "num_logical_experts", problem)
    nodes = integer(path, value, "num_nodes", 1, MAX_RANKS) if "num_nodes" in value else 1
    return Placement(
        slots,
        integer(path, value, "num_ranks", 1, MAX_RANKS),
        nodes,
        _layers(path, value["layers"], len(slots)) if "layers" in value else None,
        left_out=tuple(key for key in ("rank_speed", "rank_alive", "moves") if key in value),
    )


def _from_trtllm(path: PathLike, value: dict[Any, Any]) -> Placement:
    key, assignments = "initial_global_assignments", value.get("initial_global_assignments")
    if value.get("record_type") == "eplb_initial_mapping" and isinstance(assignments, dict):
        # vLLM's form of the same, in JSON, whose keys are texts.
        numbered = {int(at) if str(at).isdigit() else at: row for at, row in assignments.items()}
        value = {"num_slots": value.get("num_slots"), key: numbered}
        assignments = numbered
    for key in value:
        if key not in _TRTLLM_KEYS:
            fail(path, str(key), f"is unknown, expected one of {', '.join(_TRTLLM_KEYS)}")
    slots = integer(path, value, "num_slots", 1, MAX_EXPERTS)
    key = "initial_global_assignments"
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


def _from_ascend(path: PathLike, value: dict[Any, Any]) -> Placement:
    """`expert_map.json` of vllm-ascend and MindIE."""
    rows: list[list[Any]] = []
    layers: list[int] = []
    entries = value["layer_list"]
    if not isinstance(entries, list) or not entries:
        fail(path, "layer_list", f"is {shown(entries)}, expected a list of layers")
    ranks: int | None = None
    for index, layer in enumerate(entries):
        where = f"layer_list[{index}]"
        devices: list[Any] = []
        if isinstance(layer, dict) and isinstance(layer.get("device_list"), list):
            devices = layer["device_list"]
        if not devices:
            fail(path, where, f"is {shown(layer)}, expected layer_id and device_list")
        devices = [device if isinstance(device, dict) else {} for device in devices]
        experts: list[Any] = [device.get("device_expert") for device in devices]
        lengths = {len(row) if isinstance(row, list) else -1 for row in experts}
        if len(lengths) != 1 or -1 in lengths:
            problem = f"has device_expert {shown(experts)}, expected lists of one length"
            fail(path, f"{where}.device_list", problem)
        ids = [device.get("device_id", at) for at, device in enumerate(devices)]
        if ids != list(range(len(ids))):
            fail(path, f"{where}.device_list", f"has device_id {shown(ids)}, expected 0, 1, ...")
        ranks = ranks or len(experts)
        if len(experts) != ranks:
            fail(path, where, f"has {len(experts)} devices, expected {ranks} as layer_list[0]")
        layers.append(integer(path, layer, "layer_id", 0, 2**31 - 2))
        rows.append([expert for row in experts for expert in row])
    order = sorted(range(len(layers)), key=layers.__getitem__)
    slots = slot_rows(path, "device_expert", [rows[at] for at in order])
    numbers = _layers(path, [layers[at] for at in order], len(layers))
    return Placement(slots, ranks, layers=numbers if is_numbered(numbers) else None)


def _from_models(path: PathLike, value: dict[Any, Any], key: str | None) -> Placement:
    """A file with a map for each of several models: `model_maps`."""
    models = value["model_maps"]
    names = list(models) if isinstance(models, dict) else []
    listed = ", ".join(map(shown, names)) or "none"
    if key is None and len(names) != 1:
        fail(path, "model_maps", f"has models {listed}, expected one, or --key with a name")
    name = names[0] if key is None else key
    if name not in names or not isinstance(models[name], dict):
        fail(path, "model_maps", f"has models {listed}, expected {shown(name)} (--key)")
    return from_dict(path, models[name])


def from_dict(path: PathLike, value: dict[Any, Any], key: str | None = None) -> Placement:
    """The placement in a dict of any form; `key` is the model, if there are several."""
    if "model_maps" in value:
        return _from_models(path, value, key)
    if "layer_list" in value:
        return _from_ascend(path, value)
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
        "physical_to_logical (a placement of lplb), physical_to_logical_map (SGLang, vLLM), "
        "initial_global_assignments (TensorRT-LLM) or layer_list (Ascend)"
    )
    fail(path, "", f"has keys {keys}, expected {expected}")


def from_array(path: PathLike, value: object) -> Placement:
    """The placement in an array.

    [slots] and [layers, slots] hold the expert of each slot, and so does [layers, ranks, slots of a
    rank]. [ranks, layers, experts] of 0 and 1 says which ranks have an expert (omni-infer).
    [layers, ranks, experts] with -1 says in which of its rank's slots an expert is (vLLM's
    `expert_map.pth`).
    """
    array = as_array(path, "the array", value)
    if array.ndim != 3:
        return Placement(slot_map(path, "the array", array))
    if 0 in array.shape or array.dtype.kind not in "iu":
        fail_shape(path, f"the array of {array.dtype}", array, "integers, [layers, slots]")
    if array.min() >= 0 and array.max() > 1:
        layers, ranks, _ = array.shape
        return Placement(slot_map(path, "the array", array.reshape(layers, -1)), ranks)
    local = array if array.min() < 0 else np.where(array.transpose(1, 0, 2) == 1, 0, -1)
    local = local.astype(np.int64)
    layers, ranks, experts = local.shape
    if layers > MAX_LAYERS or ranks > MAX_RANKS or experts > MAX_EXPERTS:
        most = f"at most {MAX_LAYERS} layers, {MAX_RANKS} ranks and {MAX_EXPERTS} experts"
        fail_shape(path, "the array", array, most)
    numbers = (local >= 0).sum(axis=2)
    uneven = np.flatnonzero(numbers.min(axis=1) != numbers.max(axis=1))
    if uneven.size:
        here = numbers[uneven[0]]
        has = f"layer {uneven[0]} has {here.min()} to {here.max()} experts on a rank"
        fail(path, "", f"{has}, expected one number on all ranks of a layer")
    rows = []
    for layer, number in enumerate(numbers[:, 0]):
        # NOTE: a stable sort, so that experts without a slot of their own come in ascending order.
        last = np.iinfo(np.int64).max
        order = np.argsort(np.where(local[layer] < 0, last, local[layer]), axis=1, kind="stable")
        slots = order[:, :number]
        held = np.take_along_axis(local[layer], slots, axis=1)
        wrong = np.argwhere(held != np.arange(number))
        if array.min() < 0 and wrong.size:
            rank = wrong[0, 0]
            problem = f"has slots {held[rank].tolist()}, expected 0 to {number - 1}"
            fail(path, f"the array[{layer}, {rank}]", problem)
        rows.append(slots.reshape(-1).tolist())
    return Placement(slot_rows(path, "the array", rows), ranks)
