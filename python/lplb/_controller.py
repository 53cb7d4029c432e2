# SPDX-License-Identifier: MIT
"""When a placement changes: the controllers of all layers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb
from lplb._arrays import check_int
from lplb._cost import CostModel, native
from lplb._placement import Placement


@dataclass(frozen=True)
class ControllerOptions:
    """How a controller decides whether a layer is rebalanced.

    A change is made if what it gains in a batch, times the batches that it will last, is more than
    its moves cost (docs/online.md). Loads are counted in tokens, or with a cost in its unit. For a
    :class:`Rebalancer` "a batch" is a sample: sample_every batches of one phase.

    Attributes
    ----------
    window : int
        How many batches of each phase a decision looks at.
    round_cost : float
        What a round of moves costs (:func:`schedule`): what the slowest rank could have computed
        meanwhile. 1750 tokens are bf16 experts over 400 GB/s on an H200, whatever their size, if
        nothing hides the moves.
    life : float
        For how many batches a placement is expected to be of use, as a first guess. The controller
        learns from how long its placements stay.
    min_gain : float
        A rebalance must lower the load of the slowest rank by this part of it.
    even_split : bool
        The batches are split evenly, and not exactly.
    min_tokens : int
        Batches with fewer entries in a layer are ignored.
    may_move_homes : bool
        Whether homes may move, or only replica slots get other experts.
    max_trials, max_moves : int
        As in :func:`place_homes`.
    interval : int
        Batches between two decisions.
    """

    window: int = 8
    round_cost: float = 1750.0
    life: float = 16.0
    min_gain: float = 0.01
    even_split: bool = False
    min_tokens: int = 1
    may_move_homes: bool = True
    max_trials: int = 2000
    max_moves: int | None = None
    interval: int = 1

    def native(self, cost: CostModel | None, num_phases: int = 1) -> _lplb.ControllerOptions:
        """The same for the library. Numbers out of range raise only when a controller is made."""
        return _lplb.ControllerOptions(
            check_int(self.window, "window"),
            check_int(self.interval, "interval"),
            float(self.round_cost),
            float(self.life),
            float(self.min_gain),
            bool(self.even_split),
            native(cost),
            num_phases,
            check_int(self.min_tokens, "min_tokens"),
            bool(self.may_move_homes),
            check_int(self.max_trials, "max_trials"),
            -1 if self.max_moves is None else check_int(self.max_moves, "max_moves"),
        )


class Controllers:
    """A controller for each layer; on one rank of a group. Not thread-safe."""

    def __init__(
        self, placements: Sequence[Placement], options: _lplb.ControllerOptions, num_threads: int
    ) -> None:
        self._layers = [_lplb.RebalanceController(p, options) for p in placements]
        self._pool = ThreadPoolExecutor(num_threads, "lplb search")
        self._next = 0  # the layer that the next search begins with

    def add(self, loads: NDArray[np.int64], phase: int) -> None:
        """Takes a batch: [num_layers, num_logical]."""
        for controller, load in zip(self._layers, loads, strict=True):
            controller.add(load, phase)

    def decide(self, seconds: float) -> dict[int, dict[str, Any]]:
        """Decides for each layer, as far as the time goes; the next call begins with the others.

        Returns the decisions, by layer. Those of kind "replicas" and "all" have a key "slots".
        """
        deadline = time.monotonic() + seconds
        count = len(self._layers)
        order = [(self._next + i) % count for i in range(count)]

        def decide(layer: int) -> tuple[int, dict[str, Any]] | None:
            if time.monotonic() > deadline:
                return None
            controller = self._layers[layer]
            made = controller.decide()
            if made["kind"] != "keep":
                made["slots"] = controller.proposal.physical_to_logical.tolist()
            return layer, made

        decided = dict(found for found in self._pool.map(decide, order) if found is not None)
        self._next = next((layer for layer in order if layer not in decided), 0)
        return decided

    def adopt(self, layers: Sequence[int]) -> None:
        """The last decisions of these layers are in force."""
        for layer in layers:
            self._layers[layer].adopt()

    def stats(self) -> dict[str, float]:
        """The stats of all layers: sums, but for means of `trust` and `life`."""
        all_stats = [controller.stats() for controller in self._layers]
        total = {name: float(sum(s[name] for s in all_stats)) for name in all_stats[0]}
        for name in ("trust", "life"):
            total[name] /= len(all_stats)
        return total

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
