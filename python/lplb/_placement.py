# SPDX-License-Identifier: MIT
"""Placements: where the experts of a layer live, and how to make and change them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb, _placement_files
from lplb._arrays import check_bool, check_int, describe, to_numpy


class Placement(_lplb.Placement):
    """Where the experts of one layer live. Immutable.

    Physical expert `p` is a slot on rank `p // slots_per_rank`; ranks fill nodes in order.

    Parameters
    ----------
    physical_to_logical : array of int, [num_physical]
        The logical expert in each slot, 0 to num_logical_experts - 1. Each is at least once on a
        live rank. Two replicas of an expert may share a rank.
    num_ranks : int
        1 to 1024; divides num_physical.
    num_logical_experts : int, optional
        By default the largest id plus one.
    num_nodes : int
        Divides num_ranks.
    rank_speed : array of float, [num_ranks], optional
        What a rank's load is divided by before ranks are compared. Finite and > 0; by default 1 for
        all. On a GPU all speeds must be equal.
    rank_alive : array of bool, [num_ranks], optional
        False: the rank may take no tokens.

    Attributes
    ----------
    physical_to_logical, logical_to_physical, replica_count : numpy.ndarray of int32
        [num_physical]; [num_logical_experts, max_replicas], ascending, padded with -1;
        [num_logical_experts].
    packed_size : int
        The number of integers that a rank sends to the others for a batch: see
        :meth:`Planner.count`.

    Raises
    ------
    TypeError, ValueError
        The message has the argument's name, its value and what was expected.

    Examples
    --------
    >>> import lplb
    >>> placement = lplb.Placement([0, 1, 2, 0, 2, 3, 1, 3], num_ranks=4)
    >>> placement.replica_count.tolist()
    [2, 2, 2, 2]
    >>> placement.logical_to_physical.tolist()
    [[0, 3], [1, 6], [2, 4], [5, 7]]
    """

    def __init__(
        self,
        physical_to_logical: Any,
        num_ranks: int,
        num_logical_experts: int | None = None,
        *,
        num_nodes: int = 1,
        rank_speed: Any = None,
        rank_alive: Any = None,
    ) -> None:
        experts = to_numpy(physical_to_logical, "physical_to_logical", np.int32, ("num_physical",))
        if num_logical_experts is None:
            num_logical_experts = int(experts.max()) + 1 if experts.size else 0
        super().__init__(
            experts,
            check_int(num_ranks, "num_ranks"),
            check_int(num_logical_experts, "num_logical_experts"),
            check_int(num_nodes, "num_nodes"),
            *ranks_of(rank_speed, rank_alive),
        )

    @property
    def physical_to_logical(self) -> NDArray[np.int32]:
        return _fixed(super().physical_to_logical)

    @property
    def logical_to_physical(self) -> NDArray[np.int32]:
        return _fixed(super().logical_to_physical)

    @property
    def replica_count(self) -> NDArray[np.int32]:
        return _fixed(super().replica_count)

    @property
    def rank_speed(self) -> NDArray[np.float64]:
        return _fixed(super().rank_speed)

    @property
    def rank_alive(self) -> NDArray[np.uint8]:
        return _fixed(super().rank_alive)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a placement file with this one layer, for the command and for load()."""
        Placement.save_layers(path, [self])

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Placement:
        """The placement of a file with one layer. ValueError if the file is bad or has more."""
        found = Placement.load_layers(path)
        if len(found) != 1:
            raise ValueError(f"{os.fspath(path)}: has {len(found)} layers; load_layers() reads all")
        return found[0]

    @staticmethod
    def save_layers(
        path: str | os.PathLike[str],
        placements: Sequence[Placement],
        layers: Sequence[int] | None = None,
    ) -> None:
        """Writes a placement file (docs/formats.md) with a row for each placement.

        All have the same ranks, experts, nodes, speeds and dead ranks. `layers` are the model's
        numbers of the layers, if they are not 0, 1, 2 and so on. An existing file is replaced as a
        whole.
        """
        for i, placement in enumerate(placements):
            check_placement(placement, f"placements[{i}]")
        _placement_files.write(path, placements, layers)

    @staticmethod
    def load_layers(path: str | os.PathLike[str]) -> list[Placement]:
        """The placements of a file, one for each of its layers. ValueError if the file is bad."""
        try:
            arguments, options = _placement_files.read(path)
            return layers_of(*arguments, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None

    def redundancy_mapping(self) -> NDArray[np.int32]:
        """The redundants as DeepEP 2.5's `EPBuffer.lb_prefetch_weights()` takes them.

        [num_ranks, redundants a rank] int32. A node takes the rows of its ranks. An entry names the
        original of a redundant: its rank within the node, times the originals of a rank, plus its
        slot there. ValueError if the originals of a rank do not come first, or a replica is on
        another node than its original.
        """
        return super().redundancy_mapping()

    def __repr__(self) -> str:
        return (
            f"Placement({self.num_logical_experts} experts in {self.num_physical_experts} slots "
            f"on {self.num_ranks} ranks)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self.physical_to_logical,
            self.num_ranks,
            self.num_logical_experts,
            self.num_nodes,
            self.rank_speed,
            self.rank_alive,
        )


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """`array`, which nobody can write to: a placement does not change."""
    array.flags.writeable = False
    return array


def ranks_of(rank_speed: Any, rank_alive: Any) -> tuple[Any, Any]:
    """Both as arrays, empty for None."""
    return (
        to_numpy(
            [] if rank_speed is None else rank_speed, "rank_speed", np.float64, ("num_ranks",)
        ),
        to_numpy([] if rank_alive is None else rank_alive, "rank_alive", np.uint8, ("num_ranks",)),
    )


def check_placement(placement: Any, name: str = "placement") -> Placement:
    """`placement`. Raises TypeError if it is no Placement."""
    if not isinstance(placement, _lplb.Placement):
        raise TypeError(f"{name}: is {describe(placement)}, expected an lplb.Placement")
    return cast("Placement", placement)


def tokens_of(placement: Placement, load: Any) -> np.ndarray[Any, Any]:
    """`load` [num_logical_experts] as int64. Raises if one of the two is no such argument."""
    num_logical = check_placement(placement).num_logical_experts
    return to_numpy(load, "load", np.int64, (num_logical,))


def _rebuild(
    physical_to_logical: Any,
    num_ranks: int,
    num_logical_experts: int,
    num_nodes: int,
    rank_speed: Any,
    rank_alive: Any,
) -> Placement:
    return Placement(
        physical_to_logical,
        num_ranks,
        num_logical_experts,
        num_nodes=num_nodes,
        rank_speed=rank_speed,
        rank_alive=rank_alive,
    )


def _made(placement: _lplb.Placement) -> Placement:
    """The library's placement as one of this package."""
    return _rebuild(
        placement.physical_to_logical,
        placement.num_ranks,
        placement.num_logical_experts,
        placement.num_nodes,
        placement.rank_speed,
        placement.rank_alive,
    )


def layers_of(
    physical_to_logical: Any, num_ranks: int, num_logical_experts: int | None = None, **options: Any
) -> list[Placement]:
    """A :class:`Placement` for each row of `physical_to_logical`.

    The rows are an array [num_layers, num_physical], or a list of lists, which may have different
    lengths. The other arguments are those of :class:`Placement`.
    """
    rows = physical_to_logical
    is_list = isinstance(rows, (list, tuple))
    if not is_list or len({len(row) if hasattr(row, "__len__") else 0 for row in rows}) < 2:
        shape = ("num_layers", "num_physical")
        rows = to_numpy(rows, "physical_to_logical", np.int32, shape)
    return [Placement(row, num_ranks, num_logical_experts, **options) for row in rows]


class Move(NamedTuple):
    """A copy of the weights of `logical`: from slot `source` of the old placement to slot `target`.

    `kind` says how far they travel: "same rank", "same node" or "other node". "lost": no live rank
    has them, so they must come from elsewhere, such as a checkpoint; `source` is -1 then.
    """

    logical: int
    source: int
    target: int
    kind: str


def moves(old: Placement, new: Placement, *, keep_slots: bool = False) -> Sequence[Move]:
    """The weights that must move to get from placement `old` to `new`.

    There is one move for each slot of `new` that held another expert in `old`, cheapest first. All
    moves read the old placement, as if they happened at once. With `keep_slots`, the moves are
    those to `keep_slots(old, new)`.

    The two may have other numbers of ranks and of slots on a rank: rank g of `old` is rank g of
    `new`, and slot i of a rank is slot i of that rank. Ranks that only `new` has hold nothing yet;
    ranks that only `old` has are leaving, and still give. Ranks that are dead in `new` receive
    nothing, and ranks that are dead in either give nothing.

    Raises
    ------
    ValueError
        The placements have different numbers of logical experts.

    Examples
    --------
    >>> import lplb
    >>> old = lplb.Placement([0, 1, 1, 2], num_ranks=2)
    >>> lplb.moves(old, lplb.Placement([0, 2, 1, 2], num_ranks=2))
    [Move(logical=2, source=3, target=1, kind='same node')]
    """
    check_placement(old, "old")
    check_placement(new, "new")
    if keep_slots:
        new = _stay(old, new)
    return [Move(*move) for move in _lplb.plan_moves(old, new)]


def keep_slots(old: Placement, new: Placement) -> Placement:
    """`new` with the slots of each rank reordered: an expert that stays on a rank keeps its slot.

    Examples
    --------
    >>> import lplb
    >>> old = lplb.Placement([0, 1, 2, 3], num_ranks=2)
    >>> lplb.keep_slots(old, lplb.Placement([1, 0, 3, 2], num_ranks=2)).physical_to_logical.tolist()
    [0, 1, 2, 3]
    """
    return _made(_lplb.keep_slots(check_placement(old, "old"), check_placement(new, "new")))


_stay = keep_slots


def keep_ranks(old: Placement, new: Placement, *, keep_nodes: bool = True) -> Placement:
    """`new` after its ranks have exchanged their experts so that few of them move.

    What a rank of `new` holds stays together, so every split of a batch is as good as before. No
    exchange needs fewer experts from other ranks. The slots of each rank are then ordered as by
    :func:`keep_slots`. For placements whose ranks have no meaning of their own, such as EPLB's.

    Parameters
    ----------
    old, new : Placement
        Only live ranks of equal speed exchange their experts. The two may have other numbers of
        ranks and of slots on a rank, as in :func:`moves`.
    keep_nodes : bool
        The experts of a node stay together on a node, as hierarchical placements need it; whole
        nodes may exchange their experts. False: any two ranks may.

    Raises
    ------
    ValueError
        The placements have different numbers of logical experts.

    Examples
    --------
    >>> import lplb
    >>> old = lplb.Placement([0, 1, 2, 3], num_ranks=2)
    >>> lplb.keep_ranks(old, lplb.Placement([2, 3, 1, 0], num_ranks=2)).physical_to_logical.tolist()
    [0, 1, 2, 3]
    """
    return _made(
        _lplb.keep_ranks(
            check_placement(old, "old"),
            check_placement(new, "new"),
            check_bool(keep_nodes, "keep_nodes"),
        )
    )
