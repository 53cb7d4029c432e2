# SPDX-License-Identifier: MIT
"""Cost models from measured times of an expert layer."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lplb._arrays import check_int
from lplb._cost import CostModel

Run = Callable[[list[int]], object]
Timer = Callable[[Run, list[list[int]]], Sequence[float]]

STEPS = 4  # of `tile` tokens each; then each step has two tiles
HELD_OUT = 5  # every fifth random vector is left out of the fit
RANDOM = 200  # vectors that are drawn
SPREADS = (0.3, 0.7, 1.0, 1.4)  # of their lognormal tokens
EMPTY = 0.15  # the share of their experts that have no tokens
PASSES = 4000


@dataclass(frozen=True)
class CostPoint:
    """The tokens of each expert on one rank, and the microseconds that they took."""

    tokens: list[int]
    us: float


@dataclass(frozen=True)
class Calibration:
    """A fitted cost model, and how well it says the times that were measured.

    Errors are relative, of the time of a whole rank.
    """

    model: CostModel
    error: float  #: mean error on the vectors that the fit has not seen
    error_p90: float  #: 90 % of these vectors have at most this error
    error_seen: float  #: mean error on the vectors that it was fitted to
    error_of_tokens: float  #: mean error of the best constant and price for each token, everywhere
    num_seen: int
    num_unseen: int
    points: list[CostPoint] = field(repr=False)

    def save_points(self, path: str | os.PathLike[str], layer: str = "") -> None:
        """Writes what was measured, as `python -m lplb.calibration --points` reads it."""
        points = [{"tokens": p.tokens, "us": p.us} for p in self.points]
        with open(path, "w") as file:
            json.dump({"layer": layer, "unit": self.model.unit, "points": points}, file)
            file.write("\n")


def _features(tokens: Sequence[int], tile: int) -> list[int]:
    """What multiplies the constant, the rise at each step, and that of each step of the tail."""
    counts = [n for n in tokens if n > 0]
    above = [sum(n > i * tile for n in counts) for i in range(1, STEPS)]
    tail = sum(-(-(n - STEPS * tile) // (2 * tile)) for n in counts if n > STEPS * tile)
    return [1, len(counts), *above, tail]


def _least_squares(rows: NDArray[Any], times: NDArray[Any]) -> NDArray[Any]:
    """Unknowns >= 0 with the least sum of squared relative errors, by coordinate descent."""
    scaled = rows / times[:, None]
    gram, right = scaled.T @ scaled, scaled.sum(0)
    unknowns = np.zeros(len(right))
    for _ in range(PASSES):
        for i in range(len(right)):
            if gram[i, i] > 0:
                rest = right[i] - gram[i] @ unknowns + gram[i, i] * unknowns[i]
                unknowns[i] = max(0.0, rest / gram[i, i])
    return unknowns


def _time_by(model: CostModel, tokens: Sequence[int]) -> float:
    parts = [model.expert_cost(n) for n in tokens if n > 0]
    return sum(parts) + model.rank_cost() if parts else 0.0


def _errors(model: CostModel, points: Sequence[CostPoint]) -> list[float]:
    return sorted(abs(_time_by(model, p.tokens) / p.us - 1) for p in points)


def _is_equal(point: CostPoint) -> bool:
    return len({n for n in point.tokens if n > 0}) == 1


def _split_points(
    points: Sequence[CostPoint], held_out: int
) -> tuple[list[CostPoint], list[CostPoint]]:
    """(seen, unseen): every `held_out`-th point whose experts have different tokens is unseen."""
    drawn = [i for i, p in enumerate(points) if not _is_equal(p)]
    unseen = set(drawn[::held_out])
    return (
        [p for i, p in enumerate(points) if i not in unseen],
        [points[i] for i in sorted(unseen)],
    )


def _error_of_tokens(points: Sequence[CostPoint]) -> float:
    rows = np.array([[1, sum(p.tokens)] for p in points], float)
    times = np.array([p.us for p in points])
    return float(np.abs(rows @ _least_squares(rows, times) / times - 1).mean())


def fit_cost(
    points: Sequence[CostPoint],
    *,
    tile: int = 128,
    held_out: int = HELD_OUT,
    unit: str = "us",
    decimals: int = 3,
) -> Calibration:
    """Fits a cost model to measured times.

    The time of a rank is fitted as a constant plus a sum over its experts of a table that never
    descends: steps of `tile` tokens up to 4 tiles, then of two tiles. The fit makes the sum of
    squared relative errors least.

    Parameters
    ----------
    points : sequence of CostPoint
        Vectors of tokens and their times, > 0. Points without tokens are ignored.
    tile : int
        The rows of the kernels' tiles, >= 1.
    held_out : int
        Every held_out-th point whose experts have different tokens is left out of the fit, >= 2.
    unit : str
        The unit of the times.
    decimals : int
        To how many decimals numbers are rounded, 0 to 3: the model holds thousandths, as integers.

    Raises
    ------
    ValueError
        If a time is not > 0, or there are too few points to fit and to check.
    """
    check_int(tile, "tile", 1)
    check_int(held_out, "held_out", 2)
    if not 0 <= check_int(decimals, "decimals") <= 3:
        raise ValueError(f"decimals: is {decimals}, expected 0 to 3")
    used = [p for p in points if any(n > 0 for n in p.tokens)]
    for i, point in enumerate(used):
        if not (point.us > 0 and math.isfinite(point.us)):
            raise ValueError(f"points[{i}]: took {point.us}, expected a time > 0")
    seen, unseen = _split_points(used, held_out)
    if len(seen) < STEPS + 2 or not unseen:
        raise ValueError(
            f"points: {len(seen)} to fit and {len(unseen)} to check, expected at least "
            f"{STEPS + 2} and 1"
        )
    rows = np.array([_features(p.tokens, tile) for p in seen], float)
    rank, *rises, tail = _least_squares(rows, np.array([p.us for p in seen])).tolist()
    cost = [max(0.001, round(sum(rises[: i + 1]), decimals)) for i in range(STEPS)]
    model = CostModel(
        [tile * (i + 1) for i in range(STEPS)],
        cost,
        then_every=2 * tile,
        then_cost=round(tail, decimals),
        rank=round(rank, decimals),
        unit=unit,
    )
    found = _errors(model, unseen)
    return Calibration(
        model=model,
        error=statistics.fmean(found),
        error_p90=found[int(0.9 * len(found))],
        error_seen=statistics.fmean(_errors(model, seen)),
        error_of_tokens=_error_of_tokens(used),
        num_seen=len(seen),
        num_unseen=len(unseen),
        points=list(used),
    )


def _vectors_to_time(tokens: int, experts: int, tile: int, seed: int = 0) -> list[list[int]]:
    """The vectors of tokens that calibrate() times: a grid of equal tokens, then random ones."""
    edges = [1, tile // 2, *(k * tile + d for k in (1, 2, 3, 4, 6, 8) for d in (0, 1))]
    edges += [2**i * tile for i in range(4, 64) if 2**i * tile <= tokens]
    grid = sorted({n for n in [*edges, tokens] if 1 <= n <= tokens})
    sizes = sorted({1, 2, 4, (experts + 1) // 2, experts} & set(range(1, experts + 1)))
    vectors = [[n] * k + [0] * (experts - k) for k in sizes for n in grid]
    drawn = random.Random(seed)
    for i in range(RANDOM):
        spread = SPREADS[i % len(SPREADS)]
        mean = math.exp(drawn.uniform(math.log(min(4, tokens)), math.log(max(4, tokens / 3))))
        counts = [
            0
            if drawn.random() < EMPTY
            else min(tokens, round(mean * math.exp(drawn.gauss(-(spread**2) / 2, spread))))
            for _ in range(experts)
        ]
        if any(counts):
            vectors.append(counts)
    return vectors


def time_with_events(run: Run, vectors: list[list[int]], repeats: int = 12) -> list[float]:
    """Microseconds of run(vector) on the current CUDA stream: the median of `repeats` calls.

    A kernel that waits is launched first, so that launches from Python are not in the times, unless
    `run` waits for the device itself.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("calibrate: there is no GPU, expected one or a timer")
    cycles_per_second = 2e9  # a GPU's clock is lower, so it waits longer
    times = []
    for vector in vectors:
        run(vector)
        begin = time.perf_counter()
        run(vector)
        launches = (repeats + 2) * (time.perf_counter() - begin)
        marks: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]  # type: ignore[no-untyped-call]
        torch.cuda._sleep(int(cycles_per_second * launches))  # type: ignore[no-untyped-call]
        marks[0].record()
        for mark in marks[1:]:
            run(vector)
            mark.record()
        torch.cuda.synchronize()
        laps = [a.elapsed_time(b) for a, b in zip(marks, marks[1:], strict=False)]
        times.append(1000 * statistics.median(laps))
    return times


