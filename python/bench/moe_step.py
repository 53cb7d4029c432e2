#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An MoE layer under expert parallelism, forward and backward, on recorded and drawn loads.

usage: torchrun --nproc-per-node W moe_step.py [--tokens N ...] [--loads NAME ...] [--hidden N]
           [--inner N] [--replicas N] [--dynamic-slots N] [--batches N] [--seconds N] [--cpu]

It shows what balancing gains. Each rank has N tokens of a batch, top 8, drawn from the batch's
popularity of experts: recorded ones of 1024 tokens (deepseek-v2-lite: 64 experts, qwen3-30b-a3b:
128), the hard loads of bench/METHOD.md (mild, skew: 256 experts), or a moving hot spot (hotspot:
256 experts, of which a quarter gets three tokens in four, another quarter every 3 batches, as in
the synthetic W6). Placements are made from the 8 batches before (mild, skew: from the popularity
before it drifted). For each policy it prints the mean imbalance, the median milliseconds of a step
and of its parts on the slowest rank, the 10th and 90th percentile of the step, and the most memory
of a rank. The all-to-all is torch.distributed's; the experts (SwiGLU) are grouped matrix products.
Every policy's output and gradient are compared with those of "none", and the gradients of its
weights too if the policy has no replicas.

"none+dynamic" has copies chosen for each batch in dynamic slots: their weights come beside the
dispatch, and their gradients go back after the backward pass, every time, as if the optimiser had
changed all weights. For placements that stay, the sum of replicas' gradients, once a step of the
optimiser, is not in the times.
--cpu: runs on the CPU, over gloo, to try the program. Its times are no measurements.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from batches import ROOT, Pair, hard_batches, recorded_topk, stretches
from moe_copies import Copies, make_copies
from moe_parts import Clock, Layer, make_weights
from torch import Tensor

import lplb
from lplb.calibration import GroupedExperts

TOPK, HISTORY, RECORDED, REPEATS = 8, 8, 1024, 3
NONE, EVEN, EPLB, HOMES, TIME = "none", "eplb+even", "eplb+lplb", "homes+lplb", "homes+time"
DYNAMIC = "none+dynamic"
POLICIES = (NONE, EVEN, EPLB, HOMES, TIME, DYNAMIC)
PARTS = ("plan", "dispatch", "experts", "combine", "backward", "step")


@dataclass
class Found:
    """What was measured of a policy."""

    steps: list[list[float]] = field(default_factory=list)  # milliseconds of PARTS
    imbalance: list[float] = field(default_factory=list)
    bytes: int = 0  # the most that a rank had allocated


