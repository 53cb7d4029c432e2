# SPDX-License-Identifier: MIT
"""Exact splits of many batches of one placement in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplb import _lplb
from lplb._arrays import check_int, check_number, check_text, like, to_numpy
from lplb._names import BackendName, SolverName
from lplb._placement import Placement, check_placement


@dataclass(frozen=True)
class SplitBatch:
    """The splits of several batches, as arrays of the kind and on the device of `loads`.

    Attributes
    ----------
    physical_load : [num_batches, num_physical] int64
        Tokens that each replica takes.
    max_load, lower_bound : [num_batches] float64
        As in :class:`Split`.
    optimal : [num_batches] bool
        Whether max_load equals lower_bound.
    """

    physical_load: Any
    max_load: Any
    lower_bound: Any
    optimal: Any

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.max_load)


def solve_batch(
    placement: Placement,
    loads: Any,
    *,
    num_threads: int = 1,
    solver: SolverName = "auto",
    max_steps: int = -1,
    tolerance: float = 1e-6,
    max_iterations: int = 60,
    backend: BackendName = "cpu",
) -> SplitBatch:
    """Splits several batches of one placement: each as :func:`solve` does, to the bit.

    Parameters
    ----------
    placement : Placement
        Where the experts are.
    loads : array of int, [num_batches, num_logical_experts]
        Tokens of each expert in each batch, >= 0. An array on a GPU is copied, which waits.
    num_threads : int
        How many batches are solved in parallel. The result does not depend on it.
    solver, max_steps, tolerance, max_iterations, backend :
        As in :func:`solve`. With backend "cuda" there is one launch for up to 16384 batches.

    Returns
    -------
    SplitBatch

    Examples
    --------
    >>> import lplb
    >>> placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    >>> splits = lplb.solve_batch(placement, [[10, 2, 4], [0, 7, 1]])
    >>> splits.max_load.tolist(), splits.physical_load.tolist()
    ([8.0, 7.0], [[6, 2, 4, 4], [0, 7, 1, 0]])
    """
    check_placement(placement)
    shape = ("num_batches", placement.num_logical_experts)
    tokens = to_numpy(loads, "loads", np.int64, shape)
    found = _lplb.solve_batch(
        placement,
        tokens,
        check_int(num_threads, "num_threads", 1),
        check_text(solver, "solver"),
        check_int(max_steps, "max_steps"),
        check_number(tolerance, "tolerance"),
        check_int(max_iterations, "max_iterations"),
        check_text(backend, "backend"),
    )
    physical_load, max_load, lower_bound, optimal = found
    return SplitBatch(
        like(loads, physical_load),
        like(loads, max_load),
        like(loads, lower_bound),
        like(loads, optimal.astype(np.bool_)),
    )
