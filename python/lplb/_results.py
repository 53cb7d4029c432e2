# SPDX-License-Identifier: MIT
"""What planners report of their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class PlannerStats:
    """Counters since construction, summed over layers, and figures of the last solved batch.

    Attributes
    ----------
    batches, solved, optimal : int
        All batches; those that were split by the solver; of these, those with a proof.
    degraded : int
        Batches that could not be solved: each rank divided its own tokens evenly. On a GPU only.
    unplanned : int
        With staleness: batches that were divided evenly because there was no previous batch to be
        split by.
    out_of_range : int
        Ids that were bad input.
    copies : int
        With dynamic slots: copies of experts, over all ranks.
    overflows, bad_counts, lost : int
        Why batches were degraded: the counts of all ranks sum past 2^31 - 1; a count was negative,
        or of another placement; the counts of a rank did not come.
    bad_valid : int
        Batches on a GPU whose num_valid_tokens was clamped.
    check_failures : int
        With checks=True: what was wrong.
    last_max_load, last_lower_bound, last_imbalance : float
        The largest rank load / speed, what no split can be below, and :func:`imbalance`.
        Each is the largest over the layers.
    last_max_cost, last_cost_lower_bound : float
        With a cost, in its unit: the largest cost of a rank, and what no split can be below.
    """

    batches: int = 0
    solved: int = 0
    optimal: int = 0
    degraded: int = 0
    unplanned: int = 0
    out_of_range: int = 0
    copies: int = 0
    overflows: int = 0
    bad_counts: int = 0
    bad_valid: int = 0
    lost: int = 0
    check_failures: int = 0
    last_max_load: float = 0.0
    last_lower_bound: float = 0.0
    last_imbalance: float = 1.0
    last_max_cost: float = 0.0
    last_cost_lower_bound: float = 0.0


@dataclass(frozen=True)
class ExchangeStats:
    """How counts travel between the GPUs of a group, and how the rounds ended, over layers.

    Attributes
    ----------
    transport : str
        "collective", or the transport of the exchange within the plan's kernel. "none" before the
        first batch on a GPU, and if nothing is exchanged.
    bytes : int
        Device memory that the exchange takes on this rank.
    reason : str
        Why "auto" took the collective: which rank lacks what.
    rounds, complete : int
        All rounds, and those that had the counts of all ranks. Rounds are counted only within the
        kernel, as all figures below.
    timed_out : int
        Rounds in which a rank did not come within `timeout`.
    behind : int
        Rounds that the other ranks had given up before this rank came.
    mismatched : int
        Rounds in which a rank had another placement.
    last_missing : int
        A rank that the last incomplete round lacked; -1: none.
    """

    transport: str = "none"
    bytes: int = 0
    reason: str = ""
    rounds: int = 0
    complete: int = 0
    timed_out: int = 0
    behind: int = 0
    mismatched: int = 0
    last_missing: int = -1


class Quotas(NamedTuple):
    """A batch's split, for runtimes that choose the replica of a token themselves.

    Shapes: E logical experts, R ranks, X = Planner.max_replicas. The tokens of an expert are
    numbered over the group, rank after rank. Replica i, in the order of `logical_to_physical`,
    takes the numbers from `quota_end[e, i - 1]` (0 for the first) to `quota_end[e, i]`, exclusive.

    An expert with one replica is not counted by itself: its quota_end is 2^31 - 1, its
    source_prefix 0, its share 1, and its alloc -1 on its rank.

    With dynamic slots every expert is counted by itself, and has its quotas. Its replicas are those
    in main slots and the copies of the batch.

    With staleness this is the split that the batch was mapped by. It is of the tokens of the
    previous batch, so only `shares` apply to this one.

    Attributes
    ----------
    quota_end : int32, [E, X]
        Where each replica's numbers end.
    source_prefix : int32, [E]
        The number of this rank's first token of the expert.
    alloc : int32, [R, E]
        Tokens of an expert that a rank takes.
    shares : float32, [E, X]
        A replica's quota / the tokens of its expert.
    solved : int32, [1]
        1; or 0 for a degraded or unplanned batch, whose quotas divide this rank's own tokens
        evenly.
    replicas : int32, [E, X]
        The physical id of each replica, then -1.
    """

    quota_end: Any
    source_prefix: Any
    alloc: Any
    shares: Any
    solved: Any
    replicas: Any


def add_up(found: Sequence[dict[str, Any]]) -> PlannerStats:
    """One record for several layers or paths: sums of the counters, the largest of `last_*`."""
    total: dict[str, Any] = {}
    for one in found:
        for name, value in one.items():
            if name == "last_imbalance":
                total[name] = max(total.get(name, 1.0), value)
            elif name.startswith("last_"):
                total[name] = max(total.get(name, 0.0), float(value))
            else:
                total[name] = total.get(name, 0) + value
    return PlannerStats(**total)
