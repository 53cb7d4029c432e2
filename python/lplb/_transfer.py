# SPDX-License-Identifier: MIT
"""The weights of a rank's experts, as bytes, and how they travel to other ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from lplb._exchange import Exchange, check_group
from lplb._homes import MoveSchedule
from lplb._placement import Move, Placement

#: Where a tensor of an expert begins in a staging slot: copies of aligned bytes are fast.
ALIGNMENT = 256


@dataclass(frozen=True)
class Job:
    """The moves of one layer."""

    number: int
    layer: int
    placement: Placement
    """Where they lead."""
    plan: MoveSchedule


def own_groups(group: Any, timeout: float, on_gpu: bool) -> tuple[Exchange, Any]:
    """Two groups with the ranks of `group`: a gloo group for agreements, and one for weights.

    Nothing else uses them, so that nothing else waits for the moves. Collective.
    """
    check_group(group)
    ranks = dist.get_process_group_ranks(group)
    seconds = timedelta(seconds=max(timeout, 30.0))

    def make(backend: str) -> Any:
        return dist.new_group(ranks, seconds, backend, use_local_synchronization=True)

    agreement = Exchange(make("gloo"), timeout)
    weights = make("nccl" if on_gpu else "gloo")
    # NOTE: NCCL wants all ranks in the first operation of a group.
    dist.all_reduce(torch.zeros(1, device="cuda" if on_gpu else "cpu"), group=weights)
    return agreement, weights


class Weights:
    """The weights of this rank's slots, and staging slots for experts that arrive.

    `layers[i]` are the tensors of layer i, each [slots, ...] and contiguous. On a GPU all calls but
    swap() use a stream of their own.
    """

    def __init__(
        self, layers: Sequence[Sequence[Any]], slots: int, staging: int, group: Any, rank: int
    ) -> None:
        self._layers = [[t.detach() for t in tensors] for tensors in layers]
        self._slots = slots
        self._group = group
        self._rank = rank
        self.device: torch.device = self._layers[0][0].device
        self._staging: list[torch.Tensor] = [torch.empty(0, dtype=torch.uint8)] * staging
        self._arrivals: list[list[int]] = [[] for _ in range(staging)]
        self.bytes_sent = self.bytes_received = self.rounds = 0
        self._stream: Any = None
        self._swapped: Any = None
        if self.device.type == "cuda":
            make_stream: Any = torch.cuda.Stream
            self._stream = make_stream(self.device)

    def receive(
        self, job: Job, members: Sequence[int], timeout: float, is_wanted: Callable[[], bool]
    ) -> None:
        """Fills the staging slots of `job` and sends what others need. Waits until it is done.

        `members[i]` is the rank of the placement that member i of the group is. Raises
        RuntimeError if a round takes longer than `timeout` seconds, or `is_wanted()` ends.
        """
        with self._on_stream():
            arrivals = self._arrivals[job.number % len(self._staging)]
            arrivals[:] = [
                move.target % self._slots
                for move in _all_moves(job.plan)
                if move.target // self._slots == self._rank
            ]
            self._grow(job, len(arrivals))
            for move in job.plan.same_rank:
                if move.target // self._slots == self._rank:
                    for there, here in zip(
                        self._staged(job, arrivals.index(move.target % self._slots)),
                        self._slot(job.layer, move.source % self._slots),
                        strict=True,
                    ):
                        there.copy_(here)
            for round in job.plan.rounds:
                if not is_wanted():
                    raise RuntimeError("the moves were given up")
                self._run_round(job, round.moves, arrivals, members, timeout)
            self._synchronize(timeout)

    def swap(self, job: Job) -> None:
        """Exchanges the staging slots of `job` with the slots that they are for.

        On a GPU it is enqueued on the current stream. A second call undoes the first.
        """
        for at, slot in enumerate(self._arrivals[job.number % len(self._staging)]):
            for there, here in zip(self._staged(job, at), self._slot(job.layer, slot), strict=True):
                old = here.clone()
                here.copy_(there)
                there.copy_(old)
        if self._stream is not None:
            self._swapped = torch.cuda.current_stream(self.device).record_event()

    def _run_round(
        self,
        job: Job,
        moves: Sequence[Move],
        arrivals: list[int],
        members: Sequence[int],
        timeout: float,
    ) -> None:
        operations = []
        for move in moves:
            source, target = move.source // self._slots, move.target // self._slots
            if source == self._rank:
                peer = dist.get_global_rank(self._group, members.index(target))
                for part in self._slot(job.layer, move.source % self._slots):
                    operations.append(dist.P2POp(dist.isend, part, peer, self._group))
                    self.bytes_sent += part.numel()
            if target == self._rank:
                peer = dist.get_global_rank(self._group, members.index(source))
                for part in self._staged(job, arrivals.index(move.target % self._slots)):
                    operations.append(dist.P2POp(dist.irecv, part, peer, self._group))
                    self.bytes_received += part.numel()
        if operations:
            self.rounds += 1
            for work in dist.batch_isend_irecv(operations):
                work.wait(timedelta(seconds=timeout))

    def _on_stream(self) -> AbstractContextManager[Any]:
        if self._stream is None:
            return nullcontext()
        if self._swapped is not None:
            self._stream.wait_event(self._swapped)
        return torch.cuda.stream(self._stream)

    def _synchronize(self, timeout: float) -> None:
        """Waits for the stream. NCCL's wait() does not: a peer that is gone shows only here."""
        if self._stream is None:
            return
        event = self._stream.record_event()
        deadline = time.monotonic() + timeout
        while not event.query():
            if time.monotonic() > deadline:
                raise RuntimeError(f"weights did not arrive within {timeout:g} s")
            time.sleep(0.0005)

    def _grow(self, job: Job, experts: int) -> None:
        buffer = self._staging[job.number % len(self._staging)]
        size = experts * self._stride(job.layer)
        if buffer.numel() < size:
            self._staging[job.number % len(self._staging)] = torch.empty(
                size, dtype=torch.uint8, device=self.device
            )

    def _stride(self, layer: int) -> int:
        return sum(_padded(_expert_bytes(t)) for t in self._layers[layer])

    def _slot(self, layer: int, slot: int) -> list[torch.Tensor]:
        """The bytes of each tensor of the expert in a slot."""
        return [t[slot : slot + 1].reshape(-1).view(torch.uint8) for t in self._layers[layer]]

    def _staged(self, job: Job, at: int) -> list[torch.Tensor]:
        """The bytes of each tensor of the at-th expert that arrives."""
        buffer = self._staging[job.number % len(self._staging)]
        begin = at * self._stride(job.layer)
        parts = []
        for tensor in self._layers[job.layer]:
            size = _expert_bytes(tensor)
            parts.append(buffer[begin : begin + size])
            begin += _padded(size)
        return parts


