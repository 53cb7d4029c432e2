#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An MoE layer under expert parallelism, forward and backward, on recorded loads.

usage: torchrun --nproc-per-node W moe_step.py [--tokens N] [--hidden N] [--inner N] [--replicas N]
                                               [--batches N] [--layers L ...] [--trace FILE] [--cpu]

It shows what balancing gains. Each rank has N tokens of a batch, routed as the trace's batch was:
top-8 of 64 experts, drawn with their recorded popularity. The layer runs each batch by three
policies: experts in order, without replicas; with the replicas that EPLB gives for the previous 8
batches, tokens divided evenly; with the same replicas and LPLB's split. For each policy it prints
the mean imbalance, the median milliseconds of a step and of its parts on the slowest rank, and the
10th and 90th percentile of the step. The all-to-all is torch.distributed's; the experts (SwiGLU)
are grouped matrix products.
--cpu: runs on the CPU, over gloo, to try the program. Its times are no measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn

import lplb

TOPK, HISTORY = 8, 8
PLAIN, EVEN, SPLIT = "no replicas", "EPLB, even split", "EPLB, LPLB's split"
POLICIES = (PLAIN, EVEN, SPLIT)
PARTS = ("plan", "dispatch", "experts", "combine", "backward", "step")
TRACE = pathlib.Path(__file__).parents[2] / "data/traces/deepseek-v2-lite.load.jsonl"


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


