# SPDX-License-Identifier: MIT
"""Placements made for the exact split, and the rounds in which weights move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb
from lplb._arrays import check_bool, check_int, check_list, check_number, check_text, like, to_numpy
from lplb._names import BackendName
from lplb._placement import Move, Placement, check_placement, ranks_of

_MAX_TRIALS = 2000
_NO_LIMIT = 2**63 - 1


class HomesPlacement(NamedTuple):
    """What :func:`place_homes` returns.

    An imbalance here is the largest load / speed of a rank under the exact split, divided by that
    of a perfect split. 1.0 is perfect.
    """

    physical_to_logical: Any
    """[num_layers, num_replicas], int64, of the kind and on the device of `loads`."""
    logical_to_physical: Any
    """[num_layers, num_logical, max_replicas], padded with -1."""
    replica_count: Any
    """[num_layers, num_logical]."""
    judged: NDArray[np.float64]
    """[num_layers]: what the search made small: the mean imbalance over the weighted batches and
    the invented ones."""
    judged_before: NDArray[np.float64]
    """[num_layers]: the same of the start of the search."""
    imbalance: NDArray[np.float64]
    """[num_layers]: the mean imbalance over the batches alone."""
    moves: NDArray[np.int32]
    """[num_layers]: slots with an expert that is new on their rank."""
    trials: NDArray[np.int64]
    """[num_layers]: trials of all searches of the layer."""


def place_homes(
    loads: Any,
    num_replicas: int,
    num_ranks: int,
    *,
    old: Sequence[Placement] = (),
    max_trials: int | None = None,
    max_moves: int | None = None,
    max_bytes: int | None = None,
    expert_bytes: int = 0,
    max_seconds: float | None = None,
    min_gain: float = 0.0003,
    move_homes: bool = False,
    restart: bool = False,
    batches_only: bool = False,
    dynamic_slots: int = 0,
    num_domains: int = 1,
    pinned: Sequence[tuple[int, int]] = (),
    rank_speed: Any = None,
    rank_alive: Any = None,
    num_threads: int = 1,
    backend: BackendName = "cpu",
) -> HomesPlacement:
    """Homes, which stay, and replica slots, which a search chooses for the exact split.

    The search judges each change by the exact split of every batch, not of their sum. Without
    `max_seconds` the result does not depend on the number of threads. About 20 us a trial.
    docs/placement.md has more.

    Parameters
    ----------
    loads : array of numbers, [num_batches, num_layers, num_logical]
        The load of each expert in the batches of a window, the last batch last; finite and >= 0.
        NumPy, PyTorch or CuPy; any real type. A batch counts the more, the more it resembles the
        last one.
    num_replicas : int
        All slots: a multiple of num_ranks, at least num_logical.
    old : sequence of Placement, [num_layers], optional
        The placements in use. Homes stay, and the search begins with their slots. Without them
        homes are contiguous.
    max_trials : int, optional
        How many changes of each layer are judged. More trials never give a worse `judged`. By
        default 2000, or with `max_seconds` as many as there is time for.
    max_moves : int, optional
        With `old`: at most that many slots of a layer get an expert that is new on their rank.
    max_bytes : int, optional
        With `old` and `expert_bytes`: the experts of all layers together that are new on their
        rank have at most that many bytes. They go to the layers where they lower the sum of
        `judged` most. Each layer is searched several times, with limits of 1, 2, 3, 4, 6, 8, 12
        moves and so on.
    expert_bytes : int
        The bytes of an expert's weights in one layer.
    max_seconds : float, optional
        The search of all layers ends after that time. Its result cannot be repeated, because it
        depends on the speed of the machine; `max_trials` is a budget that can.
    min_gain : float
        With `old`: an expert moves only if that lowers the mean imbalance by so much.
    move_homes : bool
        Homes may move, too: the first placement packs them by load, and the search may exchange
        two of them, if each of the two gains 3 min_gain.
    restart : bool
        Begin the search with replicas by load, in place of those of `old`, and with `move_homes`
        also with packed homes.
    batches_only : bool
        Judge by the batches alone, and not also by 8 invented ones whose experts have drifted.
    dynamic_slots : int
        Slots of each rank that batches will have in addition, for copies (:func:`replicate`).
        With some, a placement is judged by the largest load / speed that copies leave, which counts
        three quarters, and by the exact split without copies. `imbalance` is then that of
        :func:`replicate`.
    num_domains : int
        With `dynamic_slots`: domains of consecutive ranks, which copies do not leave.
    pinned : sequence of (expert, rank)
        Experts that must be on a rank.
    rank_speed, rank_alive : arrays, [num_ranks], optional
        As in :class:`Placement`. Slot p of a dead rank holds expert p % num_logical.
    num_threads : int
        How many layers are placed in parallel.
    backend : str
        "cpu", "cuda", or "auto": on the GPU if there is one that takes the call. The current CUDA
        device searches all layers at once, with the same result. It takes neither `dynamic_slots`,
        `max_bytes` nor unequal speeds; at most 128 live ranks with 2048 slots, and a window whose
        batches fit the memory of a block (docs/placement.md).

    Raises
    ------
    TypeError, ValueError
        The message has the argument's name, its value and what was expected. Of `backend` if the
        device does not take the call.
    RuntimeError
        With `backend` "cuda", if there is no GPU.

    Examples
    --------
    >>> import lplb
    >>> placed = lplb.place_homes([[[60, 10, 20, 10]], [[50, 20, 20, 10]]], 6, 2)
    >>> placed.physical_to_logical.tolist()
    [[0, 1, 2, 2, 3, 0]]
    >>> placed.imbalance.round(3).tolist()
    [1.0]
    """
    load = to_numpy(loads, "loads", np.float64, ("num_batches", "num_layers", "num_logical"))
    pins = to_numpy(pinned, "pinned", np.int32)
    if pins.size == 0:
        pins = pins.reshape(0, 2)
    pins = to_numpy(pins, "pinned", np.int32, ("pins", 2))
    if max_trials is not None:
        trials = check_int(max_trials, "max_trials")
    else:
        trials = _MAX_TRIALS if max_seconds is None else _NO_LIMIT
    arguments = (
        load,
        load.shape[0],
        load.shape[1],
        load.shape[2],
        check_int(num_replicas, "num_replicas"),
        check_int(num_ranks, "num_ranks"),
        [check_placement(placement, "old") for placement in check_list(old, "old")],
        trials,
        -1 if max_moves is None else check_int(max_moves, "max_moves"),
        -1 if max_bytes is None else check_int(max_bytes, "max_bytes"),
        check_int(expert_bytes, "expert_bytes"),
        math.inf if max_seconds is None else check_number(max_seconds, "max_seconds"),
        check_number(min_gain, "min_gain"),
        check_bool(move_homes, "move_homes"),
        check_bool(restart, "restart"),
        check_bool(batches_only, "batches_only"),
        check_int(dynamic_slots, "dynamic_slots"),
        check_int(num_domains, "num_domains"),
        pins,
        check_int(num_threads, "num_threads"),
        *ranks_of(rank_speed, rank_alive),
    )
    maps, *figures = _placed(arguments, check_text(backend, "backend"))
    return HomesPlacement(*(like(loads, m.astype(np.int64)) for m in maps), *figures)


def _placed(arguments: tuple[Any, ...], backend: str) -> Any:
    if backend != "auto":
        return _lplb.place_homes(*(*arguments, backend))
    if not _lplb.cuda_info()["missing"]:
        try:
            return _lplb.place_homes(*(*arguments, "cuda"))
        except ValueError as error:
            if not str(error).startswith("backend: "):
                raise
    return _lplb.place_homes(*(*arguments, "cpu"))


class MoveRound(NamedTuple):
    """Moves that happen at once: no rank sends two of them, and none receives two."""

    kind: str
    """"same node" or "other node", of all its moves."""
    moves: list[Move]


class MoveSchedule(NamedTuple):
    """What :func:`schedule` returns."""

    same_rank: list[Move]
    """Moves that need no other rank."""
    rounds: list[MoveRound]
    """First those within nodes, then those between nodes."""
    lost: list[Move]
    """Moves without a source."""


def schedule(moves: Sequence[Move], old: Placement, new: Placement) -> MoveSchedule:
    """The fewest rounds for `moves`, which are those from `old` to `new` (:func:`moves`).

    In a round each rank sends at most one expert and receives at most one. There are as many rounds
    within nodes as such moves that one rank sends, or that one rank receives, whichever is most;
    the same holds between nodes. If the experts have n bytes, a round moves len(round.moves) * n.
    All moves read the old placement: what a round overwrites must have been copied before, if a
    later round sends it.

    Raises
    ------
    TypeError, ValueError
        A move's slot is not in its placement, or its kind is none.

    Examples
    --------
    >>> import lplb
    >>> old = lplb.Placement([0, 1, 2, 3], num_ranks=2)
    >>> new = lplb.Placement([2, 3, 0, 1], num_ranks=2)
    >>> plan = lplb.schedule(lplb.moves(old, new), old, new)
    >>> [len(round.moves) for round in plan.rounds]
    [2, 2]
    """
    listed = [Move(*move) for move in moves]
    same_rank, rounds, lost = _lplb.schedule(
        listed, check_placement(old, "old"), check_placement(new, "new")
    )
    return MoveSchedule(
        [listed[i] for i in same_rank],
        [MoveRound(kind, [listed[i] for i in numbers]) for kind, numbers in rounds],
        [listed[i] for i in lost],
    )