def facts_of_weights(layers: Sequence[Sequence[Any]]) -> str:
    """What the weights of all ranks must have in common."""
    return str([[(str(t.dtype), list(t.shape)) for t in tensors] for tensors in layers])


def check_weights(layers: Any, num_layers: int, slots: int) -> None:
    """Raises TypeError or ValueError unless the weights are those of `num_layers` layers."""
    if len(layers) != num_layers:
        raise ValueError(f"weights: has {len(layers)} layers, expected {num_layers}")
    device = None
    for i, tensors in enumerate(layers):
        if isinstance(tensors, torch.Tensor) or not tensors:
            raise TypeError(f"weights[{i}]: expected a list of tensors")
        for j, tensor in enumerate(tensors):
            name = f"weights[{i}][{j}]"
            if not isinstance(tensor, torch.Tensor):
                raise TypeError(f"{name}: is {type(tensor).__name__}, expected a torch.Tensor")
            if tensor.ndim == 0 or tensor.shape[0] != slots or tensor.numel() == 0:
                raise ValueError(
                    f"{name}: has shape {list(tensor.shape)}, expected [{slots}, ...]: the slots "
                    "of a rank"
                )
            if not tensor.is_contiguous():
                raise ValueError(f"{name}: is not contiguous, expected the tensor as it is stored")
            device = device or tensor.device
            if tensor.device != device:
                raise ValueError(f"{name}: is on {tensor.device}, expected {device}")


def _all_moves(plan: MoveSchedule) -> list[Move]:
    return [*plan.same_rank, *(move for round in plan.rounds for move in round.moves)]


def _expert_bytes(tensor: torch.Tensor) -> int:
    return tensor[0].numel() * tensor.element_size()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
