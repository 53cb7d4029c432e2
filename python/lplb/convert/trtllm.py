# SPDX-License-Identifier: MIT
"""TensorRT-LLM's expert statistics: a folder with `meta_info.json` and `rank{r}.safetensors`.

Keys of a rank's file are "{iteration}_{layer}", each [experts]. With its load balancer on,
TensorRT-LLM counts slots, not experts: the placement that was in use then says what they held.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, shown
from lplb.convert.files import open_safetensors, read_json, read_tensor
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, IntArray, counts, integer

_RANK_FILE = re.compile(r"rank(\d+)\.safetensors")
_KEY = re.compile(r"(\d+)_(\d+)")


def is_statistics(folder: PathLike) -> bool:
    """Whether `folder` holds files named as TensorRT-LLM names them."""
    return any(_RANK_FILE.fullmatch(name) for name in os.listdir(folder))


def is_rank_file(path: PathLike) -> bool:
    """Whether `path` is one rank's file in such a folder.

    >>> is_rank_file("statistics/rank0.safetensors"), is_rank_file("load.safetensors")
    (True, False)
    """
    return _RANK_FILE.fullmatch(os.path.basename(os.fspath(path))) is not None


def _steps_of(path: PathLike, file: Any) -> dict[int, set[int]]:
    """Layers of each iteration in a rank's file."""
    steps: dict[int, set[int]] = {}
    for key in file.keys():
        match = _KEY.fullmatch(key)
        if match is None or int(match.group(2)) >= MAX_LAYERS:
            fail(
                path,
                "",
                f"has key {shown(key)}, expected ITERATION_LAYER with a layer below {MAX_LAYERS}",
            )
        steps.setdefault(int(match.group(1)), set()).add(int(match.group(2)))
    if not steps:
        fail(path, "", "has no keys, expected ITERATION_LAYER")
    return steps


def read_statistics(folder: PathLike) -> Recording:
    """The statistics in `folder`; iterations that a rank or a layer lacks are left out."""
    base = os.fspath(folder)
    meta_path = os.path.join(base, "meta_info.json")
    meta = read_json(meta_path)
    if not isinstance(meta, dict):
        fail(meta_path, "", f"holds {shown(meta)}, expected an object")
    counted = integer(meta_path, meta, "num_experts", 1, MAX_EXPERTS)
    num_topk = integer(meta_path, meta, "num_experts_per_token", 1, counted)

    ranks = sorted(
        int(match.group(1)) for match in map(_RANK_FILE.fullmatch, os.listdir(base)) if match
    )
    paths = [os.path.join(base, f"rank{rank}.safetensors") for rank in ranks]
    files = [open_safetensors(path) for path in paths]
    steps = [_steps_of(path, file) for path, file in zip(paths, files)]
    layers = tuple(sorted(set().union(*(there for rank in steps for there in rank.values()))))

    notes: list[str] = []
    if ranks != list(range(len(ranks))):
        notes.append(
            f"files of ranks {', '.join(map(str, ranks))}: others are missing, and their "
            "tokens are not counted"
        )
    complete: list[list[tuple[int, int]]] = [
        [(step, 0) for step in sorted(rank) if rank[step] == set(layers)] for rank in steps
    ]
    if sum(map(len, complete)) < sum(map(len, steps)):
        notes.append(f"iterations without all of layers {layers[0]} to {layers[-1]} are left out")
    order = common_steps(folder, complete, notes, "iterations")

    def read() -> Iterator[IntArray]:
        for step, _ in order:
            rows = []
            for path, file in zip(paths, files):
                for layer in layers:
                    key = f"{step}_{layer}"
                    row = counts(path, key, read_tensor(path, file, key))
                    if row.shape != (counted,):
                        fail(
                            path,
                            key,
                            f"has shape {list(row.shape)}, expected [{counted}] as "
                            "num_experts in meta_info.json",
                        )
                    rows.append(row)
            yield np.stack(rows).reshape(len(files), len(layers), counted)

    return Recording(folder, read, len(files), layers, counted, num_topk=num_topk, notes=notes)