class Layer(nn.Module):
    """The experts of one rank's slots. The caller gives the router's choice."""

    def __init__(
        self, placement: lplb.Placement, options: argparse.Namespace, device: torch.device
    ) -> None:
        super().__init__()
        self.placement = placement
        slots = placement.slots_per_rank
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

        def weights(rows: int, columns: int) -> nn.Parameter:
            values = torch.randn(slots, rows, columns, device=device, dtype=dtype)
            return nn.Parameter(values * 0.02)

        self.up = weights(options.hidden, 2 * options.inner)
        self.down = weights(options.inner, options.hidden)
        self.taken = 0

    def forward(self, x: Tensor, slot: Tensor, clock: Clock) -> Tensor:
        """`slot` [tokens, TOPK]: physical ids. Marks the ends of dispatch, experts and combine."""
        local = self.placement.slots_per_rank
        order = slot.reshape(-1).argsort(stable=True)
        sorted_slot = slot.reshape(-1)[order]
        sent = torch.bincount(sorted_slot // local, minlength=self.placement.num_ranks)
        got = torch.empty_like(sent)
        dist.all_to_all_single(got, sent)
        counts = sent.tolist(), got.tolist()  # waits, with each policy
        rows = Exchange.apply(x.repeat_interleave(TOPK, 0)[order], *counts)
        taken = sorted_slot.new_empty(sum(counts[1]))
        dist.all_to_all_single(taken, sorted_slot, counts[1], counts[0])
        clock.mark()
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
        y: Tensor = mine.view(-1, TOPK, x.shape[-1]).mean(1)
        clock.mark()
        return y


def divide_evenly(placement: lplb.Placement, device: torch.device) -> Tensor:
    """[experts, most replicas + 1]: the physical ids of an expert's replicas, then their number."""
    replicas: list[list[int]] = [[] for _ in range(placement.num_logical_experts)]
    for slot, expert in enumerate(placement.physical_to_logical.tolist()):
        replicas[expert].append(slot)
    most = max(map(len, replicas))
    return torch.tensor([r + [-1] * (most - len(r)) + [len(r)] for r in replicas], device=device)


def read_loads(path: pathlib.Path) -> list[list[list[int]]]:
    """The load of each batch: [layers][experts]."""
    with path.open() as lines:
        return [json.loads(line)["load"] for line in lines]


def place(policy: str, past: Tensor, num_ranks: int, replicas: int) -> lplb.Placement:
    num_experts = past.shape[-1]
    if policy == PLAIN:
        return lplb.Placement(list(range(num_experts)), num_ranks)
    slots = num_experts + num_ranks * replicas
    return lplb.Placement(lplb.rebalance_experts(past, slots, 1, 1, num_ranks)[0][0], num_ranks)


def measure(
    options: argparse.Namespace,
    device: torch.device,
    loads: Tensor,
    found: dict[str, list[list[float]]],
    imbalance: dict[str, list[float]],
) -> None:
    """Runs one layer's `loads` [batches, experts]; adds to `found` and `imbalance`."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    for batch in range(HISTORY, HISTORY + options.batches + 1):  # the first one warms up
        past = loads[batch - HISTORY : batch].sum(0, keepdim=True)
        random = torch.Generator().manual_seed(1000 * batch + rank)
        popularity = loads[batch].double().clamp(min=1e-3).expand(options.tokens, -1)
        topk_idx = torch.multinomial(popularity, TOPK, generator=random).to(device)
        x = torch.randn(options.tokens, options.hidden, generator=random).to(
            device, torch.bfloat16 if device.type == "cuda" else torch.float32
        )
        for policy in POLICIES:
            placement = place(policy, past, num_ranks, options.replicas)
            layer = Layer(placement, options, device)
            planner = (
                lplb.Planner(
                    placement, group=dist.group.WORLD, num_topk=TOPK, max_tokens=options.tokens
                )
                if policy == SPLIT
                else None
            )
            table = divide_evenly(placement, device)
            if planner is not None:
                planner.run(topk_idx)  # the first batch allocates
            for repeat in range(3):
                leaf = x.clone().requires_grad_()
                dist.barrier()
                clock = Clock(device)
                clock.mark()
                if planner is not None:
                    slot = planner.run(topk_idx)
                else:
                    turn = torch.arange(topk_idx.numel(), device=device).view_as(topk_idx)
                    choice = turn % table[topk_idx, -1]
                    slot = table[topk_idx, choice]
                clock.mark()
                y = layer(leaf, slot, clock)
                y.square().mean().backward()
                clock.mark()
                parts = clock.parts()
                parts.append(sum(parts))
                slowest = torch.tensor(parts, device=device)
                dist.all_reduce(slowest, dist.ReduceOp.MAX)
                taken = torch.zeros(num_ranks, dtype=torch.int64, device=device)
                taken[rank] = layer.taken
                dist.all_reduce(taken)
                if repeat > 0 and batch > HISTORY:
                    found[policy].append(slowest.tolist())
                    imbalance[policy].append(lplb.imbalance(taken.cpu()))
            if planner is not None:
                planner.close()


def show(found: dict[str, list[list[float]]], imbalance: dict[str, list[float]]) -> None:
    print(
        f"{'policy':20} {'imbalance':>9}"
        + "".join(f" {part + ' ms':>12}" for part in PARTS)
        + f" {'p10':>8} {'p90':>8}"
    )
    for policy in POLICIES:
        medians = [statistics.median(step[i] for step in found[policy]) for i in range(len(PARTS))]
        spread = statistics.quantiles([step[-1] for step in found[policy]], n=10)
        print(
            f"{policy:20} {statistics.mean(imbalance[policy]):9.3f}"
            + "".join(f" {median:12.3f}" for median in medians)
            + f" {spread[0]:8.3f} {spread[-1]:8.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=7168)
    parser.add_argument("--inner", type=int, default=2048)
    parser.add_argument("--replicas", type=int, default=4, help="redundant slots a rank")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 10, 20], help="of the trace")
    parser.add_argument("--trace", type=pathlib.Path, default=TRACE)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    device = torch.device("cpu")
    if options.cpu:
        dist.init_process_group("gloo")
    else:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    if dist.get_rank() == 0:
        name = "CPU" if options.cpu else torch.cuda.get_device_name(device)
        print(
            f"{dist.get_world_size()} x {name}, torch {torch.__version__}: {options.tokens} tokens "
            f"a rank x top-{TOPK}, hidden {options.hidden}, width {options.inner}, "
            f"{options.replicas} replicas a rank; slowest rank, medians"
        )
    found: dict[str, list[list[float]]] = {policy: [] for policy in POLICIES}
    imbalance: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    batches = read_loads(options.trace)
    for layer in options.layers:
        measure(
            options, device, torch.tensor([batch[layer] for batch in batches]), found, imbalance
        )
    if dist.get_rank() == 0:
        show(found, imbalance)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
