# SPDX-License-Identifier: MIT
"""Moves experts' weights between ranks while batches run."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from lplb._arrays import check_int
from lplb._homes import schedule
from lplb._placement import Placement, check_placement, moves
from lplb._settings import as_layers, members_of

if TYPE_CHECKING:
    from lplb._transfer import Job


class WeightMover:
    """Moves experts' weights between ranks in the background, layer by layer.

    Weights arrive in staging slots, so batches go on with the old ones. When all ranks have what
    they need for a layer, all of them put it in place before the same batch. If a rank fails or is
    late, the layer stays as it was on every rank. docs/online.md has an example.

    Parameters
    ----------
    weights : sequence of sequences of torch.Tensor
        weights[i] are the tensors of layer i, such as w13, w2 and their scales, each
        [slots_per_rank, ...]: one row for each slot of this rank. Contiguous, any dtype, all on one
        device. They are changed in place. Nobody else may change them during a move.
    placements : sequence of Placement
        One for each layer: what the slots hold now.
    group : torch.distributed.ProcessGroup
        A member for each rank, or for each live rank, as in :class:`Planner`. The mover makes two
        groups of its own with the same ranks: one over gloo for agreements, one for weights (NCCL
        if they are on a GPU, otherwise gloo).
    timeout : float
        Seconds that a rank waits for the others, in a round of moves and in step().
    staging : int
        How many layers are under way at once. Each takes memory for the experts that arrive.
    agree_every : int
        The ranks agree at every such step(). The layers of a move are put in place at these steps.

    Notes
    -----
    Construction, step(), finish() and settle() are collective. start() is not: ranks may call it at
    different times, but in the same order with the same placements.

    Every agree_every-th step() starts an all-gather of 32 bytes over gloo, which runs during the
    batches up to the next one. step() never waits for weights.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong, or the weights have other shapes on another rank.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Any]],
        placements: Sequence[Placement],
        *,
        group: Any,
        timeout: float = 30.0,
        staging: int = 2,
        agree_every: int = 1,
    ) -> None:
        from lplb import _transfer

        if not timeout > 0:
            raise ValueError(f"timeout: is {timeout}, expected more than 0 seconds")
        check_int(staging, "staging", 1)
        self._agree_every = check_int(agree_every, "agree_every", 1)
        self._placements = as_layers(placements, None)
        _transfer.check_weights(weights, len(self._placements), self._placements[0].slots_per_rank)
        on_gpu = weights[0][0].device.type == "cuda"
        self._agreement, moving = _transfer.own_groups(group, timeout, on_gpu)
        self._members = members_of(self._placements, self._agreement.size)
        self.rank = self._members[self._agreement.rank]
        self._agree(_transfer.facts_of_weights(weights))
        slots = self._placements[0].slots_per_rank
        self._weights = _transfer.Weights(weights, slots, staging, moving, self.rank)
        self._timeout = timeout
        self._depth = staging
        self._first = list(self._placements)
        self._wanted = list(self._placements)  # where the jobs so far lead
        self._jobs: list[Job] = []
        self._names = [0]  # [len(jobs) + 1]: a hash of the first jobs, by which ranks compare them
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._ready = 0  # jobs whose weights are in the staging slots of this rank
        self._agreed = 0  # jobs that are ready on all ranks, and all ranks know it
        self._committed = 0  # jobs that are in place on this rank
        self._confirmed = 0  # jobs that are in place on all ranks
        self._failure = ""  # why this rank gives up; it has yet to tell the others
        self._stopped = ""  # why no job will be committed any more
        self._closed = False
        self._steps = 0
        self._work: Any = None
        self._rows: Any = None
        self._moved_at = self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="lplb weights", daemon=True)
        self._thread.start()

    @property
    def placements(self) -> list[Placement]:
        """What the slots of all layers hold now."""
        return list(self._placements)

    def placement(self, layer: int = 0) -> Placement:
        """What the slots of a layer hold now."""
        return self._placements[layer]

    def start(self, placements: Sequence[Placement], layers: Sequence[int] | None = None) -> int:
        """Begins to move the layers to other placements; returns how many layers will change.

        `placements` has one for each of `layers`, which are all layers unless given. Ranks and
        slots are those of before. Returns at once. If a layer is moving already, it moves on
        afterwards. After a failure it does nothing.

        Raises ValueError if a placement does not fit, or needs an expert that no rank has which is
        alive before and after.
        """
        from lplb._transfer import Job

        where = range(len(self._wanted)) if layers is None else layers
        if len(placements) != len(where):
            raise ValueError(f"placements: has {len(placements)}, expected {len(where)}")
        made: list[Job] = []
        wanted = list(self._wanted)
        for layer, placement in zip(where, placements, strict=True):
            if not 0 <= check_int(layer, "layers") < len(wanted):
                raise ValueError(f"layers: has {layer}, expected 0 to {len(wanted) - 1}")
            old = wanted[layer]
            self._check(old, check_placement(placement, "placements"))
            if old == placement:
                continue
            plan = schedule(moves(old, placement), old, placement)
            if plan.lost:
                raise ValueError(
                    f"placements: expert {plan.lost[0].logical} of layer {layer} has no source, "
                    "expected one on a rank that is alive before and after"
                )
            wanted[layer] = placement
            made.append(Job(len(self._jobs) + len(made), layer, placement, plan))
        if self._stopped or self._failure:
            return 0
        self._wanted = wanted
        for job in made:
            told = [self._names[-1], job.layer, job.placement.physical_to_logical.tolist()]
            digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).digest()
            self._names.append(int.from_bytes(digest, "little") >> 1)
            self._jobs.append(job)
            self._queue.put(job)
        return len(made)

    def step(self) -> list[int]:
        """Puts layers in place that have arrived on all ranks; returns these layers.

        Every rank calls it before each batch, and then runs the batch with placement() of now. On a
        GPU the weights are put in place on the current stream. Waits for ranks that have not yet
        begun the batch before, at most `timeout` seconds. It raises nothing: status() tells of a
        failure.
        """
        self._steps += 1
        if self._stopped or self._closed or (self._steps - 1) % self._agree_every != 0:
            return []
        layers: list[int] = []
        if self._work is not None:
            rows = self._collect()
            if rows is None:
                return []
            while self._committed < self._agreed:
                layers.append(self._commit())
            with self._changed:
                self._agreed, self._confirmed = int(rows[:, 0].min()), int(rows[:, 1].min())
                self._changed.notify_all()
        self._post()
        return layers

    def finish(self) -> list[int]:
        """Calls step() until nothing moves; returns the layers that changed.

        All ranks must have called start() as often.
        """
        layers: list[int] = []
        while self._confirmed < len(self._jobs) and not self._stopped and not self._closed:
            layers += self.step()
            time.sleep(0.0002)
        return layers

    def settle(self, group: Any) -> list[int]:
        """After a failure: takes layers back that not all ranks of `group` have put in place.

        A rank that dies in the moment of a commit can leave a layer new on one rank and old on
        another. The ranks that are left call it over a new group of theirs, and then all have the
        same placements. Returns the layers that this rank took back. The mover is of no use
        afterwards: make another one over the new group.
        """
        from lplb._exchange import Exchange

        if not self._stopped:
            raise RuntimeError("mover: has not failed, expected settle() only after a failure")
        told = Exchange(group, self._timeout).tell([str(self._committed)])
        common = min(int(row[0]) for row in told)
        layers = []
        while self._committed > common:
            self._committed -= 1
            job = self._jobs[self._committed]
            self._weights.swap(job)
            self._placements[job.layer] = self._before(job)
            layers.append(job.layer)
        return layers

    def status(self) -> dict[str, Any]:
        """What the mover does now. Any thread may ask.

        `phase` is "idle", "moving", "failed" or "closed"; `reason` says why it failed. A rank whose
        moves fail is "moving" until step() has told the others.
        `generation` counts layers that were put in place since construction, `pending` those to
        come, `arrived` those of them that are in this rank's staging slots. `rounds`, `bytes_sent`
        and `bytes_received` are this rank's since construction. `age` is in seconds since the last
        layer was put in place, `heartbeat` since the mover's thread did something.
        """
        now = time.monotonic()
        pending = len(self._jobs) - self._committed
        phase = "failed" if self._stopped else "moving" if pending else "idle"
        return {
            "phase": "closed" if self._closed else phase,
            "reason": self._stopped or self._failure,
            "generation": self._committed,
            "pending": pending,
            "arrived": self._ready - self._committed,
            "rounds": self._weights.rounds,
            "bytes_sent": self._weights.bytes_sent,
            "bytes_received": self._weights.bytes_received,
            "age": now - self._moved_at,
            "heartbeat": now - self._alive_at,
        }

    def close(self) -> None:
        """Gives up what moves, and ends the thread. Waits for it at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(self._timeout)

    def _agree(self, facts: str) -> None:
        """Raises ValueError on all ranks if weights or placements differ. Collective."""
        from lplb._exchange import fingerprint

        told = self._agreement.tell([facts, str(fingerprint(self._placements))])
        for rank, row in enumerate(told):
            for name, own, first in zip(("weights", "placements"), row, told[0], strict=True):
                if own != first:
                    raise ValueError(
                        f"{name}: differ between the ranks of the group: rank {rank} has {own}, "
                        f"expected {first}"
                    )

    def _check(self, old: Placement, new: Placement) -> None:
        """Raises ValueError if the slots of `new` are not those of `old`."""
        for name in ("num_ranks", "num_logical_experts", "slots_per_rank"):
            if getattr(old, name) != getattr(new, name):
                raise ValueError(
                    f"placements: {name} is {getattr(new, name)}, expected {getattr(old, name)}"
                )
        members_of([new], len(self._members))

    def _post(self) -> None:
        import torch

        row = [self._ready, self._committed, self._names[self._agreed], bool(self._failure)]
        self._rows = torch.empty((len(self._members), len(row)), dtype=torch.int64)
        try:
            self._work = self._agreement.start(self._rows, torch.tensor(row))
        except (RuntimeError, ValueError) as error:
            self._stop(f"the ranks could not agree: {error}")

    def _collect(self) -> Any:
        """What the ranks told at the last step, [members, 4]; None if the moves have failed."""
        try:
            with self._agreement.in_time("word of all ranks", self._timeout):
                self._work.wait(timedelta(seconds=self._timeout))
        except RuntimeError as error:
            self._stop(str(error))
            return None
        self._work = None
        rows = self._rows.numpy()
        failed = np.flatnonzero(rows[:, 3])
        if failed.size:
            others = f"rank {self._members[failed[0]]} has failed"
            self._stop(self._failure or others)
            return None
        if (rows[:, 2] != rows[0, 2]).any():
            self._stop("the ranks were given different placements")
            return None
        return rows

    def _stop(self, why: str) -> None:
        with self._changed:
            self._stopped = why
            self._changed.notify_all()

    def _commit(self) -> int:
        job = self._jobs[self._committed]
        self._weights.swap(job)
        self._placements[job.layer] = job.placement
        self._committed += 1
        self._moved_at = time.monotonic()
        return job.layer

    def _before(self, job: Job) -> Placement:
        """The placement of the job's layer before it. It has not been confirmed."""
        for other in reversed(self._jobs[: job.number]):
            if other.layer == job.layer:
                return other.placement
        return self._first[job.layer]

    def _can_receive(self, job: Job) -> bool:
        """Whether the staging slots are free, and the layer's earlier moves are done."""
        if job.number - self._depth >= self._confirmed:
            return False
        return all(other.layer != job.layer for other in self._jobs[self._confirmed : job.number])

    def _wait_for_room(self, job: Job) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_wanted() or self._can_receive(job))

    def _is_wanted(self) -> bool:
        self._alive_at = time.monotonic()
        return not self._stopped and not self._closed

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self._wait_for_room(job)
            if not self._is_wanted():
                return
            try:
                self._weights.receive(job, self._members, self._timeout, self._is_wanted)
            except Exception as error:  # whatever it is, all ranks must hear of it
                self._failure = f"layer {job.layer}: {error or type(error).__name__}"
                return
            self._ready = job.number + 1
