# SPDX-License-Identifier: MIT
"""The slow loop of a running engine."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lplb._arrays import check_int
from lplb._controller import ControllerOptions, Controllers
from lplb._mover import WeightMover
from lplb._placement import Placement
from lplb._planner import Planner

log = logging.getLogger("lplb.rebalancer")


class Rebalancer:
    """Rebalances while an engine runs: decides when it pays, searches, moves the weights.

    Every `sample_every` batches the ranks' loads go to the first rank of the group, in the
    background. It decides for each layer whether to keep the placement, to give replica slots to
    other experts, or to change all slots, and searches in a thread. The mover carries the weights,
    and the planner gets the new placement of a layer before the same batch on all ranks.
    docs/online.md has an example.

    Parameters
    ----------
    planner : Planner
        With a group and keep_history=True, without window and decay.
    mover : WeightMover
        With the weights of the planner's layers in the same placements. It belongs to the
        rebalancer: nobody else calls it.
    options : ControllerOptions
        When a rebalance pays. The planner's cost, if it has one, is the unit of the loads.
    sample_every : int
        How many batches of a phase are a sample: "a batch" of the options.
    num_phases : int
        Kinds of batches that are not mixed: 2 for prefill and decode.
    search_seconds : float
        How long a search may take. Layers that it does not reach come first in the next one.
    num_threads : int
        Threads of the search.
    timeout : float
        Seconds that the background thread of a rank waits for the other ranks, in addition to the
        search.

    Notes
    -----
    Construction and step() are collective. A failure never stops the batches: they go on with the
    placements of now, status() says why, and the logger "lplb.rebalancer" has an error. It logs
    each rebalance at level INFO.
    """

    def __init__(
        self,
        planner: Planner,
        mover: WeightMover,
        options: ControllerOptions | None = None,
        *,
        sample_every: int = 8,
        num_phases: int = 1,
        search_seconds: float = 10.0,
        num_threads: int = 1,
        timeout: float = 30.0,
    ) -> None:
        from lplb import _collect

        if not planner.keeps_whole_history:
            raise ValueError(
                "planner: keeps no sum of all batches, expected keep_history=True without window "
                "and decay"
            )
        self._placements = [planner.placement(i) for i in range(planner.num_layers)]
        if self._placements != mover.placements:
            raise ValueError("mover: its placements are not those of the planner")
        for name, value in (("search_seconds", search_seconds), ("timeout", timeout)):
            if not value > 0:
                raise ValueError(f"{name}: is {value}, expected more than 0 seconds")
        self._planner = planner
        self._mover = mover
        self._options = options or ControllerOptions()
        self._sample_every = check_int(sample_every, "sample_every", 1)
        self._num_phases = check_int(num_phases, "num_phases", 1)
        self._search_seconds = search_seconds
        self._link = _collect.Link(planner.group, timeout)
        self._controllers: Controllers | None = None
        native = self._options.native(planner.cost, self._num_phases)
        made = Controllers(self._placements, native, check_int(num_threads, "num_threads", 1))
        if self._link.is_first:
            self._controllers = made
        else:
            made.close()  # it has checked the options
        self._snapshot = _collect.Snapshot(planner)
        self._run_phase = 0  # the phase of the batches since the last snapshot, and their number
        self._run = 0
        self._counts = [0] * self._num_phases  # batches of each phase in the sample to come
        self._batches = 0
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sums: list[Any] = [0] * self._num_phases
        self._samples = 0
        self._failure = ""
        self._phase = "collecting"
        self._closed = False
        self._last: dict[str, Any] = {"kind": "keep", "reason": "there was no decision yet"}
        self._stats: dict[str, float] = {}
        self._decided_at = self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="lplb rebalancer", daemon=True)
        self._thread.start()

    def step(self, phase: int = 0) -> list[int]:
        """Call it on every rank before each batch, with the batch's phase.

        Returns the layers whose placement is another from this batch on: their weights are in place
        and the planner has the placement. Call it outside of a CUDA graph's capture. It waits for
        no search and no weights.

        Raises ValueError if the phase is not 0 to num_phases - 1.
        """
        if not 0 <= check_int(phase, "phase") < self._num_phases:
            raise ValueError(f"phase: is {phase}, expected 0 to {self._num_phases - 1}")
        layers = self._mover.step()
        if layers:
            for layer in layers:
                self._placements[layer] = self._mover.placement(layer)
            self._planner.update_placement(self._placements)
        self._sample(phase)
        if layers:
            self._messages.put(("adopt", layers))
        if self._mover.status()["phase"] == "failed" and not self._failure:
            self._fail(f"weights could not move: {self._mover.status()['reason']}")
        self._batches += 1
        return layers

    def status(self) -> dict[str, Any]:
        """What goes on. Any thread may ask. The figures of decisions are the same on all ranks.

        - `phase`: "collecting", "searching", "moving", "failed" or "closed"
        - `reason`: why it failed, otherwise ""
        - `generation`: layers that got another placement since construction
        - `decision`: the last one: `kind` ("keep", "replicas" or "all"), `reason`, `layers` (how
          many change), `gain` (of a sample over these layers, predicted), `price`, `moves`,
          `rounds`, `undecided` (layers that the search did not reach)
        - `age`: seconds since the last decision; `heartbeat`: since the thread did something
        - `samples`, and the controllers' `stats`: `rebalances`, `moves`, `ignored` samples,
          `predicted` and `measured` gain of the placements in use, summed over layers, `trust` (the
          part of predicted gains that came true), `life`
        - `mover`: the status of the mover, with bytes and rounds
        """
        now = time.monotonic()
        mover = self._mover.status()
        phase = "moving" if mover["phase"] == "moving" else self._phase
        if self._failure:
            phase = "failed"
        return {
            "phase": "closed" if self._closed else phase,
            "reason": self._failure,
            "generation": mover["generation"],
            "batches": self._batches,
            "samples": self._samples,
            "decision": dict(self._last),
            "stats": dict(self._stats),
            "age": now - self._decided_at,
            "heartbeat": now - self._alive_at,
            "mover": mover,
        }

    def prometheus(self, **labels: str) -> str:
        """The figures of status() in Prometheus's text format; every sample has the `labels`."""
        status = self.status()
        mover, stats = status["mover"], status["stats"]
        values: dict[str, tuple[str, str, float]] = {
            "up": ("gauge", "0 after a failure", float(not status["reason"])),
            "generation": ("counter", "layers that got another placement", status["generation"]),
            "batches_total": ("counter", "batches", status["batches"]),
            "samples_total": ("counter", "samples of loads", status["samples"]),
            "pending_layers": ("gauge", "layers whose weights are under way", mover["pending"]),
            "sent_bytes_total": ("counter", "weights that this rank sent", mover["bytes_sent"]),
            "received_bytes_total": (
                "counter",
                "weights that this rank received",
                mover["bytes_received"],
            ),
            "decision_age_seconds": ("gauge", "since the last decision", status["age"]),
            "heartbeat_seconds": ("gauge", "since the thread did something", status["heartbeat"]),
            "predicted_gain": ("gauge", "of the placements in use", stats.get("predicted", 0.0)),
            "measured_gain": ("gauge", "of the placements in use", stats.get("measured", 0.0)),
            "trust": ("gauge", "part of predicted gains that came true", stats.get("trust", 0.0)),
        }
        text = ",".join(f'{name}="{value}"' for name, value in labels.items())
        lines = []
        for name, (kind, meaning, value) in values.items():
            full = f"lplb_rebalancer_{name}"
            lines.append(f"# HELP {full} {meaning}\n# TYPE {full} {kind}")
            lines.append(f"{full}{{{text}}} {value:g}" if text else f"{full} {value:g}")
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Ends the threads, and the mover. Call it on all ranks after the same batch."""
        self._closed = True
        self._messages.put(None)
        self._mover.close()
        self._thread.join(self._link.timeout + self._search_seconds)
        if self._controllers is not None:
            self._controllers.close()

    def _sample(self, phase: int) -> None:
        """Takes a snapshot of the loads if a sample is full, or another phase begins.

        The history ends with the batch before this one.
        """
        run = self._run_phase
        is_full = self._run > 0 and self._counts[run] + self._run == self._sample_every
        if (is_full or (self._run > 0 and phase != run)) and not self._failure:
            self._counts[run] = 0 if is_full else self._counts[run] + self._run
            self._messages.put(("load", self._snapshot.take(), run, is_full))
            self._run = 0
        self._run_phase = phase
        self._run += 1

    def _work(self) -> None:
        try:
            while (message := self._messages.get()) is not None and not self._failure:
                self._alive_at = time.monotonic()
                if message[0] == "adopt":
                    if self._controllers is not None:
                        self._controllers.adopt(message[1])
                    continue
                _, taken, phase, is_full = message
                self._sums[phase] = self._sums[phase] + self._snapshot.difference(taken)
                if is_full:
                    loads, self._sums[phase] = self._sums[phase], 0
                    self._use(loads, phase)
        except Exception as error:  # whatever it is, it must not be silent
            if not self._closed:
                self._fail(str(error) or type(error).__name__)

    def _use(self, loads: NDArray[np.float64], phase: int) -> None:
        """Takes a sample of this rank. All ranks come here in the same order."""
        summed = self._link.sum_to_first(np.rint(loads).astype(np.int64))
        if self._controllers is not None:
            self._controllers.add(summed, phase)
        self._samples += 1
        if self._samples % self._options.interval != 0:
            return
        told = ""
        if self._controllers is not None:
            self._phase = "searching"
            told = json.dumps(self._decide(self._controllers))
            self._phase = "collecting"
        self._follow(json.loads(self._link.tell_all(told, self._search_seconds)))

    def _decide(self, controllers: Controllers) -> dict[str, Any]:
        """The first rank's decision, for all."""
        if self._mover.status()["pending"] > 0:
            return {"kind": "keep", "reason": "weights are still moving", "stats": self._stats}
        decided = controllers.decide(self._search_seconds)
        change = {i: d for i, d in decided.items() if d["kind"] != "keep"}
        kinds = Counter(d["kind"] for d in change.values())
        reasons = Counter(d["reason"] for d in (change or decided).values())
        undecided = len(self._placements) - len(decided)
        if undecided:
            reasons["the search ran out of time"] += 0 if change else undecided
        return {
            "kind": max(kinds, key=lambda kind: kinds[kind]) if kinds else "keep",
            "reason": max(reasons, key=lambda reason: reasons[reason]),
            "layers": len(change),
            "undecided": undecided,
            **{
                name: sum(d[name] for d in change.values())
                for name in ("gain", "price", "moves", "rounds")
            },
            "slots": {str(i): d["slots"] for i, d in change.items()},
            "stats": controllers.stats(),
        }

    def _follow(self, decision: dict[str, Any]) -> None:
        """Does what the first rank has decided."""
        slots: dict[str, Sequence[int]] = decision.pop("slots", {})
        self._stats = decision.pop("stats")
        self._last = decision
        self._decided_at = self._alive_at = time.monotonic()
        if not slots:
            return
        layers = [int(layer) for layer in slots]
        self._mover.start([_with_slots(self._placements[i], slots[str(i)]) for i in layers], layers)
        log.info(
            "rebalance of %d layers (%s): %d experts move in %d rounds; gain %.4g of a sample, "
            "price %.4g",
            len(layers),
            decision["kind"],
            decision["moves"],
            decision["rounds"],
            decision["gain"],
            decision["price"],
        )

    def _fail(self, why: str) -> None:
        self._failure = why
        log.error("rebalancing has stopped, batches go on: %s", why)


def _with_slots(old: Placement, slots: Sequence[int]) -> Placement:
    return Placement(
        np.asarray(slots),
        old.num_ranks,
        old.num_logical_experts,
        num_nodes=old.num_nodes,
        rank_speed=old.rank_speed,
        rank_alive=old.rank_alive,
    )