def calibrate(
    run: Run,
    *,
    tokens: int,
    experts: int,
    tile: int = 128,
    timer: Timer = time_with_events,
    seed: int = 0,
    decimals: int = 3,
) -> Calibration:
    """Measures an expert layer and fits a cost model to it.

    Parameters
    ----------
    run : callable
        run(counts) runs the layer of one rank on the current CUDA stream: counts[i] tokens for its
        i-th expert, of `experts` in all. What else it does (allocation, a wait for the device) is
        measured too.
    tokens : int
        The most tokens of an expert to measure, >= 1. Beyond it the model goes on by its last step.
    experts : int
        How many experts the layer has on a rank, >= 1.
    tile : int
        The rows of the kernels' tiles: the model has steps of this many tokens, then of twice as
        many.
    timer : callable
        timer(run, vectors) gives the microseconds of run(vector) for each vector. By default CUDA
        events around 12 calls of each, median.
    seed : int
        The seed of the random vectors.
    decimals : int
        To how many decimals the model's numbers are rounded, 0 to 3.

    Returns
    -------
    Calibration
        The model, its errors, and what was measured. About 250 vectors are timed, which takes some
        seconds; every fifth random one is not in the fit, and `error` is the error on these.

    Examples
    --------
    >>> import lplb
    >>> def active(run, vectors):  # a layer that takes 30 us, and 2 us for each active expert
    ...     return [30 + 2 * sum(n > 0 for n in v) for v in vectors]
    >>> measured = lplb.calibrate(print, tokens=4096, experts=8, timer=active)
    >>> measured.model.rank_cost(), measured.model.expert_cost(512), measured.error < 0.001
    (30.0, 2.0, True)
    >>> measured.model.save("cost.json")  # doctest: +SKIP
    """
    vectors = _vectors_to_time(
        check_int(tokens, "tokens", 1),
        check_int(experts, "experts", 1),
        check_int(tile, "tile", 1),
        seed,
    )
    times = [float(t) for t in timer(run, vectors)]
    if len(times) != len(vectors):
        raise ValueError(f"timer: gave {len(times)} times for {len(vectors)} vectors")
    points = [CostPoint(v, t) for v, t in zip(vectors, times, strict=True)]
    return fit_cost(points, tile=tile, decimals=decimals)
