# SPDX-License-Identifier: MIT
"""Reads a placement from a file of any form."""

from __future__ import annotations

import os
from typing import Any

from lplb.convert.errors import PathLike, fail, shown
from lplb.convert.files import read_json, read_json_lines, read_npy, read_pt, read_yaml
from lplb.convert.forms import Placement, from_array, from_dict
from lplb.convert.values import MAX_RANKS


def _read_line(path: PathLike) -> Any:
    """The first line of vLLM's JSON lines that has a map."""
    for _, value in read_json_lines(path):
        if isinstance(value, dict) and "initial_global_assignments" in value:
            return value
    fail(path, "", "has no line with initial_global_assignments, expected vLLM's initial mapping")


_READERS = {
    ".json": read_json,
    ".jsonl": _read_line,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".npy": read_npy,
    ".pt": read_pt,
    ".pth": read_pt,
}


def read_placement(
    path: PathLike,
    num_ranks: int | None = None,
    num_nodes: int | None = None,
    *,
    key: str | None = None,
) -> Placement:
    """Read a placement in any form. The form is detected from the contents.

    Parameters
    ----------
    path : path
        A `.json`, `.jsonl`, `.yaml`, `.yml`, `.npy`, `.pt` or `.pth` file. A dump of SGLang's
        recorder in mode `per_pass` or `per_token` holds the placement that was in use.
    num_ranks, num_nodes : int, optional
        The numbers of ranks and nodes, for forms that do not hold them.
    key : str, optional
        The model, if the file has the maps of several (`model_maps`).

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
        placement = from_dict(path, value, key)
    else:
        placement = from_array(path, value)
    if num_ranks is not None:
        if placement.num_ranks not in (None, num_ranks):
            fail(path, "num_ranks", f"is {placement.num_ranks}, expected {num_ranks}")
        placement.num_ranks = num_ranks
    if num_nodes is not None:
        placement.num_nodes = num_nodes
    ranks = placement.num_ranks
    for slots in sorted({len(row) for row in placement.rows}):
        if ranks is not None and not (1 <= ranks <= MAX_RANKS and slots % ranks == 0):
            fail(path, "", f"has {slots} slots a layer, expected a multiple of num_ranks ({ranks})")
    nodes = placement.num_nodes
    if nodes < 1 or ranks is not None and ranks % nodes:
        fail(path, "", f"num_nodes is {nodes}, expected a divisor of num_ranks ({ranks})")
    return placement
