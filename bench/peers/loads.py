# SPDX-License-Identifier: MIT
"""The loads that all balancers get: the hard ones of METHOD.md, drawn here by NumPy.

A file of loads (.npz) has `num_ranks`, `history` [num_logical] int64, `physical_to_logical`
[num_slots] int32, `r2o` [num_ranks, num_columns] int32 (empty if there is no topology), `batches`
[num_batches, num_logical] int64 and `topk_idx` [num_batches, num_tokens, 8] int16.
"""

from __future__ import annotations

import os

import numpy as np

import lplb

EXPERTS, TOPK, TOKENS = 256, 8, 4096  # a rank has TOKENS tokens
SIGMA = {"mild": 0.5, "skew": 1.2}  # of the logarithm of the history
DRIFT = 0.34

SHAPES = {  # ranks, redundants a rank, topology
    "cube8x2": (8, 2, "cube"),
    "hypercube16x2": (16, 2, "hypercube"),
    "torus8x4x2": (32, 2, "torus:8x4"),
    "EP16+16": (16, 1, ""),
    "EP32+32": (32, 1, ""),
    "EP64+64": (64, 1, ""),
}
NAMES = [f"{kind}:{shape}" for shape in SHAPES for kind in SIGMA]


def save(name: str, path: str | os.PathLike[str], num_batches: int, num_tokens: int) -> None:
    """Writes the loads `name`; the same on every machine that has the same NumPy.

    The placement is made for the history, along the topology or by EPLB. `num_tokens` are those of
    topk_idx; the batches always have those of the group.
    """
    kind, shape = name.split(":", 1)
    num_ranks, redundants, topology = SHAPES[shape]
    draw = np.random.default_rng(NAMES.index(name))
    weight = np.exp(draw.normal(0, SIGMA[kind], EXPERTS))
    history = without_ties(np.round(weight / weight.sum() * 2**24).astype(np.int64))
    r2o = np.zeros((0, 0), np.int32)
    if topology:
        r2o = lplb.topology.parse(topology).r2o
        maps = lplb.place_on_topology(history[None], topology, redundants, num_ranks)
    else:
        slots = EXPERTS + num_ranks * redundants
        maps = lplb.rebalance_experts(history[None], slots, 1, 1, num_ranks, spread=True)
    batches, topk_idx = [], []
    for _ in range(num_batches):
        popularity = weight * np.exp(draw.normal(0, DRIFT, EXPERTS))
        popularity /= popularity.sum()
        batches.append(draw.multinomial(TOKENS * TOPK * num_ranks, popularity))
        topk_idx.append(draw.choice(EXPERTS, (num_tokens, TOPK), p=popularity))
    np.savez_compressed(
        path,
        num_ranks=num_ranks,
        history=history,
        physical_to_logical=maps[0][0].astype(np.int32),
        r2o=r2o,
        batches=np.array(batches, np.int64),
        topk_idx=np.array(topk_idx, np.int16),
    )


def without_ties(history: np.ndarray) -> np.ndarray:
    """Loads that nearly equal `history` and differ from each other.

    With ties deepseek-ai/LPLB's order would depend on PyTorch's sort.
    """
    order = np.argsort(history, kind="stable")
    steps = np.arange(len(history))
    history[order] = np.maximum.accumulate(history[order] - steps) + steps
    return history
