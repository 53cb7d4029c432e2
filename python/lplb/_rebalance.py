# SPDX-License-Identifier: MIT
"""Placements for a known load: EPLB, and along a topology."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lplb import _lplb
from lplb._arrays import check_bool, check_int, describe, like, to_numpy
from lplb._lplb import Topology
from lplb._placement import ranks_of

if TYPE_CHECKING:
    from torch import Tensor


@overload
def rebalance_experts(
    weight: Tensor,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    *,
    spread: bool = False,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def rebalance_experts(
    weight: Any,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    *,
    spread: bool = False,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Any, Any, Any]: ...
def rebalance_experts(
    weight: Any,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    *,
    spread: bool = False,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Any, Any, Any]:
    """EPLB: replicates the experts with most load, and packs the replicas onto ranks.

    It has the signature of deepseek-ai/EPLB, and unless a keyword says otherwise its results bit
    for bit, ties included. A layer takes a few microseconds.

    Parameters
    ----------
    weight : array of numbers, [num_layers, num_logical]
        The load of each expert, finite and >= 0. NumPy, PyTorch or CuPy; any real type.
    num_replicas : int
        All slots: a multiple of num_gpus, at least num_logical.
    num_groups, num_nodes : int
        If num_nodes divides num_groups, each group of experts stays on a node.
    num_gpus : int
        Ranks.
    spread : bool
        No two replicas of an expert on one rank. EPLB makes such pairs, in which a replica is of no
        use to an exact split. The result stays EPLB's if that has none. It needs at least as many
        experts as slots on a rank (experts of a node, if groups stay on nodes).
    rank_speed : array of float, [num_gpus], optional
        As in :class:`Placement`: replicas are packed by load / speed. If all are equal, they change
        nothing.
    rank_alive : array of bool, [num_gpus], optional
        As in :class:`Placement`: EPLB for the slots of the live ranks, which must be at least
        num_logical. Groups stay on nodes if every node that has live ranks has equally many, and
        the number of these nodes divides num_groups. Slot p of a dead rank holds expert
        p % num_logical, and counts as a replica in the maps.
    num_threads : int
        How many layers are computed in parallel. The result does not depend on it.

    Returns
    -------
    physical_to_logical : [num_layers, num_replicas]
    logical_to_physical : [num_layers, num_logical, max_replicas], padded with -1
    replica_count : [num_layers, num_logical]
        int64 arrays of the kind and on the device of `weight`.

    Examples
    --------
    >>> import lplb
    >>> phy2log, log2phy, logcnt = lplb.rebalance_experts([[90, 10, 20, 20]], 6, 1, 1, 2)
    >>> logcnt.tolist()
    [[3, 1, 1, 1]]
    """
    load = to_numpy(weight, "weight", np.float64, ("num_layers", "num_logical"))
    maps = _lplb.rebalance_experts(
        load,
        load.shape[0],
        load.shape[1],
        check_int(num_replicas, "num_replicas"),
        check_int(num_groups, "num_groups"),
        check_int(num_nodes, "num_nodes"),
        check_int(num_gpus, "num_gpus"),
        check_int(num_threads, "num_threads"),
        check_bool(spread, "spread"),
        *ranks_of(rank_speed, rank_alive),
    )
    first, second, third = (like(weight, m.astype(np.int64)) for m in maps)
    return first, second, third


@overload
def place_on_topology(
    weight: Tensor,
    topology: Topology | str,
    redundants: int,
    num_ranks: int,
    *,
    num_nodes: int = 1,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Tensor, Tensor, Tensor]: ...
@overload
def place_on_topology(
    weight: Any,
    topology: Topology | str,
    redundants: int,
    num_ranks: int,
    *,
    num_nodes: int = 1,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Any, Any, Any]: ...
def place_on_topology(
    weight: Any,
    topology: Topology | str,
    redundants: int,
    num_ranks: int,
    *,
    num_nodes: int = 1,
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
) -> tuple[Any, Any, Any]:
    """Replicates the heaviest experts of each rank along a topology's edges.

    Parameters
    ----------
    weight : array of numbers, [num_layers, num_logical]
        The load of each expert, as for :func:`rebalance_experts`. num_ranks divides num_logical.
    topology : Topology or str
        From :mod:`lplb.topology`, or a name for :func:`lplb.topology.parse`.
    redundants : int
        Replica slots a rank, 0 to num_logical / num_ranks.
    num_ranks : int
        A multiple of the topology's group size.

    Returns
    -------
    tuple
        The three maps of :func:`rebalance_experts`.

    Examples
    --------
    >>> import lplb
    >>> maps = lplb.place_on_topology([[1] * 8], "ring:4", redundants=1, num_ranks=4)
    >>> maps[0].shape
    (1, 12)
    """
    load = to_numpy(weight, "weight", np.float64, ("num_layers", "num_logical"))
    if isinstance(topology, str):
        topology = _lplb.topology_parse(topology)
    elif not isinstance(topology, Topology):
        raise TypeError(f"topology: is {describe(topology)}, expected a Topology or its name")
    maps = _lplb.place_on_topology(
        load,
        load.shape[0],
        load.shape[1],
        topology,
        check_int(redundants, "redundants"),
        check_int(num_ranks, "num_ranks"),
        check_int(num_nodes, "num_nodes"),
        check_int(num_threads, "num_threads"),
        *ranks_of(rank_speed, rank_alive),
    )
    first, second, third = (like(weight, m.astype(np.int64)) for m in maps)
    return first, second, third
