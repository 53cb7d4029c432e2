# SPDX-License-Identifier: MIT
"""Reads TensorRT-LLM's expert statistics, a folder of `meta_info.json` and `rank{r}.safetensors`.

The keys of a rank's file are "{iteration}_{layer}"; each array is [experts]. If its load balancer
is on, TensorRT-LLM counts slots, not experts. The placement that was in use then says which expert
each slot held.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, fail_shape, shown
from lplb.convert.files import open_safetensors, read_json, read_tensor
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, IntArray, counts, integer

_RANK_FILE = re.compile(r"rank(\d+)\.safetensors")
_KEY = re.compile(r"(\d+)_(\d+)")


def is_statistics(folder: PathLike) -> bool:
    """Whether `folder` holds files with TensorRT-LLM's names."""
    return any(_RANK_FILE.fullmatch(name) for name in os.listdir(folder))


def is_rank_file(path: PathLike) -> bool:
    """Whether `path` is one rank's file in such a folder.

    >>> is_rank_file("statistics/rank0.safetensors"), is_rank_file("load.safetensors")
    (True, False)
    """
    return _RANK_FILE.fullmatch(os.path.basename(os.fspath(path))) is not None


def _steps_of(path: PathLike, file: Any) -> dict[int, set[int]]:
    """The layers of each iteration in a rank's file."""
    steps: dict[int, set[int]] = {}
    keys: list[str] = file.keys()
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None or int(match.group(2)) >= MAX_LAYERS:
            expected = f"ITERATION_LAYER with a layer below {MAX_LAYERS}"
            fail(path, "", f"has key {shown(key)}, expected {expected}")
        steps.setdefault(int(match.group(1)), set()).add(int(match.group(2)))
    if not steps:
        fail(path, "", "has no keys, expected ITERATION_LAYER")
    return steps


def read_statistics(folder: PathLike) -> Recording:
    """Makes a recording from the statistics in `folder`.

    An iteration is left out if a rank does not have it, or not with all layers.
    """
    base = os.fspath(folder)
    meta_path = os.path.join(base, "meta_info.json")
    meta = read_json(meta_path)
    if not isinstance(meta, dict):
        fail(meta_path, "", f"holds {shown(meta)}, expected an object")
    counted = integer(meta_path, meta, "num_experts", 1, MAX_EXPERTS)
    num_topk = integer(meta_path, meta, "num_experts_per_token", 1, counted)

    matches = map(_RANK_FILE.fullmatch, os.listdir(base))
    ranks = sorted(int(match.group(1)) for match in matches if match)
    paths = [os.path.join(base, f"rank{rank}.safetensors") for rank in ranks]
    files = [open_safetensors(path) for path in paths]
    steps = [_steps_of(path, file) for path, file in zip(paths, files)]
    layers = tuple(sorted(set().union(*(there for rank in steps for there in rank.values()))))

    notes: list[str] = []
    if ranks != list(range(len(ranks))):
        missing = "others are missing, and their tokens are not counted"
        notes.append(f"files of ranks {', '.join(map(str, ranks))}: {missing}")
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
                        expected = f"[{counted}] as num_experts in meta_info.json"
                        fail_shape(path, key, row, expected)
                    rows.append(row)
            yield np.stack(rows).reshape(len(files), len(layers), counted)

    return Recording(folder, read, len(files), layers, counted, num_topk=num_topk, notes=notes)
