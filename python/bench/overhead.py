#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Host time of Planner.run() on a GPU: how long a call keeps Python from going on.

usage: overhead.py [--tokens N] [--topk K] [--calls N] [--limit US]

Times series of calls, short enough that the GPU's queue takes them without waiting. Prints the
median and the spread over the series, for each form of call that a model makes; also with a group
of one rank, whose counts travel within the kernel or by NCCL's collective. The exit status is 1 if
the median of run(out=) or of run() is above --limit microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

import lplb

CALLS_IN_FLIGHT = 200  # fewer than the queue of a stream holds


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Microseconds a call, for each series of calls."""
    for _ in range(3 * CALLS_IN_FLIGHT):
        call()
    torch.cuda.synchronize()
    found = []
    for _ in range(repeats):
        started = time.perf_counter_ns()
        for _ in range(CALLS_IN_FLIGHT):
            call()
        found.append((time.perf_counter_ns() - started) / 1e3 / CALLS_IN_FLIGHT)
        torch.cuda.synchronize()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--topk", type=int, default=8)
    parser.add_argument("--calls", type=int, default=10000)
    parser.add_argument("--limit", type=float, default=12.0)
    options = parser.parse_args()

    maps = lplb.place_on_topology(np.ones((1, 256)), "cube", redundants=2, num_ranks=8)
    placement = lplb.Placement(maps[0][0], num_ranks=8)
    planner = lplb.Planner(placement, same_tokens=True, backend="cuda")
    history = lplb.Planner(placement, same_tokens=True, backend="cuda", keep_history=True)
    topk_idx = torch.randint(
        0, 256, (options.tokens, options.topk), device="cuda", dtype=torch.int32
    )
    out = torch.empty_like(topk_idx)
    valid = torch.tensor([options.tokens], dtype=torch.int32, device="cuda")
    calls: dict[str, Callable[[], object]] = {
        "run(topk_idx)": lambda: planner.run(topk_idx),
        "run(topk_idx, out)": lambda: planner.run(topk_idx, out),
        "run(topk_idx, out, num_valid_tokens)": lambda: planner.run(topk_idx, out, valid),
        "run(topk_idx, out), history kept": lambda: history.run(topk_idx, out),
        "torch.empty_like(topk_idx)": lambda: torch.empty_like(topk_idx),
        "topk_idx.add_(0)": lambda: out.add_(0),
    }
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("nccl", init_method=f"file://{folder}/store", rank=0, world_size=1)
        grouped = [
            lplb.Planner(
                lplb.Placement(np.arange(256), 1),
                group=dist.group.WORLD,
                transport=transport,
                backend="cuda",
            )
            for transport in ("auto", "collective")
        ]
        for one in grouped:
            calls[f"run(topk_idx, out), by {one.exchange_stats().transport}"] = partial(
                one.run, topk_idx, out
            )
        too_slow = print_calls(calls, options)
        for one in grouped:
            one.close()
        dist.destroy_process_group()  # NOTE: a process that ends with NCCL's group alive may hang
    sys.exit(1 if too_slow else 0)


def print_calls(calls: dict[str, Callable[[], object]], options: argparse.Namespace) -> bool:
    """Whether a median is above the limit."""
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python "
        f"{sys.version.split()[0]}, {options.tokens} x {options.topk} int32"
    )
    repeats = max(options.calls // CALLS_IN_FLIGHT, 5)
    too_slow = False
    for name, call in calls.items():
        found = time_calls(call, repeats)
        median = statistics.median(found)
        print(f"{name:40} {median:6.2f} us  ({min(found):.2f} to {max(found):.2f})")
        too_slow |= name in ("run(topk_idx)", "run(topk_idx, out)") and median > options.limit
    return too_slow


if __name__ == "__main__":
    main()
