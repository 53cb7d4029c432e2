# SPDX-License-Identifier: MIT
"""The counts of all ranks that a batch is split by: which they are, and how they get to the CPU's planner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lplb._arrays import check_int, to_numpy

if TYPE_CHECKING:
    from lplb._planner import Planner


def check_staleness(staleness: Any, same_tokens: bool) -> int:
    late = check_int(staleness, "staleness")
    if late not in (0, 1):
        raise ValueError(f"staleness: is {late}, expected 0 or 1")
    if late and same_tokens:
        raise ValueError("staleness: is 1, expected 0 with same_tokens=True: nothing is exchanged")
    return late


class GivenCounts:
    """Counts that the caller has gathered, as _lplb.HostPlanner calls for them."""

    def __init__(self, rows: NDArray[np.int64] | None) -> None:
        self._rows = rows

    def post(self, mine: NDArray[np.int64]) -> None:
        """The caller sends them."""

    def collect(self) -> NDArray[np.int64] | None:
        return self._rows


def needs_counts(planner: Planner) -> bool:
    """Whether `all_counts` is where they come from."""
    return planner._exchange is None and not planner._same_tokens and planner.num_ranks > 1


def is_alone(planner: Planner) -> bool:
    """Whether all counts are this rank's own, of the batch before."""
    return bool(planner._staleness) and planner.num_ranks == 1 and planner._exchange is None


def counts_shape(planner: Planner, layer: int, all_counts: Any) -> tuple[int, int]:
    """Of `all_counts`. With staleness they are of the batch before, and of its placement.

    Raises ValueError where they are None and must not be.
    """
    if all_counts is None and not planner._staleness:
        raise ValueError(
            "all_counts: is None, expected counts of all ranks, or a planner with a group "
            "or same_tokens=True"
        )
    return planner.num_ranks, planner._last_sizes[layer] or planner._placements[layer].packed_size


def note_batch(planner: Planner, layer: int) -> None:
    """With staleness: the counts of this batch are those of the next one's `all_counts`."""
    if planner._staleness:
        planner._last_sizes[layer] = planner._placements[layer].packed_size


def address_on_device(planner: Planner, layer: int, address: int, shape: tuple[int, int]) -> int:
    """What the kernel is given of counts at `address` of that shape, 0: none; notes the batch.

    It reads as many as the placement now has: of another size there is nothing to plan by.
    """
    note_batch(planner, layer)
    return address if shape[1] == planner._placements[layer].packed_size else 0


def host_exchange(planner: Planner, layer: int, all_counts: Any) -> Any:
    """What HostPlanner.run() takes as `exchange`."""
    if planner._same_tokens or planner.num_ranks == 1:
        return None
    if planner._exchange is not None:
        return planner._host_rounds[layer]
    shape = counts_shape(planner, layer, all_counts)
    rows = None if all_counts is None else to_numpy(all_counts, "all_counts", np.int64, shape)
    note_batch(planner, layer)
    return GivenCounts(rows)
