# SPDX-License-Identifier: MIT
"""The stages of the fast loop as functions on arrays of any kind: count, solve, map."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lplb import _lplb
from lplb._arrays import check_int, check_number, check_text, kind_of, like, to_numpy
from lplb._cost import CostModel, native
from lplb._names import AnySolverName, BackendName
from lplb._placement import Placement, check_placement, tokens_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """A split of one batch, and the proof of its quality.

    Attributes
    ----------
    status : str
        "optimal": max_load equals lower_bound. "bounded": a limit of steps or a tolerance left a
        gap. With a cost: the same of max_cost and cost_lower_bound.
    max_load, lower_bound : int or float
        The largest load / speed of a rank, and a figure that no integer split can be below. If all
        speeds are 1, both are exact integers.
    bottleneck_ranks : [n] int32
        The ranks that prove lower_bound.
    rank_load : [num_ranks] int64
        Tokens that a rank takes.
    physical_load : [num_physical] int64
        Tokens that a replica takes.
    solver, backend : str
        What ran, and where.
    steps : int
        How many steps of its own the solver took.
    max_cost, cost_lower_bound : float or None
        With a cost: the largest cost of a rank, and a figure that no split can be below, in the
        model's unit. None without a cost, as are the fields below.
    cost_bottleneck_ranks : [n] int32
        The ranks that prove cost_lower_bound.
    rank_cost : [num_ranks] float64
        What each rank costs, the model's constant `rank` included.
    active_experts : [num_ranks] int32
        How many experts have tokens on each rank.
    """

    status: str
    solver: str
    backend: str
    max_load: int | float
    lower_bound: int | float
    steps: int
    bottleneck_ranks: Any
    rank_load: Any
    physical_load: Any
    _placement: Placement = field(repr=False)
    _load: Any = field(repr=False)
    _split: _lplb.Split = field(repr=False)
    _cost: CostModel | None = field(repr=False, default=None)
    max_cost: float | None = None
    cost_lower_bound: float | None = None
    cost_bottleneck_ranks: Any = None
    rank_cost: Any = None
    active_experts: Any = None
    _how: dict[str, Any] = field(repr=False, default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """A split is pickled as its input, and solved again: solvers are deterministic."""
        return _solved_again, (self._placement, self._load, self._how, self._cost, self.backend)

    @property
    def imbalance(self) -> float:
        """As :func:`imbalance` of the placement; 1.0 is perfect."""
        return _lplb.imbalance(self._split.rank_load, self._placement)

    def verify(self) -> None:
        """Checks the split and its proof from first principles. RuntimeError if one is wrong."""
        model = None if self._cost is None else self._cost._model
        problem = _lplb.verify_split(self._placement, self._load, self._split, model)
        if problem:
            raise RuntimeError(f"split: {problem}")


def solve(
    placement: Placement,
    load: Any,
    *,
    solver: AnySolverName = "auto",
    max_steps: int = -1,
    tolerance: float = 1e-6,
    max_iterations: int = 60,
    backend: BackendName = "cpu",
    cost: CostModel | None = None,
) -> Split:
    """Splits each expert's tokens over its replicas so that the fullest rank has least.

    With `cost` the largest cost of a rank, such as its time, is made small instead. It is never
    above that of the split by tokens, of the even split or of no replicas.

    Parameters
    ----------
    placement : Placement
        Where the experts are.
    load : array of int, [num_logical_experts]
        Tokens of each expert in the whole group, >= 0. An array on a GPU is copied, which waits.
        :func:`solve_batch` takes several rows.
    solver : str
        "auto", "cut" (up to 8 ranks), "flow" or "ipm"; with a cost "auto", which is "time", or
        "fast-time" (docs/time.md).
    max_steps : int
        The most steps of "flow"; -1: no limit.
    tolerance : float
        "ipm" stops at this gap between max_load and lower_bound, as a part of max_load.
    max_iterations : int
        The most iterations of "ipm".
    backend : str
        Where it is solved: "cpu" or "cuda". The results are equal. With a cost the device solves
        by "fast-time" alone.
    cost : CostModel or None
        What tokens cost on a rank. None: the split is by tokens.

    Returns
    -------
    Split
        Its arrays are of the kind of `load`, and on its device.

    Examples
    --------
    >>> import lplb
    >>> placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    >>> split = lplb.solve(placement, [10, 2, 4])
    >>> split.max_load, split.status, split.physical_load.tolist()
    (8, 'optimal', [6, 2, 4, 4])
    """
    tokens = tokens_of(placement, load)
    split = _lplb.solve(
        placement,
        tokens,
        check_text(solver, "solver"),
        check_int(max_steps, "max_steps"),
        check_number(tolerance, "tolerance"),
        check_int(max_iterations, "max_iterations"),
        check_text(backend, "backend"),
        native(cost),
    )
    is_whole = bool((placement.rank_speed == 1).all())
    costs = {}
    if cost is not None:
        costs = {
            "_cost": cost,
            "max_cost": split.max_cost,
            "cost_lower_bound": split.cost_lower_bound,
            "cost_bottleneck_ranks": like(load, split.cost_bottleneck_ranks),
            "rank_cost": like(load, split.rank_cost),
            "active_experts": like(load, split.active_experts),
        }
    return Split(
        split.status,
        split.solver,
        split.backend,
        split.max_tokens if is_whole else split.max_load,
        split.bound_tokens if is_whole else split.lower_bound,
        split.steps,
        like(load, split.bottleneck_ranks),
        like(load, split.rank_load),
        like(load, split.physical_load),
        placement,
        tokens,
        split,
        **costs,
        _how={
            "solver": solver,
            "max_steps": max_steps,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        },
    )


def _solved_again(
    placement: Placement, load: Any, how: dict[str, Any], cost: CostModel | None, backend: str
) -> Split:
    return replace(solve(placement, load, cost=cost, **how), backend=backend)


@overload
def split_evenly(placement: Placement, load: Tensor) -> Tensor: ...
@overload
def split_evenly(placement: Placement, load: Any) -> Any: ...
def split_evenly(placement: Placement, load: Any) -> Any:
    """Each expert's tokens divided evenly over its live replicas: [num_physical] int64.

    EPLB and its users divide like this. It is there to compare with.

    Examples
    --------
    >>> import lplb
    >>> lplb.split_evenly(lplb.Placement([0, 1, 2, 0], num_ranks=2), [10, 2, 4]).tolist()
    [5, 2, 4, 5]
    """
    return like(load, _lplb.split_evenly(placement, tokens_of(placement, load)))


def _ids(value: Any, name: str = "topk_idx") -> np.ndarray[Any, Any]:
    """`value` as int32 or int64; uint32 becomes the int32 of the same bits."""
    array = (
        to_numpy(value, name, np.uint32)
        if str(getattr(value, "dtype", "")).endswith("uint32")
        else None
    )
    if array is not None:
        return array.view(np.int32)
    wide = str(getattr(value, "dtype", "int64")).endswith("int64")
    return to_numpy(value, name, np.int64 if wide else np.int32)


@overload
def count(
    topk_idx: Tensor, num_logical_experts: int, *, backend: BackendName = "cpu"
) -> Tensor: ...
@overload
def count(topk_idx: Any, num_logical_experts: int, *, backend: BackendName = "cpu") -> Any: ...
def count(topk_idx: Any, num_logical_experts: int, *, backend: BackendName = "cpu") -> Any:
    """The tokens of each logical expert: [num_logical_experts] int64.

    `topk_idx` holds logical ids in any shape, int32, int64 or uint32; -1 and ids out of range are
    not counted. :meth:`Planner.count` counts on a GPU without waiting for it.

    Examples
    --------
    >>> import lplb
    >>> lplb.count([[0, 2], [2, -1]], 3).tolist()
    [1, 0, 2]
    """
    load, _ = _lplb.count_tokens(
        _ids(topk_idx).reshape(-1),
        check_int(num_logical_experts, "num_logical_experts", 1),
        check_text(backend, "backend"),
    )
    return like(topk_idx, load)


@overload
def map_tokens(
    placement: Placement,
    counts: Any,
    physical_load: Any,
    rank: int,
    topk_idx: Tensor,
    *,
    backend: BackendName = "cpu",
) -> Tensor: ...
@overload
def map_tokens(
    placement: Placement,
    counts: Any,
    physical_load: Any,
    rank: int,
    topk_idx: Any,
    *,
    backend: BackendName = "cpu",
) -> Any: ...
def map_tokens(
    placement: Placement,
    counts: Any,
    physical_load: Any,
    rank: int,
    topk_idx: Any,
    *,
    backend: BackendName = "cpu",
) -> Any:
    """The physical expert of each of a rank's tokens: over the group every quota is met exactly.

    As many tokens as possible stay on their rank, then on their node. Equal input gives equal
    output.

    Parameters
    ----------
    placement : Placement
        Where the experts are.
    counts : array of int, [num_ranks, num_logical_experts], or None
        What each rank counted. None if that is not known: then each rank divides its own tokens in
        proportion to `physical_load`, and a replica is off by less than a token a rank.
    physical_load : array of int, [num_physical]
        The split of the sum of `counts`, from :func:`solve`.
    rank : int
        The rank whose tokens `topk_idx` are.
    topk_idx : array of int32, int64 or uint32
        Logical ids in any shape; -1 stays -1, ids out of range become -1.

    Returns
    -------
    array
        Physical ids, as `topk_idx` in kind, shape, dtype and device.

    Examples
    --------
    >>> import lplb
    >>> placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    >>> counts = [[3, 0, 0], [1, 1, 0]]
    >>> split = lplb.solve(placement, [4, 1, 0])
    >>> lplb.map_tokens(placement, counts, split.physical_load, 0, [0, -1, 0, 0]).tolist()
    [0, -1, 0, 3]
    """
    check_placement(placement)
    ids = _ids(topk_idx)
    quotas = to_numpy(physical_load, "physical_load", np.int64, (placement.num_physical_experts,))
    rank = check_int(rank, "rank")
    check_text(backend, "backend")
    if counts is None:
        mapped = _lplb.map_tokens_in_proportion(placement, quotas, rank, ids.reshape(-1), backend)
    else:
        table = to_numpy(
            counts, "counts", np.int64, (placement.num_ranks, placement.num_logical_experts)
        )
        mapped = _lplb.map_tokens(placement, table, quotas, rank, ids.reshape(-1), backend)
    mapped = mapped.reshape(ids.shape)
    if kind_of(topk_idx) != "torch" and str(getattr(topk_idx, "dtype", "")) == "uint32":
        return like(topk_idx, mapped.view(np.uint32))
    result = like(topk_idx, mapped)
    return result.view(topk_idx.dtype) if kind_of(topk_idx) == "torch" else result


def imbalance(rank_load: Any, placement: Placement | None = None) -> float:
    """Largest over mean rank load. 1.0 is perfect, and the result if there is no load.

    Parameters
    ----------
    rank_load : array of int, [num_ranks]
        Tokens of each rank, >= 0.
    placement : Placement, optional
        Whose ranks they are. Then only live ranks count, and a rank's load is divided by its speed:
        the largest load / speed over the mean of these. Without it all ranks are alive and equally
        fast.

    Examples
    --------
    >>> import lplb
    >>> lplb.imbalance([3, 1])
    1.5
    >>> lplb.imbalance([4, 1], lplb.Placement([0, 1], num_ranks=2, rank_speed=[1, 0.25]))
    1.0
    """
    tokens = to_numpy(rank_load, "rank_load", np.int64, ("num_ranks",))
    if tokens.size and tokens.min() < 0:
        raise ValueError(f"rank_load: has {tokens.min()}, expected >= 0")
    return _lplb.imbalance(tokens, None if placement is None else check_placement(placement))
