# SPDX-License-Identifier: MIT
"""The path of batches on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb
from lplb._counts import AllCounts
from lplb._dynamic import Copies, copies_of
from lplb._placement import Placement
from lplb._settings import Settings, most_replicas

if TYPE_CHECKING:
    from lplb._exchange import Exchange, HostRounds


class HostPath:
    """A planner's batches on the CPU: a HostPlanner for each layer, and how it gets the counts.

    Every planner has one, also if all of its batches run on a GPU: its HostPlanners check the
    arguments of the constructor.
    """

    def __init__(
        self,
        settings: Settings,
        placements: Sequence[Placement],
        counts: AllCounts,
        exchange: Exchange | None,
    ) -> None:
        self._settings = settings
        self._counts = counts
        # Copies of what each batch reads: a property of the settings would cost a call.
        self._max_entries = settings.max_tokens * settings.num_topk
        self._keeps_history = settings.keeps_history
        # With same_tokens each rank maps the tokens as rank 0 would.
        rank, member = (0, 0) if settings.same_tokens else (settings.rank, settings.member)
        self._planners = [
            _lplb.HostPlanner(
                p,
                rank,
                member,
                len(settings.members),
                *settings.limits,
                settings.dynamic.native if settings.dynamic.slots else None,
            )
            for p in placements
        ]
        self._rounds: list[HostRounds] = []
        if exchange is not None:
            from lplb._exchange import HostRounds

            self._rounds = [HostRounds(exchange, i) for i in range(settings.num_layers)]
        #: Nothing is exchanged: one rank, or the same tokens everywhere.
        self._is_alone = settings.same_tokens or settings.num_ranks == 1
        #: Columns of the tables of quotas().
        self.max_replicas = settings.max_replicas

    def check(self, num_entries: int) -> None:
        """Raises ValueError if a batch of `num_entries` on the CPU cannot be run."""
        if self._settings.backend == "cuda":
            raise ValueError('topk_idx: is on the CPU, expected a GPU (backend="cuda")')
        if num_entries > self._max_entries:
            raise ValueError(
                f"topk_idx: has {num_entries} entries, expected at most "
                f"{self._max_entries} (max_tokens x num_topk)"
            )

    def run(
        self,
        layer: int,
        topk_idx: int,
        id_bytes: int,
        num_entries: int,
        num_valid: int,
        physical_idx: int,
        all_counts: Any,
    ) -> None:
        """Plans a batch of entries at the address `topk_idx`; the result goes to `physical_idx`.

        The entries from `num_valid` on are padding.
        """
        exchange: HostRounds | Any = None
        if not self._is_alone:
            exchange = (
                self._rounds[layer] if self._rounds else self._counts.on_host(layer, all_counts)
            )
        try:
            self._planners[layer].run(
                topk_idx,
                id_bytes,
                num_entries,
                num_valid,
                physical_idx,
                self._keeps_history,
                exchange,
            )
        except RuntimeError as error:
            if self._rounds or self._is_alone:
                raise
            raise ValueError(f"all_counts: {error}") from None  # the caller gave them

    def copies(self, layer: int, placement: Placement) -> Copies:
        """The copies of the layer's latest batch. `placement` is the layer's."""
        return copies_of(placement, self._settings.dynamic, *self._planners[layer].copies())

    def quotas(self, layer: int) -> tuple[NDArray[Any], ...]:
        """The split of the layer's latest batch, as the fields of Quotas."""
        return self._planners[layer].quotas(self.max_replicas)

    def update_placement(self, layer: int, placement: Placement) -> None:
        self._planners[layer].update_placement(placement)

    def fit_tables(self, placements: Sequence[Placement]) -> None:
        """Gives the tables of quotas() as many columns as these placements need."""
        if not self._settings.keeps_split:
            self.max_replicas = most_replicas(placements, self._settings.dynamic)

    def stats(self, layer: int) -> dict[str, Any]:
        return self._planners[layer].stats()

    def load_history(self, layer: int | None) -> NDArray[np.float64]:
        """[num_logical_experts]; of all layers, if `layer` is None: [num_layers, ...]."""
        if layer is not None:
            return self._planners[layer].history()
        return np.stack([planner.history() for planner in self._planners])

    def clear_history(self) -> None:
        for planner in self._planners:
            planner.clear_history()
