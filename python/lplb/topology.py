# SPDX-License-Identifier: MIT
"""Topologies: which rank copies whose experts, inside a group of ranks.

`r2o[rank][column]` ("redundant to original") is the rank whose experts get a replica on `rank`. A
column is a permutation of the group without fixed points.

Examples
--------
>>> from lplb import topology
>>> topology.ring(4).r2o.tolist()
[[1], [2], [3], [0]]
>>> topology.torus(2, 4).group_size
8
"""

from __future__ import annotations

import copyreg
from typing import Any

import numpy as np

from lplb import _lplb
from lplb._arrays import check_int, to_numpy
from lplb._lplb import Topology

__all__ = ["Topology", "cube", "custom", "hypercube", "parse", "ring", "torus"]


def cube() -> Topology:
    """8 ranks, two columns: faces and diagonals."""
    return _lplb.topology_cube()


def hypercube() -> Topology:
    """16 ranks, two columns, no diagonals."""
    return _lplb.topology_hypercube()


def torus(rows: int, columns: int) -> Topology:
    """`rows` x `columns` ranks, each at least 2, and two columns.

    A rank copies from the next row, which is often the next node, and from the next rank of its
    row.
    """
    return _lplb.topology_torus(check_int(rows, "rows"), check_int(columns, "columns"))


def ring(num_ranks: int) -> Topology:
    """One column: each rank copies from the next."""
    return _lplb.topology_ring(check_int(num_ranks, "num_ranks"))


def custom(r2o: Any, name: str = "r2o") -> Topology:
    """`r2o` [group_size, num_columns].

    ValueError if a column is not a permutation, or a rank would copy from itself.
    """
    table = to_numpy(r2o, "r2o", np.int32, ("group_size", "num_columns"))
    return _lplb.topology_custom(table, table.shape[0], table.shape[1], name)


def parse(name: str) -> Topology:
    """ "cube", "hypercube", "torus:MxN", "ring:N" or "r2o:FILE"."""
    return _lplb.topology_parse(name)


def _reduce(topology: Topology) -> tuple[Any, ...]:
    return custom, (topology.r2o, topology.name)


copyreg.pickle(Topology, _reduce)
