# SPDX-License-Identifier: MIT
"""What planners tell of their batches, and the placements that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lplb import _lplb
from lplb._arrays import check_int, describe
from lplb._placement import Placement

if TYPE_CHECKING:
    from lplb._exchange import Exchange


@dataclass(frozen=True)
class PlannerStats:
    """Counters since construction, over layers, and of the last batch that was solved.

    degraded: batches that could not be solved (a rank's counts cannot be, or sum past 2^31 - 1 on a
    GPU, or did not come: lost): each rank divided its own tokens evenly. unplanned: with staleness,
    batches divided so because there was none before to be split by. out_of_range: ids that were bad
    input.
    last_imbalance: largest over mean rank load; of several layers the largest.
    """

    batches: int = 0
    solved: int = 0
    optimal: int = 0
    degraded: int = 0
    unplanned: int = 0
    out_of_range: int = 0
    overflows: int = 0
    bad_counts: int = 0
    bad_valid: int = 0
    lost: int = 0
    check_failures: int = 0
    last_max_load: float = 0.0
    last_lower_bound: float = 0.0
    last_imbalance: float = 1.0


@dataclass(frozen=True)
class ExchangeStats:
    """How counts travel between the GPUs of a group, and what became of the rounds, over layers.

    way: "collective", or the transport of an exchange within the plan's kernel; "none" before the
    first batch on a GPU, and where nothing is exchanged. bytes: of this rank's device memory. reason:
    why "auto" took the collective; which rank lacks what.

    Rounds are counted within the kernel alone. timed_out: a rank did not come within `timeout`; behind:
    the others had given the round up before this rank came; mismatched: a rank has another placement;
    last_missing: a rank that an incomplete round lacked, -1: none.
    """

    way: str = "none"
    bytes: int = 0
    reason: str = ""
    rounds: int = 0
    complete: int = 0
    timed_out: int = 0
    behind: int = 0
    mismatched: int = 0
    last_missing: int = -1


class Quotas(NamedTuple):
    """A batch's split for runtimes that choose the replica of a token themselves.

    The tokens of an expert are numbered over the group, rank after rank; this rank's begin at
    `source_prefix`. Replica i (in the order of `logical_to_physical`) takes the numbers from
    `quota_end[e, i - 1]` (0 for the first) to `quota_end[e, i]`, exclusive.

    Of an expert with one replica only the sum over its rank is exchanged: its quota_end is 2^31 - 1,
    source_prefix 0, share 1, and alloc -1 on its rank.

    quota_end : [E, X] int32 · source_prefix : [E] int32 · alloc : [R, E] int32, tokens of an expert
    that a rank takes · shares : [E, X] float32, quota / tokens · solved : [1] int32, 0 for a degraded
    or unplanned batch, whose quotas divide this rank's own tokens evenly.

    With staleness it is the split that the batch was mapped by, of the tokens of the batch before: its
    shares are what counts.
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


def check_placements(placement: Any, num_layers: int) -> list[Placement]:
    many = placement if isinstance(placement, (list, tuple)) else [placement]
    found = [check_placement(p) for p in many]
    if len(found) != num_layers:
        raise ValueError(f"placement: has {len(found)} layers, expected {num_layers}")
    return found


def check_next(
    placement: Placement, first: Placement, max_redundants: int, max_replicas: int | None
) -> None:
    """Raises ValueError where a planner made for `first` has no room for `placement`."""
    mine = (placement.num_logical_experts, placement.num_ranks)
    wanted = (first.num_logical_experts, first.num_ranks)
    if mine != wanted:
        raise ValueError(
            f"placement: is of {mine[0]} experts on {mine[1]} ranks, expected {wanted[0]} "
            f"on {wanted[1]}"
        )
    redundants = placement.num_physical_experts - placement.num_logical_experts
    if redundants > max_redundants:
        raise ValueError(
            f"placement: has {redundants} redundant slots, expected at most "
            f"max_redundants ({max_redundants})"
        )
    if max_replicas is not None and placement.max_replicas > max_replicas:
        raise ValueError(
            f"placement: has {placement.max_replicas} replicas of an expert, expected at "
            f"most {max_replicas}"
        )


def check_batch(max_tokens: Any, num_topk: Any) -> int:
    """The entries of the largest batch."""
    entries = check_int(max_tokens, "max_tokens", 1) * check_int(num_topk, "num_topk", 1)
    if entries > 2**31 - 1:
        raise ValueError(
            f"max_tokens: is {max_tokens}, expected at most {(2**31 - 1) // num_topk} "
            f"of {num_topk} entries each"
        )
    return entries


def own_rank(rank: int | None, exchange: Exchange | None, num_ranks: int, same_tokens: bool) -> int:
    if exchange is not None:
        if exchange.size != num_ranks:
            raise ValueError(
                f"group: has {exchange.size} ranks, expected those of the placement ({num_ranks})"
            )
        if rank is not None and rank != exchange.rank:
            raise ValueError(f"rank: is {rank}, expected that in the group ({exchange.rank})")
        return exchange.rank
    if rank is None:
        if same_tokens or num_ranks == 1:
            return 0
        raise ValueError("rank: is None, expected a rank, a group, or same_tokens=True")
    return check_int(rank, "rank")


def as_layers(placement: Any, num_layers: int | None) -> list[Placement]:
    if isinstance(placement, _lplb.Placement):
        count = 1 if num_layers is None else check_int(num_layers, "num_layers", 1)
        return [check_placement(placement)] * count
    if not isinstance(placement, Sequence) or not placement:
        raise TypeError(
            f"placement: is {describe(placement)}, expected an lplb.Placement, or a list "
            "of one a layer"
        )
    layers = [check_placement(p) for p in placement]
    if num_layers is not None and num_layers != len(layers):
        raise ValueError(
            f"num_layers: is {num_layers}, expected the number of placements ({len(layers)})"
        )
    for p in layers:
        if (p.num_ranks, p.num_logical_experts) != (
            layers[0].num_ranks,
            layers[0].num_logical_experts,
        ):
            raise ValueError(
                f"placement: is of {p.num_logical_experts} experts on {p.num_ranks} "
                f"ranks, expected those of the first layer "
                f"({layers[0].num_logical_experts} on {layers[0].num_ranks})"
            )
    return layers
