# SPDX-License-Identifier: MIT
"""The weights of copies in dynamic slots, as moe_step.py moves them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

import lplb


class Copies(Protocol):
    """The weights of a rank's main and dynamic slots, and the gradients that go back."""

    def weights(self) -> list[Tensor]:
        """Each [M + S, ...]: main slots, then dynamic ones."""

    def update(self) -> None:
        """The weights of the main slots have changed."""

    def fetch(self, copies: lplb.Copies) -> None:
        """Brings this batch's experts into the dynamic slots."""

    def wait(self) -> None:
        """What follows reads the dynamic slots."""

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        """Adds the dynamic slots' rows of all ranks to those of the experts' main slots."""

    @property
    def bytes(self) -> int: ...

    def close(self) -> None: ...


class GpuCopies:
    """By lplb.ReplicaBuffers: fetch() runs on a stream of its own."""

    def __init__(self, weights: list[Tensor], placement: lplb.Placement, slots: int) -> None:
        self._buffers = lplb.ReplicaBuffers(
            [weights],
            placement,
            group=dist.group.WORLD,
            dynamic_slots=slots,
            gradients=torch.bfloat16,
        )
        self._num_main = placement.slots_per_rank
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def weights(self) -> list[Tensor]:
        return self._buffers.weights()

    def update(self) -> None:
        self._buffers.update()

    def fetch(self, copies: lplb.Copies) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._buffers.fetch(copies.slot_expert, copies.slot_source)

    def wait(self) -> None:
        torch.cuda.current_stream().wait_stream(self._stream)

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        for to, gradient in zip(self._buffers.gradients(), gradients, strict=True):
            to.copy_(gradient[self._num_main :])
        self._buffers.reduce_gradients([g[: self._num_main] for g in gradients])

    @property
    def bytes(self) -> int:
        return self._buffers.bytes

    def close(self) -> None:
        self._buffers.close()


class HostCopies:
    """On the CPU, by an all-to-all each way, which every rank knows from the plan alone."""

    def __init__(self, weights: list[Tensor], placement: lplb.Placement, slots: int) -> None:
        self._num_main = placement.slots_per_rank
        self._rank = dist.get_rank()
        mine = placement.physical_to_logical.reshape(-1, self._num_main)[self._rank]
        self._experts: list[int] = mine.tolist()
        self._weights = [torch.cat([w, w.new_zeros(slots, *w.shape[1:])]) for w in weights]
        self._main = torch.empty(0, dtype=torch.long)  # of the copies that go out, by rank and slot
        self._slots = torch.empty(0, dtype=torch.long)  # of those that come, by source and slot
        self._sent: list[int] = []
        self._got: list[int] = []

    def weights(self) -> list[Tensor]:
        return self._weights

    def update(self) -> None:
        pass

    def fetch(self, copies: lplb.Copies) -> None:
        source, mine = copies.slot_source, copies.slot_source[self._rank]
        self._sent = (source == self._rank).sum(1).tolist()
        self._got = [int((mine == rank).sum()) for rank in range(len(source))]
        wanted = copies.slot_expert[source == self._rank]
        self._main = torch.tensor([self._experts.index(e) for e in wanted], dtype=torch.long)
        come = [slot for rank in range(len(source)) for slot in (mine == rank).nonzero()[0]]
        self._slots = torch.tensor(come, dtype=torch.long) + self._num_main
        for weight in self._weights:
            received = weight.new_empty((len(come), *weight.shape[1:]))
            dist.all_to_all_single(received, weight[self._main], self._got, self._sent)
            weight[self._slots] = received

    def wait(self) -> None:
        pass

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        for gradient in gradients:
            received = gradient.new_empty((len(self._main), *gradient.shape[1:]))
            dist.all_to_all_single(received, gradient[self._slots], self._sent, self._got)
            gradient.index_add_(0, self._main, received)

    @property
    def bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


def make_copies(weights: list[Tensor], placement: lplb.Placement, slots: int) -> Copies:
    if weights[0].is_cuda:
        return GpuCopies(weights, placement, slots)
    return HostCopies(weights, placement, slots)
