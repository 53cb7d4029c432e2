#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A Mixture-of-Experts layer under expert parallelism, with and without LPLB.

usage: moe_layer.py [--ranks N] [--tokens N] [--dynamic-slots S]

Starts N processes on the CPU (gloo). Each holds a part of the experts, and replicas of hot experts
of other ranks. The layer sends tokens to the experts' ranks by all-to-all, forward and backward.
With the planner, outputs and gradients are equal to those of the plain layer; it only changes which
rank does the work. The program prints the imbalance of both.

With --dynamic-slots there are no replicas. The planner chooses for each batch which experts are
copied to the S dynamic slots of which ranks; their weights travel there, and gradients back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import lplb

HIDDEN, INNER, EXPERTS_A_RANK, TOPK = 16, 32, 8, 2


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


class MoeLayer(nn.Module):
    """The experts in this rank's slots of `placement`. Replicas start as copies."""

    def __init__(
        self, placement: lplb.Placement, planner: lplb.Planner | None, dynamic_slots: int = 0
    ) -> None:
        super().__init__()
        self.placement, self.planner, self.dynamic_slots = placement, planner, dynamic_slots
        rank, slots = dist.get_rank(), placement.slots_per_rank
        self.experts = placement.physical_to_logical.reshape(-1, slots)[rank].tolist()
        self.router = seeded((placement.num_logical_experts, HIDDEN), 1000)
        self.up = nn.Parameter(torch.stack([seeded((HIDDEN, INNER), e) for e in self.experts]))
        self.down = nn.Parameter(
            torch.stack([seeded((INNER, HIDDEN), 500 + e) for e in self.experts])
        )
        self.taken = 0

    def forward(self, x: Tensor) -> Tensor:
        weight, topk_idx = (x @ self.router.T).softmax(-1).topk(TOPK)
        # The only line that LPLB adds.
        physical_idx = topk_idx if self.planner is None else self.planner.run(topk_idx)
        up, down = (self.with_copies(p) for p in (self.up, self.down))
        slot = physical_idx.reshape(-1)
        order = slot.argsort(stable=True)
        target = slot[order] // len(up)
        sent = torch.bincount(target, minlength=self.placement.num_ranks)
        got = torch.empty_like(sent)
        dist.all_to_all_single(got, sent)
        counts = sent.tolist(), got.tolist()
        rows = Exchange.apply(x.repeat_interleave(TOPK, 0)[order], *counts)
        slots = Exchange.apply(slot[order].double()[:, None], *counts)[:, 0].long()
        results: Tensor = Exchange.apply(
            self.compute(rows, slots % len(up), up, down), *reversed(counts)
        )
        back: Tensor = torch.empty_like(results).index_copy(0, order, results)
        return (back.view(-1, TOPK, HIDDEN) * weight[..., None]).sum(1)

    def with_copies(self, weights: Tensor) -> Tensor:
        """The weights of this rank's main slots, then of its dynamic slots for this batch.

        Exchange brings the weights, and their gradients back to the experts' homes. Between GPUs
        lplb.ReplicaBuffers does this with one kernel each way.
        """
        if self.dynamic_slots == 0:
            return weights
        assert self.planner is not None
        copies, rank, num_ranks = self.planner.copies(), dist.get_rank(), self.placement.num_ranks
        wanted = copies.slot_expert[copies.slot_source == rank]  # by rank, then by slot
        sent = (copies.slot_source == rank).sum(1).tolist()
        source = copies.slot_source[rank]
        got = [int((source == other).sum()) for other in range(num_ranks)]
        main = torch.tensor([self.experts.index(e) for e in wanted], dtype=torch.long)
        received = Exchange.apply(weights[main], sent, got)
        slots = torch.from_numpy(np.argsort(source, kind="stable")[(source < 0).sum() :])
        dynamic = weights.new_zeros((self.dynamic_slots, *weights.shape[1:]))
        return torch.cat([weights, dynamic.index_copy(0, slots, received)])

    def compute(self, rows: Tensor, slots: Tensor, up: Tensor, down: Tensor) -> Tensor:
        self.taken = len(rows)
        result = torch.zeros_like(rows)
        for slot in range(len(up)):
            mine = (slots == slot).nonzero()[:, 0]
            result = result.index_add(0, mine, (rows[mine] @ up[slot]).relu() @ down[slot])
        return result

    def reduce_gradients(self) -> tuple[Tensor, Tensor]:
        """The gradients of all logical experts, summed over replicas: the same on every rank."""
        total = []
        for parameter in (self.up, self.down):
            gradient = torch.zeros(
                (self.placement.num_logical_experts, *parameter.shape[1:]), dtype=parameter.dtype
            )
            assert parameter.grad is not None
            gradient.index_add_(0, torch.tensor(self.experts), parameter.grad)
            dist.all_reduce(gradient)
            total.append(gradient)
        return total[0], total[1]


def seeded(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values: Tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    return values.div(shape[-1] ** 0.5)


def step(layer: MoeLayer, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Runs forward and backward: the output, the gradient of x, the imbalance over the ranks."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * y.detach().cos()).sum().backward()
    loads = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    loads[dist.get_rank()] = layer.taken
    dist.all_reduce(loads)
    assert x.grad is not None
    return y.detach(), x.grad, lplb.imbalance(loads)


def run_rank(rank: int, num_ranks: int, num_tokens: int, dynamic_slots: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks)
    num_experts = num_ranks * EXPERTS_A_RANK
    plain = MoeLayer(lplb.Placement(np.arange(num_experts), num_ranks), None)

    # The past load, summed over the ranks, decides which experts get replicas.
    past = seeded((num_tokens, HIDDEN), 7 + rank)
    history = torch.bincount(
        (past @ plain.router.T).topk(TOPK).indices.reshape(-1), minlength=num_experts
    )
    dist.all_reduce(history)
    if dynamic_slots > 0:
        placement = plain.placement
    else:
        maps = lplb.rebalance_experts(history[None], num_experts + 4 * num_ranks, 1, 1, num_ranks)
        placement = lplb.Placement(maps[0][0], num_ranks)
    planner = lplb.Planner(
        placement, group=dist.group.WORLD, num_topk=TOPK, dynamic_slots=dynamic_slots
    )
    balanced = MoeLayer(placement, planner, dynamic_slots)

    x = seeded((num_tokens, HIDDEN), 100 + rank)
    want, want_gradient, before = step(plain, x)
    got, got_gradient, after = step(balanced, x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got_gradient, want_gradient)
    for mine, theirs in zip(balanced.reduce_gradients(), plain.reduce_gradients(), strict=True):
        torch.testing.assert_close(mine, theirs)
    if rank == 0:
        print("outputs and gradients are equal")
        print(
            f"imbalance (largest / mean tokens of a rank): {before:.3f} before, {after:.3f} after"
        )
        stats = planner.stats()
        assert stats is not None
        print(f"proven optimal: {stats.optimal} of {stats.batches} batches")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dynamic-slots", type=int, default=0)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        ranks = [
            context.Process(
                target=run_rank,
                args=(r, options.ranks, options.tokens, options.dynamic_slots, store),
            )
            for r in range(options.ranks)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    sys.exit(any(process.exitcode != 0 for process in ranks))


if __name__ == "__main__":
    main()
