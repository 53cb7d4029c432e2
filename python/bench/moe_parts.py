# SPDX-License-Identifier: MIT
"""The MoE layer that moe_step.py times: dispatch, experts and combine, with marks between them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

import lplb


class Clock:
    """Marks in the stream, or in time on the CPU. parts() are the milliseconds between them."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.marks: list[torch.cuda.Event] = []
        self.times: list[float] = []

    def mark(self) -> None:
        if self.on_gpu:
            self.marks.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self.marks[-1].record()
        else:
            self.times.append(time.perf_counter())

    def parts(self) -> list[float]:
        if self.on_gpu:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        return [1e3 * (b - a) for a, b in zip(self.times, self.times[1:], strict=False)]


class Exchange(torch.autograd.Function):
    """Sends rows to ranks: `sent[r]` to rank r, `got[r]` from it. Gradients go the other way."""

    @staticmethod
    def forward(ctx, rows: Tensor, sent: list[int], got: list[int]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.counts = (got, sent)
        received = rows.new_empty((sum(got), *rows.shape[1:]))
        dist.all_to_all_single(received, rows.contiguous(), got, sent)
        return received

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return Exchange.apply(gradient, *ctx.counts), None, None


def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Multiplies block i of the rows, which ends at ends[i], by weights[i]."""
    if rows.is_cuda:
        product: Tensor = torch._grouped_mm(rows, weights, offs=ends)
        return product
    begins = [0, *ends.tolist()]
    return torch.cat([rows[a:b] @ w for a, b, w in zip(begins, begins[1:], weights, strict=False)])


def make_weights(
    placement: lplb.Placement, rank: int, hidden: int, inner: int, device: torch.device
) -> list[Tensor]:
    """The weights of a rank's slots: [slots, hidden, 2 * inner] and [slots, inner, hidden].

    An expert has the same weights in every slot.
    """
    slots = placement.slots_per_rank
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    up = torch.empty(slots, hidden, 2 * inner, device=device, dtype=dtype)
    down = torch.empty(slots, inner, hidden, device=device, dtype=dtype)
    random = torch.Generator(device)
    mine = placement.physical_to_logical[rank * slots : (rank + 1) * slots]
    for slot, expert in enumerate(mine.tolist()):
        random.manual_seed(expert)
        up[slot].normal_(0, 0.02, generator=random)
        down[slot].normal_(0, 0.02, generator=random)
    return [up, down]


class Layer(nn.Module):
    """The experts of one rank's slots, SwiGLU, with the weights of make_weights()."""

    def __init__(self, weights: list[Tensor], num_ranks: int) -> None:
        super().__init__()
        self.up, self.down = [nn.Parameter(w) for w in weights]
        self.num_ranks = num_ranks
        self.taken = 0  # rows that the last batch brought to this rank

    def forward(
        self, x: Tensor, slot: Tensor, clock: Clock, before_experts: Callable[[], None]
    ) -> Tensor:
        """`slot` [tokens, topk]: physical ids. Marks the ends of dispatch, experts and combine."""
        local = len(self.up)
        topk = slot.shape[1]
        order = slot.reshape(-1).argsort(stable=True)
        sorted_slot = slot.reshape(-1)[order]
        sent = torch.bincount(sorted_slot // local, minlength=self.num_ranks)
        got = torch.empty_like(sent)
        dist.all_to_all_single(got, sent)
        counts = sent.tolist(), got.tolist()  # waits, with each policy
        rows = Exchange.apply(x.repeat_interleave(topk, 0)[order], *counts)
        taken = sorted_slot.new_empty(sum(counts[1]))
        dist.all_to_all_single(taken, sorted_slot, counts[1], counts[0])
        clock.mark()
        before_experts()
        taken %= local
        by_slot = taken.argsort(stable=True)
        ends = torch.bincount(taken, minlength=local).cumsum(0).to(torch.int32)
        gate, value = grouped_product(rows[by_slot], self.up, ends).chunk(2, -1)
        result = grouped_product(nn.functional.silu(gate) * value, self.down, ends)
        self.taken = len(rows)
        clock.mark()
        back = torch.empty_like(result).index_copy(0, by_slot, result)
        back = Exchange.apply(back, *reversed(counts))
        mine = torch.empty_like(back).index_copy(0, order, back)
        y: Tensor = mine.view(-1, topk, x.shape[-1]).mean(1)
        clock.mark()
        return y
