#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times of code written for deepseek-ai/LPLB's Planner, on a GPU.

usage: drop_in.py [--tokens N]

run() and solve_probs() of lplb.original, without a group: as one node of a CUDA graph of 20 calls,
and eager (events around 200 calls). Loads are those of bench/METHOD.md's mild and skew: batches
that drift from the history that the placement was made for. Prints the median over the batches,
and for graphs the 99th percentile, in microseconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

import lplb

CUBE = torch.tensor([[3, 0, 1, 2, 7, 4, 5, 6], [6, 7, 4, 5, 0, 1, 2, 3]]).T
SHAPES = {"cube8x2": 8, "cube8x2 x 4": 32}
EXPERTS, REDUNDANTS, TOPK, BATCHES = 256, 2, 8, 50
Planner: Any = lplb.Planner


def timed(work: Callable[[], object], calls: int) -> float:
    """Microseconds of one of `calls` calls that `work` makes."""
    events: Any = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
    begin, end = events
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1000 / calls


def in_graph(call: Callable[[], object]) -> float:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(20):
            call()
    return sorted(timed(graph.replay, 20) for _ in range(9))[4]


def eager(call: Callable[[], object]) -> float:
    def work() -> None:
        for _ in range(200):
            call()

    work()
    return sorted(timed(work, 200) for _ in range(5))[2]


def at(values: list[float], part: float) -> float:
    return sorted(values)[round(part * (len(values) - 1))]


def measure(ranks: int, sigma: float, tokens: int) -> str:
    torch.manual_seed(1)
    history = torch.exp(sigma * torch.randn(EXPERTS))
    planner = Planner(CUBE, EXPERTS + ranks * REDUNDANTS, EXPERTS, ranks)
    planner.update_redundancy_mapping((history * 1e4).long())
    counter = torch.zeros(1, dtype=torch.int32, device="cuda")
    graphs: dict[str, list[float]] = {"run": [], "solve_probs": []}
    calls: dict[str, Callable[[], object]] = {}
    for _ in range(BATCHES):
        weight = history * torch.exp(0.34 * torch.randn(EXPERTS))
        idx = torch.multinomial(weight, tokens * TOPK, replacement=True).view(tokens, TOPK).cuda()
        load = torch.multinomial(weight, tokens * TOPK * ranks, replacement=True)
        workload = torch.bincount(load, minlength=EXPERTS).int().cuda()
        calls["run"] = lambda idx=idx: planner.run(idx, counter)  # type: ignore[misc]
        calls["solve_probs"] = lambda w=workload: planner.solve_probs(w, counter)  # type: ignore[misc]
        for name, call in calls.items():
            call()
            graphs[name].append(in_graph(call))
    return "".join(
        f"  {name}: graph {at(graphs[name], 0.5):.1f}, p99 {at(graphs[name], 0.99):.1f}; "
        f"eager {eager(call):.1f}"
        for name, call in calls.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--tokens", type=int, default=4096, help="tokens of the rank (default 4096)"
    )
    tokens = parser.parse_args().tokens
    print(torch.cuda.get_device_name())
    for shape, ranks in SHAPES.items():
        for kind, sigma in (("mild", 0.5), ("skew", 1.2)):
            print(f"{kind}:{shape}{measure(ranks, sigma, tokens)}", flush=True)


if __name__ == "__main__":
    main()
