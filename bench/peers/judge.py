# SPDX-License-Identifier: MIT
"""How good the answers of a balancer are: one judge for all, who knows the proven optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from adapter import Loads

import lplb

TOLERANCE = 1e-4  # shares so far beyond [0, 1] are rounding errors of float32


@dataclass
class Quality:
    """Figures of a balancer on loads, one for each batch.

    ratio is None for a balancer that chooses its own replicas, since then the optimum is not that
    of the same placement.
    """

    imbalance: list[float]  # max / mean rank load
    ratio: list[float] | None = None  # max rank load / the proven optimum
    infeasible: int = 0  # batches with shares beyond [0, 1], or not finite


def optima(loads: Loads) -> list[int]:
    """The least possible max rank load of each batch. RuntimeError if one is not proven."""
    placement = lplb.Placement(loads.physical_to_logical, loads.num_ranks, loads.num_logical)
    found = []
    for load in loads.batches:
        split = lplb.solve(placement, load)
        split.verify()
        if split.status != "optimal":
            raise RuntimeError(f"the optimum is not proven: {split.lower_bound}..{split.max_load}")
        found.append(int(split.max_load))
    return found


def judge(loads: Loads, found: dict[str, Any]) -> Quality | None:
    """Judges a result (adapter.py). None if it has no answer for some batch.

    ValueError if the answers are no plans for these loads.
    """
    for kind, judge_all in (("shares", judge_shares), ("plans", judge_plans)):
        if len(found.get(kind, [])) == len(loads.batches):
            return judge_all(loads, found[kind])
    return None


def judge_shares(loads: Loads, shares: Any) -> Quality:
    """`shares` [num_batches, num_slots]. Those of experts without tokens do not count.

    A batch is carried out as a runtime would do it: shares are clamped to [0, 1] and scaled so that
    those of an expert sum up to 1; if none is left, or one is not finite, they are equal.
    """
    given = np.array(shares, dtype=np.float64)
    expert = np.asarray(loads.physical_to_logical)
    if given.shape != (len(loads.batches), len(expert)):
        raise ValueError(f"shares: have shape {given.shape}, expected one for each batch and slot")
    infeasible, imbalance, ratio = 0, [], []
    for load, share, optimum in zip(loads.batches, given, optima(loads), strict=True):
        sound = np.isfinite(share)
        beyond = ~sound | (share < -TOLERANCE) | (share > 1 + TOLERANCE)
        infeasible += bool((beyond & (load[expert] > 0)).any())
        part = np.clip(np.where(sound, share, 0), 0, 1)
        total = np.bincount(expert, part)
        usable = (total > 0) & (np.bincount(expert, ~sound) == 0)
        part = np.where(usable[expert], part, 1)
        tokens = load[expert] * part / np.bincount(expert, part)[expert]
        rank_load = tokens.reshape(loads.num_ranks, -1).sum(1)
        imbalance.append(float(rank_load.max() / rank_load.mean()))
        ratio.append(float(rank_load.max() / optimum))
    return Quality(imbalance, ratio, infeasible)


def judge_plans(loads: Loads, plans: list[dict[str, Any]]) -> Quality:
    """Plans with replicas of their own: as many slots a rank, and all tokens, as the loads have."""
    imbalance = []
    for batch, (load, plan) in enumerate(zip(loads.batches, plans, strict=True)):
        expert = np.array(plan["physical_to_logical"], dtype=np.int64)
        tokens = np.array(plan["physical_load"], dtype=np.int64)
        num_slots = len(loads.physical_to_logical)
        if expert.shape != (num_slots,) or tokens.shape != (num_slots,):
            raise ValueError(
                f"batch {batch}: has {len(expert)} slots and {len(tokens)} loads, "
                f"expected {num_slots}"
            )
        used = expert >= 0
        if (tokens < 0).any() or tokens[~used].any():
            raise ValueError(f"batch {batch}: an empty slot has tokens, or a slot less than none")
        carried = np.bincount(expert[used], tokens[used], loads.num_logical)
        if (carried != load).any():
            wrong = int(np.flatnonzero(carried != load)[0])
            raise ValueError(
                f"batch {batch}: expert {wrong} gets {carried[wrong]:.0f} tokens, expected "
                f"{load[wrong]}"
            )
        rank_load = tokens.reshape(loads.num_ranks, -1).sum(1)
        imbalance.append(float(rank_load.max() / rank_load.mean()))
    return Quality(imbalance)
