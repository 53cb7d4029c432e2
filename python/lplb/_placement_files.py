# SPDX-License-Identifier: MIT
"""Placement files (docs/formats.md), which the command reads and writes too."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np


def text_of(placements: Sequence[Any], layers: Sequence[int] | None) -> str:
    """The file of one placement for each layer. `layers`: the model's numbers of the layers."""
    if not placements:
        raise ValueError("placements: is empty, expected one for each layer")
    first = placements[0]
    alike = ("num_ranks", "num_logical_experts", "num_nodes")
    file: dict[str, Any] = {name: getattr(first, name) for name in alike}
    for i, placement in enumerate(placements):
        for name in alike:
            if getattr(placement, name) != file[name]:
                raise ValueError(
                    f"placements[{i}]: has {name} {getattr(placement, name)}, placements[0] has "
                    f"{file[name]}"
                )
        for name in ("rank_speed", "rank_alive"):
            if not np.array_equal(getattr(placement, name), getattr(first, name)):
                raise ValueError(f"placements[{i}]: has another {name} than placements[0]")
    if not (first.rank_speed == 1).all():
        file["rank_speed"] = first.rank_speed.tolist()
    if not first.rank_alive.all():
        file["rank_alive"] = [bool(alive) for alive in first.rank_alive]
    if layers is not None:
        if len(layers) != len(placements):
            raise ValueError(f"layers: has {len(layers)} numbers, expected {len(placements)}")
        file["layers"] = [int(layer) for layer in layers]
    file["physical_to_logical"] = [p.physical_to_logical.tolist() for p in placements]
    return json.dumps(file) + "\n"


def write(
    path: str | os.PathLike[str], placements: Sequence[Any], layers: Sequence[int] | None
) -> None:
    """Writes the file of text_of(), whole or not at all."""
    text = text_of(placements, layers)
    path = os.path.realpath(path)
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def read(path: str | os.PathLike[str]) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
    """The arguments that layers_of() takes, of a placement file. They are not checked yet."""
    with open(path, encoding="utf-8-sig") as stream:
        try:
            file = json.load(stream)
        except ValueError as error:
            raise ValueError(f"is not valid JSON: {error}") from None
    if not isinstance(file, dict):
        raise ValueError("is no JSON object")
    try:
        rows = file["physical_to_logical"]
        if isinstance(rows, list) and rows and not isinstance(rows[0], list):
            rows = [rows]
        options = {"num_nodes": file.get("num_nodes", 1)}
        for name in ("rank_speed", "rank_alive"):
            options[name] = file.get(name)
        return (rows, file["num_ranks"], file["num_logical_experts"]), options
    except KeyError as error:
        raise ValueError(f"key {error} is missing") from None