def recorded_batches(trace: str) -> Iterator[Pair]:
    """Batches of 1024 consecutive tokens, spread over trace and layers, and the 8 before each."""
    topk = recorded_topk(trace)
    num_experts = int(topk.max()) + 1
    window = min(RECORDED, len(topk) // (HISTORY + 2))
    for past, now in stretches(topk, HISTORY * window, window):
        loads = [np.bincount(b, minlength=num_experts) for b in past.reshape(HISTORY, -1)]
        yield np.array(loads), np.bincount(now.ravel(), minlength=num_experts)


def moving_batches(tokens: int) -> Iterator[Pair]:
    """Drawn batches of 256 experts, of which a quarter is hot: another one every 3 batches."""
    draw, experts, width = np.random.default_rng(17), 256, 64
    drawn: list[np.ndarray] = []
    for step in itertools.count():
        popularity = np.full(experts, 0.25 / experts)
        popularity[step // 3 * width % experts :][:width] += 0.75 / width
        drawn.append(draw.multinomial(tokens * TOPK, popularity))
        if step >= HISTORY:
            yield np.array(drawn[-1 - HISTORY : -1]), drawn[-1]


def batches_of(loads: str) -> Iterator[Pair]:
    """The loads of past batches [batches, experts], and of the batch."""
    if loads == "hotspot":
        return moving_batches(32768)
    if loads in ("mild", "skew"):
        return ((past[None], load) for past, load in hard_batches(loads, 32768))
    return recorded_batches(loads)


def place(policy: str, past: np.ndarray, num_ranks: int, replicas: int) -> lplb.Placement:
    num_experts = past.shape[-1]
    slots = num_experts + num_ranks * replicas
    if policy in (NONE, DYNAMIC):
        return lplb.Placement(list(range(num_experts)), num_ranks)
    if policy in (HOMES, TIME):
        return lplb.Placement(lplb.place_homes(past[:, None], slots, num_ranks)[0][0], num_ranks)
    return lplb.Placement(
        lplb.rebalance_experts(past.sum(0)[None], slots, 1, 1, num_ranks)[0][0], num_ranks
    )


def even_choice(placement: lplb.Placement, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Takes the replicas of an expert in turn."""
    replicas: list[list[int]] = [[] for _ in range(placement.num_logical_experts)]
    for slot, expert in enumerate(placement.physical_to_logical.tolist()):
        replicas[expert].append(slot)
    most = max(map(len, replicas))
    table = torch.tensor([r + [-1] * (most - len(r)) + [len(r)] for r in replicas], device=device)

    def choose(topk_idx: Tensor) -> Tensor:
        turn = torch.arange(topk_idx.numel(), device=device).view_as(topk_idx)
        return table[topk_idx, turn % table[topk_idx, -1]]

    return choose


def cost_of(options: argparse.Namespace, experts: int, device: torch.device) -> lplb.CostModel:
    """What these experts take here: measured on rank 0's GPU."""
    if device.type != "cuda":
        return lplb.CostModel.load(ROOT / "data/cost/h200-dsv3-bf16.json")
    found: list[Any] = [None]
    if dist.get_rank() == 0:
        layer = GroupedExperts(options.hidden, options.inner, experts)
        measured = lplb.calibrate(print, tokens=4096, experts=experts, timer=layer.time)
        print(f"cost model of {experts} experts a rank, error {measured.error:.1%}")
        found[0] = measured.model
    dist.broadcast_object_list(found)
    model: lplb.CostModel = found[0]
    return model


class Runner:
    """One policy over one batch: a placement, a layer, and who chooses the slots."""

    def __init__(
        self,
        policy: str,
        past: np.ndarray,
        tokens: int,
        options: argparse.Namespace,
        model: lplb.CostModel,
        device: torch.device,
    ) -> None:
        rank, num_ranks = dist.get_rank(), dist.get_world_size()
        placement = place(policy, past, num_ranks, options.replicas)
        weights = make_weights(placement, rank, options.hidden, options.inner, device)
        slots = options.dynamic_slots if policy == DYNAMIC else 0
        self.device = device
        self.copies: Copies | None = make_copies(weights, placement, slots) if slots else None
        self.layer = Layer(self.copies.weights() if self.copies else weights, num_ranks)
        self.num_main = placement.slots_per_rank
        self.planner: lplb.Planner | None = None
        self.choose: Callable[[Tensor], Tensor] = lambda topk_idx: topk_idx
        if policy == EVEN:
            self.choose = even_choice(placement, device)
        elif policy != NONE:
            self.planner = lplb.Planner(
                placement,
                group=dist.group.WORLD,
                num_topk=TOPK,
                max_tokens=tokens,
                cost=model if policy == TIME else None,
                dynamic_slots=slots,
            )
            self.choose = self.planner.run

    def step(self, x: Tensor, topk_idx: Tensor) -> tuple[list[Tensor], list[float]]:
        """Forward and backward; the milliseconds of PARTS on the slowest rank.

        Before them the output, the gradient of x, and samples of those of the main slots' weights.
        """
        leaf = x.clone().requires_grad_()
        self.layer.zero_grad()
        if self.copies is not None:
            self.copies.update()
        dist.barrier()
        clock = Clock(self.device)
        clock.mark()
        slot = self.choose(topk_idx)
        if self.copies is not None and self.planner is not None:
            self.copies.fetch(self.planner.copies())
        clock.mark()
        y = self.layer(leaf, slot, clock, self.copies.wait if self.copies else lambda: None)
        y.square().mean().backward()
        if self.copies is not None:
            self.copies.reduce_gradients(self.gradients())
        clock.mark()
        parts = clock.parts()
        slowest = torch.tensor([*parts, sum(parts)], device=self.device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        assert leaf.grad is not None
        samples = [g[: self.num_main].flatten(1)[:, ::997].clone() for g in self.gradients()]
        return [y.detach(), leaf.grad, *samples], slowest.tolist()

    def gradients(self) -> list[Tensor]:
        return [w.grad for w in (self.layer.up, self.layer.down) if w.grad is not None]

    def imbalance(self) -> float:
        taken = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=self.device)
        taken[dist.get_rank()] = self.layer.taken
        dist.all_reduce(taken)
        return lplb.imbalance(taken.cpu())

    def bytes(self) -> int:
        """The most memory that this rank had since the last reset of PyTorch's statistics."""
        held = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0
        return held + (self.copies.bytes if self.copies is not None else 0)

    def close(self) -> None:
        if self.planner is not None:
            self.planner.close()
        if self.copies is not None:
            del self.layer
            self.copies.close()


def check(policy: str, results: list[Tensor], plain: list[Tensor]) -> None:
    """Compares what step() gave with what it gave for "none"."""
    whole = len(plain) if policy in (NONE, DYNAMIC) else 2  # the others have slots of their own
    for name, one, other in zip(
        ("output", "gradient of x", "gradient of up", "gradient of down"),
        results[:whole],
        plain[:whole],
        strict=False,
    ):
        if not torch.allclose(one, other, rtol=0.02, atol=0.02 * other.abs().max().item()):
            raise RuntimeError(f"{policy}: the {name} is not that of {NONE}")


def measure(
    loads: str,
    tokens: int,
    options: argparse.Namespace,
    models: dict[int, lplb.CostModel],
    device: torch.device,
) -> dict[str, Found]:
    """Runs each batch by each policy in turn."""
    found = {policy: Found() for policy in POLICIES}
    for batch, (past, load) in enumerate(
        itertools.islice(batches_of(loads), options.batches + 1)
    ):  # the first one warms up
        slots = len(load) // dist.get_world_size() + options.replicas
        if slots not in models:
            models[slots] = cost_of(options, slots, device)
        random = torch.Generator().manual_seed(1000 * batch + dist.get_rank())
        popularity = torch.from_numpy(load).double().clamp(min=1e-3).expand(tokens, -1)
        topk_idx = torch.multinomial(popularity, TOPK, generator=random).to(device)
        x = torch.randn(tokens, options.hidden, generator=random).to(
            device, torch.bfloat16 if device.type == "cuda" else torch.float32
        )
        plain: list[Tensor] = []
        for policy in POLICIES:
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            runner = Runner(policy, past, tokens, options, models[slots], device)
            for repeat in range(REPEATS):
                results, parts = runner.step(x, topk_idx)
                if repeat > 0 and batch > 0:
                    found[policy].steps.append(parts)
                    found[policy].imbalance.append(runner.imbalance())
            found[policy].bytes = max(found[policy].bytes, runner.bytes())
            runner.close()
            del runner
            plain = plain or results
            check(policy, results, plain)
    return found


def is_late(late: bool, device: torch.device) -> bool:
    """Whether any rank is."""
    told = torch.tensor([int(late)], device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def show(found: dict[str, Found]) -> None:
    print(
        f"{'policy':12} {'imbalance':>9}"
        + "".join(f" {part + ' ms':>11}" for part in PARTS)
        + f" {'p10':>8} {'p90':>8} {'memory GiB':>10}"
    )
    for policy, one in found.items():
        medians = [statistics.median(step[i] for step in one.steps) for i in range(len(PARTS))]
        spread = statistics.quantiles([step[-1] for step in one.steps], n=10)
        print(
            f"{policy:12} {statistics.mean(one.imbalance):9.3f}"
            + "".join(f" {median:11.3f}" for median in medians)
            + f" {spread[0]:8.3f} {spread[-1]:8.3f} {one.bytes / 2**30:10.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096], help="of each rank")
    parser.add_argument("--loads", nargs="+", default=["deepseek-v2-lite", "skew"])
    parser.add_argument("--hidden", type=int, default=7168)
    parser.add_argument("--inner", type=int, default=2048)
    parser.add_argument("--replicas", type=int, default=4, help="redundant slots a rank")
    parser.add_argument("--dynamic-slots", type=int, default=1, help="of none+dynamic, a rank")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3600, help="then no further table begins")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    device = torch.device("cpu")
    if options.cpu:
        dist.init_process_group("gloo")
    else:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    if dist.get_world_size() < 2:
        raise SystemExit("moe_step: one rank has nobody to balance with, expected at least 2")
    first = dist.get_rank() == 0
    models: dict[int, lplb.CostModel] = {}
    begun = time.monotonic()
    for loads, tokens in itertools.product(options.loads, options.tokens):
        if is_late(time.monotonic() - begun > options.seconds, device):
            print(f"\n{loads}, {tokens} tokens a rank: left out after {options.seconds:g} s")
            continue
        found = measure(loads, tokens, options, models, device)
        if first:
            name = "CPU" if options.cpu else torch.cuda.get_device_name(device)
            print(
                f"\n{loads}, {tokens} tokens a rank x top-{TOPK}: "
                f"{dist.get_world_size()} x {name}, torch {torch.__version__}, "
                f"hidden {options.hidden}, width {options.inner}, "
                f"{options.replicas} replicas a rank; slowest rank, medians"
            )
            show(found)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
