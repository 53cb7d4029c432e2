# SPDX-License-Identifier: MIT
"""Copies of experts for one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lplb import _lplb
from lplb._arrays import check_int, check_number, describe, like
from lplb._placement import Placement, tokens_of


@dataclass(frozen=True)
class CopyCost:
    """What a copy costs and what it wins, if :func:`replicate` is to compare the two.

    Attributes
    ----------
    us_per_token : float
        Microseconds that a token takes on a rank of speed 1.
    expert_bytes : float
        Bytes of an expert's weights.
    gigabytes_per_s : float
        What a rank sends and receives, each way, in units of 1e9 bytes.
    hidden_us : float
        Microseconds for which copies travel behind other work, for nothing.
    """

    us_per_token: float
    expert_bytes: float
    gigabytes_per_s: float
    hidden_us: float = 0.0


@dataclass(frozen=True)
class Replication:
    """Copies of experts for one batch, and the split over main and dynamic slots.

    M is the placement's slots of a rank, S the dynamic slots of a rank.

    Attributes
    ----------
    status : str
        "optimal": max_load equals lower_bound. "bounded": a gap is left, or the target allowed one.
    max_load, lower_bound : float
        The largest load / speed of a rank, and what no choice of copies and no split can be below.
    copies, max_sent, max_received : int
        Dynamic slots in use; the most copies that one rank sends, and receives.
    slot_expert : [num_ranks, S] int32
        The expert in each dynamic slot; -1: unused.
    slot_source : [num_ranks, S] int32
        The rank that sends it; -1: unused.
    bottleneck_ranks : [n] int32
        The ranks that prove lower_bound.
    rank_load : [num_ranks] int64
        Tokens that a rank takes.
    physical_load : [num_ranks * (M + S)] int64
        Tokens that a slot takes: rank by rank, first its main slots, then its dynamic slots.
    saved_us, exposed_us : float
        With a cost: time that the copies save, and time of sending them that nothing hides.
    """

    status: str
    max_load: float
    lower_bound: float
    copies: int
    max_sent: int
    max_received: int
    slot_expert: Any
    slot_source: Any
    bottleneck_ranks: Any
    rank_load: Any
    physical_load: Any
    saved_us: float
    exposed_us: float
    _num_domains: int = field(repr=False)
    _placement: Placement = field(repr=False)
    _load: Any = field(repr=False)
    _options: _lplb.ReplicateOptions = field(repr=False)
    _replication: _lplb.Replication = field(repr=False)

    @property
    def imbalance(self) -> float:
        """As :func:`imbalance` of the placement; 1.0 is perfect."""
        return _lplb.imbalance(self._replication.rank_load, self._placement)

    def redundancy_mapping(self) -> Any:
        """The copies as DeepEP 2.5 takes them, [num_ranks, S] int32; -1: unused.

        Source rank * M + main slot there, with ranks numbered within a domain.
        """
        mapping = _lplb.replication_mapping(self._placement, self._replication, self._num_domains)
        return like(self.slot_expert, mapping.reshape(tuple(self.slot_expert.shape)))

    def experts_to_copy(self, columns: int) -> Any:
        """The copies as Megatron-LM's pull request 7450 takes them: [num_ranks, columns] int32.

        slot_expert, and -1 in further columns. Megatron has num_logical_experts / num_ranks.
        """
        num_ranks = self._placement.num_ranks
        padded = _lplb.experts_to_copy(self._replication, num_ranks, columns)
        return like(self.slot_expert, padded.reshape(num_ranks, -1))

    def verify(self) -> None:
        """Checks copies, split and proof from first principles. RuntimeError if one is wrong."""
        problem = _lplb.verify_replication(
            self._placement, self._load, self._options, self._replication
        )
        if problem:
            raise RuntimeError(f"replication: {problem}")


def replicate(
    placement: Placement,
    load: Any,
    *,
    dynamic_slots: int = 1,
    target: float = 1.0,
    min_tokens: int = 1,
    num_domains: int = 1,
    cost: CopyCost | None = None,
) -> Replication:
    """Chooses for one batch which experts are copied to which ranks, and splits its tokens.

    Parameters
    ----------
    placement : Placement
        Homes alone, or with static replicas.
    load : array of int, [num_logical_experts]
        Tokens of each expert in the whole group, >= 0. An array on a GPU is copied, which waits.
    dynamic_slots : int
        S, how many copies a rank has room for: 1 to 8.
    target : float
        Copies are made until no rank has more than this multiple of the mean load: 1 to 1000.
    min_tokens : int
        What a copy carries at least.
    num_domains : int
        Copies stay among num_ranks / num_domains consecutive ranks.
    cost : CopyCost, optional
        Copies are made only as far as they save more time than they cost.

    Returns
    -------
    Replication
        Its arrays are of the kind of `load`, and on its device.

    Examples
    --------
    >>> import lplb
    >>> homes = lplb.Placement([0, 1, 2, 3, 4, 5], num_ranks=3)
    >>> plan = lplb.replicate(homes, [60, 30, 20, 10, 0, 0])
    >>> plan.max_load, plan.status, plan.slot_expert.tolist()
    (40.0, 'optimal', [[-1], [1], [0]])
    >>> plan.physical_load.reshape(3, 3).tolist()
    [[20, 20, 0], [20, 10, 10], [0, 0, 40]]
    """
    tokens = tokens_of(placement, load)
    if cost is not None and not isinstance(cost, CopyCost):
        raise TypeError(f"cost: is {describe(cost)}, expected a CopyCost")
    slots = check_int(dynamic_slots, "dynamic_slots")
    options = _lplb.ReplicateOptions(
        slots,
        check_number(target, "target"),
        check_int(min_tokens, "min_tokens"),
        check_int(num_domains, "num_domains"),
        cost.us_per_token if cost else 0.0,
        cost.expert_bytes if cost else 0.0,
        cost.gigabytes_per_s if cost else 0.0,
        cost.hidden_us if cost else 0.0,
    )
    plan = _lplb.replicate(placement, tokens, options)
    return Replication(
        plan.status,
        plan.max_load,
        plan.lower_bound,
        plan.copies,
        plan.max_sent,
        plan.max_received,
        like(load, plan.slot_expert.reshape(-1, slots)),
        like(load, plan.slot_source.reshape(-1, slots)),
        like(load, plan.bottleneck_ranks),
        like(load, plan.rank_load),
        like(load, plan.physical_load),
        plan.saved_us,
        plan.exposed_us,
        check_int(num_domains, "num_domains"),
        placement,
        tokens,
        options,
        plan,
    )
