# SPDX-License-Identifier: MIT
"""Writes placements as LPLB's JSON and in the engines' forms."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail, need, shown
from lplb.convert.files import output
from lplb.convert.forms import Placement
from lplb.convert.values import MAX_LAYERS, IntArray, is_numbered

_SUFFIXES = {
    "lplb": (".json",),
    "sglang": (".json", ".pt"),
    "vllm": (".npy", ".pt"),
    "trtllm": (".yaml", ".yml"),
    "ascend": (".json",),
    "omni": (".npy",),
}
FORMS = tuple(_SUFFIXES)


def _rows(rows: Iterable[IntArray]) -> str:
    """`rows` as JSON, one row a line."""
    return "[" + ",\n ".join(json.dumps(row.tolist()) for row in rows) + "]"


def _array(placement: Placement, form: str) -> IntArray:
    """[layers, slots], for a form in which all layers have equally many slots."""
    least, most = placement.num_slots
    if least != most:
        problem = f"layers have {least} to {most} slots, expected one number"
        raise ConvertError(f"{problem}: the form {form} cannot say more")
    return np.ascontiguousarray(placement.physical_to_logical)


def _ranks(placement: Placement, form: str) -> int:
    if placement.num_ranks is None:
        raise ConvertError(f"num_ranks is not known, expected it for {form} (--num-ranks)")
    return placement.num_ranks


def _own_text(placement: Placement) -> str:
    ranks = _ranks(placement, "a placement of lplb")
    nodes = f' "num_nodes": {placement.num_nodes},' if placement.num_nodes != 1 else ""
    layers = ""
    if placement.layers is not None and is_numbered(placement.layers):
        layers = f' "layers": {json.dumps(placement.layers)},'
    return (
        f'{{"num_ranks": {ranks},{nodes} "num_logical_experts": '
        f'{placement.num_logical_experts},{layers} "physical_to_logical":\n'
        f"{_rows(placement.rows)}}}\n"
    )


def _trtllm_text(placement: Placement, layer_updates_per_iter: int) -> str:
    rows = _array(placement, "trtllm")
    layers = placement.layers or tuple(range(len(rows)))
    lines = [
        f"num_slots: {rows.shape[1]}",
        f"layer_updates_per_iter: {layer_updates_per_iter}",
        "initial_global_assignments:",
    ]
    for layer, row in zip(layers, rows.tolist(), strict=True):
        lines.append(f"  {layer}: {json.dumps(row)}")
    return "\n".join(lines) + "\n"


def _every_layer(placement: Placement, num_layers: int | None, notes: list[str]) -> IntArray:
    """A row for every layer of the model, as SGLang wants them. Rows that the placement does not
    have hold the experts in turn."""
    rows = _array(placement, "sglang")
    layers = placement.layers or tuple(range(len(rows)))
    wanted = num_layers or layers[-1] + 1
    if not layers[-1] < wanted <= MAX_LAYERS:
        least = f"expected {layers[-1] + 1} to {MAX_LAYERS} (--num-layers)"
        raise ConvertError(f"the model has {wanted} layers, {least}")
    every = np.tile(np.arange(rows.shape[1]) % placement.num_logical_experts, (wanted, 1))
    every[list(layers)] = rows
    if wanted > len(layers):
        missing = ", ".join(str(layer) for layer in range(wanted) if layer not in set(layers))
        if wanted == len(layers) + 1:
            notes.append(
                f"the row of layer {missing}, which has no placement, holds experts in turn"
            )
        else:
            rest = "which have no placement, hold experts in turn"
            notes.append(f"the rows of layers {missing}, {rest}")
    return every


def _ascend_text(placement: Placement) -> str:
    ranks = _ranks(placement, "ascend")
    entries = []
    for layer, row in enumerate(placement.rows):
        devices = [
            {"device_id": rank, "device_expert": experts}
            for rank, experts in enumerate(row.reshape(ranks, -1).tolist())
        ]
        entry = {"layer_id": layer, "device_count": ranks, "device_list": devices}
        entries.append(json.dumps(entry))
    return f'{{"moe_layer_count": {len(entries)}, "layer_list": [\n' + ",\n".join(entries) + "]}\n"


def _omni_array(placement: Placement) -> IntArray:
    """[ranks, layers, experts] of 0 and 1."""
    ranks = _ranks(placement, "omni")
    rows = placement.rows
    held = np.zeros((ranks, len(rows), placement.num_logical_experts), np.int64)
    for layer, row in enumerate(rows):
        rank = np.repeat(np.arange(ranks), len(row) // ranks)
        np.add.at(held[:, layer], (rank, row), 1)
    if held.max() > 1:
        r, row, expert = np.argwhere(held > 1)[0]
        problem = f"rank {r} has expert {expert} of row {row} in {held.max()} slots"
        raise ConvertError(f"{problem}, expected one: the form omni cannot say more")
    return held


def _bytes(suffix: str, array: IntArray, key: str | None, path: PathLike) -> bytes:
    """An array as `.npy` or `.pt`; in a dict with `key` if that is given."""
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, array)
    else:
        torch = need("torch", "torch", path)
        tensor = torch.from_numpy(array.copy())
        torch.save(tensor if key is None else {key: tensor}, buffer)
    return buffer.getvalue()


def write_placement(
    placement: Placement,
    path: PathLike,
    form: str = "lplb",
    *,
    first_layer: int | None = None,
    num_layers: int | None = None,
    layer_updates_per_iter: int = 0,
) -> list[str]:
    """Write `placement` in a form that the command or an engine reads.

    Parameters
    ----------
    path : path
        The file to write. "-" is standard output, for JSON and YAML.
    form : {"lplb", "sglang", "vllm", "trtllm", "ascend", "omni"}
        - `lplb`: the JSON of docs/formats.md.
        - `sglang`: JSON or `.pt` for `--init-expert-location`, with its only key. It has a row for
          every layer of the model; rows that the placement lacks hold the experts in turn.
        - `vllm`: the array `physical_to_logical_map`, int64, as `.npy` or `.pt`.
        - `trtllm`: YAML for `moe_config.load_balancer`.
        - `ascend`: `expert_map.json` of vllm-ascend and MindIE.
        - `omni`: omni-infer's array [ranks, layers, experts] of 0 and 1, int64, as `.npy`.
    first_layer : int, optional
        The model's number of the first layer, if the placement does not number its layers.
    num_layers : int, optional
        `sglang`: the number of layers of the model; by default up to the last layer with a
        placement.
    layer_updates_per_iter : int
        `trtllm`: the number of layers that it may place again in each iteration; 0 keeps this
        placement.

    Returns
    -------
    list of str
        What the form cannot hold, one sentence each.

    Raises
    ------
    ConvertError
        If the form needs something that the placement lacks, or `path` has another suffix.
    OutputError
        If `path` cannot be written.
    """
    if form not in FORMS:
        raise ConvertError(f"form is {form!r}, expected one of {', '.join(FORMS)}")
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    allowed = _SUFFIXES[form]
    standard = os.fspath(path) == "-" and form not in ("vllm", "omni")
    if suffix not in allowed and not standard:
        fail(path, "", f"ends in {shown(suffix)}, expected {' or '.join(allowed)} for {form}")
    first = 0 if first_layer is None else first_layer
    if not 0 <= first <= MAX_LAYERS - 1 or layer_updates_per_iter < 0:
        has = f"first_layer is {first} and layer_updates_per_iter {layer_updates_per_iter}"
        raise ConvertError(f"{has}, expected numbers >= 0")
    if placement.layers is None and first_layer is not None:
        last = first + len(placement.physical_to_logical)
        placement = replace(placement, layers=tuple(range(first, last)))
    notes = [f"{', '.join(placement.left_out)} left out"] if placement.left_out else []
    if form in ("vllm", "ascend", "omni") and is_numbered(placement.layers):
        numbers = ", ".join(map(str, placement.layers or ()))
        notes.append(f"{form} numbers rows from 0: the layers' numbers ({numbers}) are left out")
    if form == "lplb":
        data = _own_text(placement).encode()
    elif form == "trtllm":
        data = _trtllm_text(placement, layer_updates_per_iter).encode()
    elif form == "ascend":
        data = _ascend_text(placement).encode()
    elif form == "omni":
        data = _bytes(suffix, _omni_array(placement), None, path)
    elif form == "vllm":
        data = _bytes(suffix, _array(placement, "vllm"), None, path)
    else:
        every = _every_layer(placement, num_layers, notes)
        key = "physical_to_logical_map"
        text = f'{{"{key}":\n{_rows(every)}}}\n'
        data = _bytes(suffix, every, key, path) if suffix == ".pt" else text.encode()
    with output(path, "wb") as file:
        file.write(data)
    return notes
