# SPDX-License-Identifier: MIT
"""What a planner is made with: the arguments of its constructor, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lplb import _lplb
from lplb._arrays import check_bool, check_int, check_text, describe
from lplb._cost import CostModel, native
from lplb._dynamic import DynamicSlots
from lplb._placement import Placement, check_placement


@dataclass(frozen=True)
class Settings:
    """What stays as it is for the life of a planner. Its paths read it.

    Construction raises TypeError or ValueError if a value is wrong.
    """

    #: Of each placement that the planner takes.
    num_ranks: int
    num_logical_experts: int
    num_layers: int
    #: The largest of the first placements.
    max_replicas: int
    #: Replica slots that a placement may have.
    max_redundants: int
    num_topk: int
    max_tokens: int
    solver: str
    max_steps: int
    #: This rank in the placements.
    rank: int
    #: The ranks whose counts are exchanged, in the order of the group: all ranks, or the live ones.
    members: tuple[int, ...]
    #: Counts are exchanged over a group.
    has_group: bool
    same_tokens: bool
    transport: str
    staleness: int
    keeps_history: bool
    window: int
    decay: float
    backend: str
    #: run_quotas() works on a GPU.
    keeps_split: bool
    checks: bool
    #: What tokens cost; None: batches are split by tokens.
    cost: CostModel | None
    dynamic: DynamicSlots

    def __post_init__(self) -> None:
        check_bool(self.keeps_history, "keep_history")
        check_bool(self.keeps_split, "quotas")
        check_bool(self.checks, "checks")
        if check_text(self.backend, "backend") not in ("auto", "cpu", "cuda"):
            raise ValueError(f'backend: is {self.backend!r}, expected "auto", "cpu" or "cuda"')
        entries = check_int(self.max_tokens, "max_tokens", 1) * check_int(
            self.num_topk, "num_topk", 1
        )
        if entries > 2**31 - 1:
            raise ValueError(
                f"max_tokens: is {self.max_tokens}, expected at most "
                f"{(2**31 - 1) // self.num_topk} of {self.num_topk} entries each"
            )
        if self.dynamic.slots and self.checks:
            raise ValueError("checks: is True with dynamic_slots, expected False")

    @property
    def counts_each(self) -> bool:
        """A count for each expert is exchanged, not a sum over those with one replica."""
        return self.cost is not None or self.dynamic.slots != 0

    @property
    def max_counts(self) -> int:
        """No placement that the planner can take has a larger packed_size."""
        if self.counts_each:
            return self.num_logical_experts
        return min(self.num_logical_experts, self.max_redundants) + self.num_ranks

    def packed_size(self, placement: Placement) -> int:
        """The number of integers that a rank sends."""
        return self.num_logical_experts if self.counts_each else placement.packed_size

    def num_physical(self, placement: Placement) -> int:
        """The number of physical ids."""
        return placement.num_physical_experts + placement.num_ranks * self.dynamic.slots

    def pack(self, placement: Placement, counts: Any) -> Any:
        """A rank's counts of all experts, [num_logical], as they are sent."""
        return placement.pack(counts, self.counts_each)

    @property
    def member(self) -> int:
        """This rank in the group."""
        return self.members.index(self.rank)

    @property
    def needs_counts(self) -> bool:
        """The caller gives the counts of all ranks, as `all_counts`."""
        return not self.has_group and not self.same_tokens and self.num_ranks > 1

    @property
    def is_stale_alone(self) -> bool:
        """One rank with staleness: the counts of the previous batch are this rank's own."""
        return self.staleness != 0 and self.num_ranks == 1 and not self.has_group

    @property
    def limits(self) -> tuple[int, int, str, int, int, int, int, float, _lplb.CostModel | None]:
        """What HostPlanner and GpuPlanner both take, in their order."""
        return (
            self.max_tokens,
            self.num_topk,
            self.solver,
            self.max_steps,
            self.max_redundants,
            self.staleness,
            self.window,
            self.decay,
            native(self.cost),
        )


def check_staleness(staleness: Any, same_tokens: bool) -> int:
    found = check_int(staleness, "staleness")
    if found not in (0, 1):
        raise ValueError(f"staleness: is {found}, expected 0 or 1")
    if found and same_tokens:
        raise ValueError("staleness: is 1, expected 0 with same_tokens=True: nothing is exchanged")
    return found


