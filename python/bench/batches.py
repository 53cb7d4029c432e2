# SPDX-License-Identifier: MIT
"""Loads that programs of this folder balance: recorded, and the hard ones of bench/METHOD.md."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
Pair = tuple[np.ndarray, np.ndarray]  # of the past, and of the batch


def recorded_topk(trace: str) -> np.ndarray:
    """The ids that a model's router chose: [tokens, layers, top]."""
    topk: np.ndarray = np.load(ROOT / "data" / "traces" / f"{trace}.topk.npy")
    return topk


def stretches(topk: np.ndarray, before: int, length: int) -> Iterator[Pair]:
    """The ids of `length` consecutive tokens, and of the `before` tokens that come before them.

    Both are [tokens, top] of one layer. They are spread over the recording and its layers.
    """
    for i in range(1 << 20):
        spread = (i * 0.618034) % 1  # any prefix is well spread
        start = int((len(topk) - before - length) * spread)
        ids = topk[start : start + before + length, i % topk.shape[1]]
        yield ids[:before], ids[before:]


def hard_batches(kind: str, tokens: int) -> Iterator[Pair]:
    """(history, load): loads that drift from the history, drawn, of 256 experts and top 8."""
    draw = np.random.default_rng(17)
    while True:
        weights = np.exp(draw.normal(0, {"mild": 0.5, "skew": 1.2}[kind], 256))
        drifted = weights * np.exp(draw.normal(0, 0.34, 256))
        load = draw.multinomial(tokens * 8, drifted / drifted.sum())
        yield np.ceil(weights / weights.sum() * 1e6).astype(np.int64), load
