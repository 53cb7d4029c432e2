# SPDX-License-Identifier: MIT
"""A planner for tokens that some ranks share and others do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lplb._arrays import check_int
from lplb._cost import native
from lplb._dynamic import dynamic_slots_of
from lplb._placement import Placement
from lplb._planner import Planner
from lplb._settings import as_layers, check_placements


class SharedPlanner:
    """A :class:`Planner` for blocks of ranks, each of which has one batch on all of its ranks.

    That is tensor-parallel attention in each of several data-parallel groups, without sequence
    parallelism: the ranks of a block must map alike, or an entry would be computed twice or never.
    The placement covers all ranks; the counts travel between blocks, each rank's to the ranks that
    have its place in their blocks. PyTorch only.

    Parameters
    ----------
    placement : Placement or sequence of Placement
        As for :class:`Planner`. Its ranks are the blocks' ranks, block by block.
    group : torch.distributed.ProcessGroup
        One rank of each block, in the order of the blocks: those with this rank's place. (In an
        engine, the data-parallel group.)
    shared_by : int
        The ranks of a block: placement.num_ranks / the size of `group`.
    options
        Further arguments of :class:`Planner`, but not rank, same_tokens, transport, comm and
        staleness.

    Raises
    ------
    ValueError
        The placement's ranks are not `shared_by` for each member of the group, or the members'
        placements differ.
    """

    def __init__(
        self,
        placement: Placement | Sequence[Placement],
        *,
        group: Any,
        shared_by: int,
        num_layers: int | None = None,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        from lplb._exchange import Exchange, HostRounds

        placements = as_layers(placement, num_layers)
        for name in ("rank", "same_tokens", "transport", "comm", "staleness"):
            if name in options:
                raise TypeError(f"{name}: is not an argument of SharedPlanner")
        self._exchange = Exchange(group, timeout)
        self.group = group
        self.shared_by = check_int(shared_by, "shared_by", 1)
        expected = self._exchange.size * self.shared_by
        if placements[0].num_ranks != expected:
            raise ValueError(
                f"placement: has {placements[0].num_ranks} ranks, expected {expected}: shared_by "
                f"({self.shared_by}) for each of the group's {self._exchange.size} members"
            )
        self._solver = options.get("solver", "auto"), options.get("max_steps", -1)
        self._cost = native(options.get("cost"))
        self._dynamic = dynamic_slots_of(
            options.get("dynamic_slots", 0),
            options.get("copy_target", 1.0),
            options.get("copy_min_tokens", 1),
            options.get("copy_domains", 1),
        )
        self._agree(placements)
        # All ranks of a block plan as its first one would.
        first = self._exchange.rank * self.shared_by
        self.planner = Planner(placements, rank=first, timeout=timeout, **options)
        self._rounds = [HostRounds(self._exchange, i) for i in range(len(placements))]

    def _agree(self, placements: Sequence[Placement]) -> None:
        from lplb._exchange import facts_of

        facts = facts_of(placements, *self._solver, "auto", 0, self._cost, self._dynamic)
        self._exchange.agree(facts, placements)

    def run(
        self, topk_idx: Any, out: Any = None, num_valid_tokens: Any = None, *, layer: int = 0
    ) -> Any:
        """:meth:`Planner.run`. Every rank calls it once a batch, also with no tokens.

        On a CPU it raises RuntimeError if a rank does not come within `timeout` seconds.
        Costs two kernels more than Planner.run() with transport "collective".
        """
        import torch
        import torch.distributed as dist

        mine = self.planner.count(topk_idx, num_valid_tokens, layer=layer)
        if mine.is_cuda:
            blocks = mine.new_empty((self._exchange.size, len(mine)))
            dist.all_gather_into_tensor(blocks, mine, group=self.group)
        else:
            self._rounds[layer].post(mine.long().numpy())
            blocks = torch.from_numpy(self._rounds[layer].collect())
        # The counts of a block are those of its first rank.
        counts = torch.zeros(
            (self.planner.num_ranks, len(mine)), dtype=mine.dtype, device=mine.device
        )
        counts[:: self.shared_by] = blocks
        return self.planner.run(topk_idx, out, num_valid_tokens, layer=layer, all_counts=counts)

    def update_placement(
        self, placement: Placement | Sequence[Placement], *, layer: int | None = None
    ) -> None:
        """:meth:`Planner.update_placement`. Every rank calls it, between the same two batches."""
        num_layers = self.planner.num_layers if layer is None else 1
        self._agree(check_placements(placement, num_layers))
        self.planner.update_placement(placement, layer=layer)

    def placement(self, layer: int = 0) -> Placement:
        """The placement of the next batch."""
        return self.planner.placement(layer)

    def close(self) -> None:
        """Frees what the planner has on the GPU; no batch runs there afterwards."""
        self.planner.close()
