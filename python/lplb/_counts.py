# SPDX-License-Identifier: MIT
"""Counts of all ranks that the caller has gathered: the argument `all_counts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lplb._arrays import to_numpy
from lplb._settings import Settings


class GivenCounts:
    """The counts of one batch, in the form in which _lplb.HostPlanner asks for them."""

    def __init__(self, rows: NDArray[np.int64] | None) -> None:
        self._rows = rows

    def post(self, mine: NDArray[np.int64]) -> None:
        """Does nothing: the caller sends them."""

    def collect(self) -> NDArray[np.int64] | None:
        return self._rows


class AllCounts:
    """Checks the argument `all_counts` of each batch of a planner without a group.

    With staleness it holds the counts of the layer's previous batch, which had that batch's
    placement. Both paths share this object, since either may run the previous batch.
    """

    def __init__(self, settings: Settings, packed_sizes: Sequence[int]) -> None:
        """`packed_sizes`: those of the layers' placements; the planner changes its elements."""
        self._num_ranks = settings.num_ranks
        self._rank = settings.rank
        self._is_stale = settings.staleness != 0
        self._packed_sizes = packed_sizes
        #: packed_size of each layer's previous batch, with staleness; 0: there was none.
        self._last_sizes = [0] * settings.num_layers

    def shape(self, layer: int, all_counts: Any) -> tuple[int, int]:
        """The shape that `all_counts` must have: [num_ranks, packed_size].

        Raises ValueError if it is None and must not be.
        """
        if all_counts is None and not self._is_stale:
            raise ValueError(
                "all_counts: is None, expected counts of all ranks, or a planner with a group "
                "or same_tokens=True"
            )
        return self._num_ranks, self._last_sizes[layer] or self._packed_sizes[layer]

    def on_host(self, layer: int, all_counts: Any) -> GivenCounts:
        """`all_counts`, checked, for a batch on the CPU. Notes that the batch runs."""
        shape = self.shape(layer, all_counts)
        rows = None if all_counts is None else to_numpy(all_counts, "all_counts", np.int64, shape)
        if rows is not None and rows.min() < 0:
            for rank, column in np.argwhere(rows < 0).tolist():
                if rank != self._rank:  # the planner uses its own count
                    raise ValueError(
                        f"all_counts: has {rows[rank, column]} at [{rank}, {column}], expected >= 0"
                    )
        self._note_batch(layer)
        return GivenCounts(rows)

    def on_device(self, layer: int, address: int, num_counts: int) -> int:
        """What the kernel is given of rows of `num_counts` at `address`; 0: no counts.

        Notes that the batch runs. The kernel reads as many counts as the current placement has,
        so counts of another size must not be shown to it.
        """
        self._note_batch(layer)
        return address if num_counts == self._packed_sizes[layer] else 0

    def _note_batch(self, layer: int) -> None:
        if self._is_stale:
            self._last_sizes[layer] = self._packed_sizes[layer]
