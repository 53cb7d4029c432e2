# SPDX-License-Identifier: MIT
"""What planners tell of their batches, and the placements that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from lplb import _lplb
from lplb._arrays import check_int, describe
from lplb._placement import Placement


@dataclass(frozen=True)
class PlannerStats:
    """Counters since construction, over layers, and of the last batch that was solved.

    degraded: batches that could not be solved (a rank's counts cannot be, or sum past 2^31 - 1 on a
    GPU): each rank divided its own tokens evenly. out_of_range: ids that were bad input.
    last_imbalance: largest over mean rank load; of several layers the largest.
    """

    batches: int = 0
    solved: int = 0
    optimal: int = 0
    degraded: int = 0
    out_of_range: int = 0
    overflows: int = 0
    bad_counts: int = 0
    bad_valid: int = 0
    check_failures: int = 0
    last_max_load: float = 0.0
    last_lower_bound: float = 0.0
    last_imbalance: float = 1.0


class Quotas(NamedTuple):
    """A batch's split for runtimes that choose the replica of a token themselves.

    The tokens of an expert are numbered over the group, rank after rank; this rank's begin at
    `source_prefix`. Replica i (in the order of `logical_to_physical`) takes the numbers from
    `quota_end[e, i - 1]` (0 for the first) to `quota_end[e, i]`, exclusive.

    Of an expert with one replica only the sum over its rank is exchanged: its quota_end is 2^31 - 1,
    source_prefix 0, share 1, and alloc -1 on its rank.

    quota_end : [E, X] int32 · source_prefix : [E] int32 · alloc : [R, E] int32, tokens of an expert
    that a rank takes · shares : [E, X] float32, quota / tokens · solved : [1] int32, 0 for a degraded
    batch, whose quotas divide this rank's own tokens evenly.
    """

    quota_end: Any
    source_prefix: Any
    alloc: Any
    shares: Any
    solved: Any


def add_up(found: Sequence[dict[str, Any]]) -> PlannerStats:
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


def check_placement(placement: Any) -> Placement:
    if not isinstance(placement, _lplb.Placement):
        raise TypeError(f"placement: is {describe(placement)}, expected an lplb.Placement")
    return cast("Placement", placement)


def check_next(placement: Placement, first: Placement, max_redundants: int) -> None:
    """Raises ValueError where a planner made for `first` has no room for `placement`."""
    mine = (placement.num_logical_experts, placement.num_ranks)
    wanted = (first.num_logical_experts, first.num_ranks)
    if mine != wanted:
        raise ValueError(f"placement: is of {mine[0]} experts on {mine[1]} ranks, expected {wanted[0]} "
                         f"on {wanted[1]}")
    redundants = placement.num_physical_experts - placement.num_logical_experts
    if redundants > max_redundants:
        raise ValueError(f"placement: has {redundants} redundant slots, expected at most "
                         f"max_redundants ({max_redundants})")


def as_layers(placement: Any, num_layers: int | None) -> list[Placement]:
    if isinstance(placement, _lplb.Placement):
        count = 1 if num_layers is None else check_int(num_layers, "num_layers", 1)
        return [check_placement(placement)] * count
    if not isinstance(placement, Sequence) or not placement:
        raise TypeError(f"placement: is {describe(placement)}, expected an lplb.Placement, or a list "
                        "of one a layer")
    layers = [check_placement(p) for p in placement]
    if num_layers is not None and num_layers != len(layers):
        raise ValueError(f"num_layers: is {num_layers}, expected the number of placements "
                         f"({len(layers)})")
    for p in layers:
        if (p.num_ranks, p.num_logical_experts) != (layers[0].num_ranks,
                                                    layers[0].num_logical_experts):
            raise ValueError(f"placement: is of {p.num_logical_experts} experts on {p.num_ranks} "
                             f"ranks, expected those of the first layer "
                             f"({layers[0].num_logical_experts} on {layers[0].num_ranks})")
    return layers
