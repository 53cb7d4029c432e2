# SPDX-License-Identifier: MIT
"""The other ranks of a planner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lplb._arrays import check_int, check_number, check_text
from lplb._comm import check_transport, read_comm
from lplb._cost import CostModel, native
from lplb._dynamic import DynamicSlots
from lplb._placement import Placement
from lplb._settings import check_staleness, members_of

if TYPE_CHECKING:
    from lplb._exchange import Exchange


class Group:
    """How a planner reaches the other ranks, and what all of them must agree on.

    Attributes
    ----------
    comm : Comm
        The group and the communicator that the caller gave.
    exchange : Exchange or None
        Its calls are collective. None: nothing is exchanged over a group.
    staleness : int
        0 or 1.
    """

    def __init__(
        self,
        group: Any,
        comm: Any,
        timeout: float,
        same_tokens: bool,
        solver: str,
        max_steps: int,
        transport: str,
        staleness: int,
        cost: CostModel | None,
        dynamic: DynamicSlots,
    ) -> None:
        if not check_number(timeout, "timeout") > 0:
            raise ValueError(f"timeout: is {timeout}, expected more than 0 seconds")
        self.staleness = check_staleness(staleness, same_tokens)
        self._facts = (
            check_text(solver, "solver"),
            max_steps,
            check_transport(transport),
            self.staleness,
            native(cost),
            dynamic,
        )
        self.comm = read_comm(comm, group)
        self.exchange: Exchange | None = None
        if self.comm.group is not None and not same_tokens:
            from lplb._exchange import Exchange

            self.exchange = Exchange(self.comm.group, timeout)
        elif transport not in ("auto", "collective") and not same_tokens:
            raise ValueError(f'transport: is "{transport}", expected a group of ranks to connect')

    def agree(self, placements: Sequence[Placement]) -> None:
        """Raises ValueError on all ranks if their placements or settings differ. Collective."""
        if self.exchange is not None:
            from lplb._exchange import facts_of

            self.exchange.agree(facts_of(placements, *self._facts), placements)

    def members(self, placements: Sequence[Placement]) -> tuple[int, ...]:
        """The ranks of the placements whose counts are exchanged: see Settings."""
        num_ranks = placements[0].num_ranks
        return members_of(placements, num_ranks if self.exchange is None else self.exchange.size)

    def own_rank(self, rank: int | None, members: tuple[int, ...], same_tokens: bool) -> int:
        """This rank in the placements. `rank` is what the caller gave."""
        if self.exchange is not None:
            return self.exchange.own_rank(rank, members)
        num_ranks = len(members)
        if rank is None:
            if same_tokens or num_ranks == 1:
                return 0
            raise ValueError("rank: is None, expected a rank, a group, or same_tokens=True")
        own = check_int(rank, "rank")
        if not 0 <= own < num_ranks:
            raise ValueError(f"rank: is {own}, expected 0 to {num_ranks - 1}")
        return own