# Parameters of deepseek-ai/LPLB's Planner that lplb.Planner does not have.
_ORIGINALS = {"redundant_to_original", "n_routed_experts"}


def is_original_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether Planner(*args, **kwargs) was written for deepseek-ai/LPLB.

    Raises TypeError if it was not, and further arguments have no names.
    """
    first = args[0] if args else None
    if isinstance(first, (list, tuple)) and first:
        first = first[0]
    if len(args) > 1 and isinstance(first, _lplb.Placement):
        raise TypeError(
            f"Planner: takes one argument without a name, the placement, not {len(args)}; the "
            "others are named: group=, rank=, num_layers= and so on"
        )
    return len(args) > 1 or bool(_ORIGINALS & kwargs.keys())


def as_layers(placement: Any, num_layers: int | None) -> list[Placement]:
    """A placement for each layer, from what the constructor was given."""
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


def check_placements(placement: Any, num_layers: int) -> list[Placement]:
    """A placement for each of `num_layers` layers, from what update_placement() was given."""
    many = placement if isinstance(placement, (list, tuple)) else [placement]
    found = [check_placement(p) for p in many]
    if len(found) != num_layers:
        raise ValueError(f"placement: has {len(found)} layers, expected {num_layers}")
    return found


def redundants_of(placement: Placement) -> int:
    """Slots beyond one per logical expert, over all ranks."""
    return placement.num_physical_experts - placement.num_logical_experts


def room_for_redundants(max_redundants: Any, placements: Sequence[Placement]) -> int:
    """Redundant slots that a placement may have. 0: as many as these placements have."""
    given = check_int(max_redundants, "max_redundants", 0)
    return given or max(redundants_of(p) for p in placements)


def live_ranks(placement: Placement) -> tuple[int, ...]:
    """The ranks that may take tokens, ascending."""
    alive = placement.rank_alive
    return tuple(rank for rank in range(placement.num_ranks) if not alive.size or alive[rank])


def members_of(placements: Sequence[Placement], group_size: int) -> tuple[int, ...]:
    """The rank in the placements of each member of a group.

    A group has a member for each rank, or for each live rank. Raises ValueError otherwise.
    """
    num_ranks = placements[0].num_ranks
    if group_size == num_ranks:
        return tuple(range(num_ranks))
    members = live_ranks(placements[0])
    if group_size != len(members):
        live = "" if len(members) == num_ranks else f" or its live ones ({len(members)})"
        raise ValueError(
            f"group: has {group_size} ranks, expected those of the placement ({num_ranks}){live}"
        )
    for placement in placements:
        _check_members(placement, members)
    return members


def _check_members(placement: Placement, members: tuple[int, ...]) -> None:
    """Raises ValueError unless the members of a group are the live ranks of `placement`."""
    live = live_ranks(placement)
    if len(live) != len(members):
        raise ValueError(
            f"placement: has {len(live)} live ranks, expected as many as the group has members "
            f"({len(members)})"
        )
    if live != members:
        raise ValueError(
            f"placement: its live ranks are {list(live)}, expected {list(members)}: they are the "
            "members of the group"
        )


def most_replicas(placements: Sequence[Placement], dynamic: DynamicSlots) -> int:
    """How many replicas an expert has at most: with dynamic slots a copy on each further rank."""
    copies = placements[0].num_ranks - 1 if dynamic.slots else 0
    return max(p.max_replicas for p in placements) + copies


def check_next(placement: Placement, settings: Settings) -> None:
    """Raises ValueError if a planner of these settings has no room for `placement`."""
    mine = (placement.num_logical_experts, placement.num_ranks)
    wanted = (settings.num_logical_experts, settings.num_ranks)
    if mine != wanted:
        raise ValueError(
            f"placement: is of {mine[0]} experts on {mine[1]} ranks, expected {wanted[0]} "
            f"on {wanted[1]}"
        )
    if len(settings.members) != settings.num_ranks:
        _check_members(placement, settings.members)
    redundants = redundants_of(placement)
    if redundants > settings.max_redundants:
        raise ValueError(
            f"placement: has {redundants} redundant slots, expected at most "
            f"max_redundants ({settings.max_redundants})"
        )
    replicas = most_replicas([placement], settings.dynamic)
    if settings.keeps_split and replicas > settings.max_replicas:
        raise ValueError(
            f"placement: has up to {replicas} replicas of an expert, expected at "
            f"most {settings.max_replicas}"
        )
