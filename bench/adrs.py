#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Scores placements by the rules of the EPLB problem of the ADRS leaderboard, over our traces.

usage: adrs.py [--trace FILE] [--records N] [--solution FILE] [--repeat N]

The rules (github.com/UCB-ADRS/ADRS-Leaderboard, problems/eplb): loads are summed over windows of
100 records. rebalance_experts(window, 288 slots, 8 groups, 4 nodes, 32 GPUs) makes a mapping, which
is scored on the next window with an even split: the sum over layers of the mean GPU load, divided
by the sum of the largest. The score is 90 times the mean of that over the windows, plus
5 * min(2 ms / t, 2), where t is the mean time of a call; above 10 ms, 20 t (in seconds, at most 20)
is taken off. The mapping must have 288 columns and counts that sum to 288, and may drop no expert
that has load.

Beside the score stands what the exact split makes of the same mapping, which the rules do not
allow. The leaderboard's own data is not here; our traces are shorter, so windows are of 20 records.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
import sys
import time
import types

import numpy as np
import torch

import lplb

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOTS, GROUPS, NODES, GPUS = 288, 8, 4, 32


def windows_of(trace, records):
    """The loads [num_layers, num_logical] of successive windows of a load.jsonl."""
    with open(trace, encoding="utf-8") as lines:
        loads = [np.array(json.loads(line)["load"]) for line in lines]
    return [
        torch.tensor(sum(loads[i : i + records]))
        for i in range(0, len(loads) - records + 1, records)
    ]


def check(phy2log, log2phy, logcnt, load):
    """Raises ValueError if the rules refuse the mapping."""
    layers, experts = load.shape
    if tuple(phy2log.shape) != (layers, SLOTS):
        raise ValueError(f"phy2log has shape {tuple(phy2log.shape)}, expected {(layers, SLOTS)}")
    if (logcnt < 0).any() or (logcnt.sum(dim=1) != SLOTS).any():
        raise ValueError(f"logcnt does not sum to {SLOTS} in each layer")
    if ((load > 0) & (logcnt == 0)).any():
        raise ValueError("an expert with load has no copy")
    for layer in range(layers):  # stricter than the rules: the three tables must agree
        for expert in range(experts):
            slots = log2phy[layer, expert, : logcnt[layer, expert]]
            if (phy2log[layer, slots] != expert).any():
                raise ValueError(f"layer {layer}: expert {expert} is not in its slots")


def even_loads(log2phy, logcnt, load):
    """The load of each GPU [num_layers, GPUS] under an even split."""
    layers, experts = load.shape
    slots = torch.zeros(layers, SLOTS, dtype=torch.float64)
    for layer in range(layers):
        for expert in range(experts):
            count = int(logcnt[layer, expert])
            slots[layer, log2phy[layer, expert, :count]] += float(load[layer, expert]) / count
    return slots.view(layers, GPUS, -1).sum(dim=2).numpy()


def exact_loads(phy2log, load):
    """The same under the exact split."""
    rows = []
    for experts, tokens in zip(phy2log.numpy(), load.numpy(), strict=True):
        placement = lplb.Placement(experts.astype(np.int32), GPUS, len(tokens))
        rows.append(lplb.solve(placement, tokens).rank_load)
    return np.array(rows)


def balancedness(gpu_loads):
    return gpu_loads.mean(axis=1).sum() / gpu_loads.max(axis=1).sum()


def evaluate(rebalance, windows, repeat):
    """The score of a policy, its parts, and balancedness with the exact split."""
    even, exact, times = [], [], []
    for now, following in zip(windows, windows[1:], strict=False):
        took = []
        for _ in range(repeat):
            begin = time.perf_counter()
            phy2log, log2phy, logcnt = rebalance(now, SLOTS, GROUPS, NODES, GPUS)
            took.append(time.perf_counter() - begin)
        times.append(statistics.median(took))
        check(phy2log, log2phy, logcnt, following)
        even.append(balancedness(even_loads(log2phy, logcnt, following)))
        exact.append(balancedness(exact_loads(phy2log, following)))
    seconds = statistics.mean(times)
    score = 90 * statistics.mean(even) + 5 * min(0.002 / seconds, 2)
    if seconds > 0.01:
        score -= min(20 * seconds, 20)
    return {
        "score": score,
        "balancedness": statistics.mean(even),
        "ms": 1000 * seconds,
        "exact": statistics.mean(exact),
    }


def program_of(path):
    """rebalance_experts() of the program that a solution file hands in."""
    spec = importlib.util.spec_from_file_location("adrs_solution", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = types.ModuleType("program")
    exec(module.Solution().solve(), program.__dict__)
    return program.rebalance_experts


def reference(weight, *shape):
    """EPLB in plain Python: the tables of the original, not its speed."""
    sys.path.insert(0, str(ROOT / "tests/oracle"))
    import eplb_oracle

    tables = eplb_oracle.rebalance_experts(weight.tolist(), *shape)
    return [torch.tensor(table) for table in tables]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", default=ROOT / "data/traces/deepseek-v2-lite.load.jsonl")
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--solution", default=ROOT / "bench/adrs_solution.py")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    windows = windows_of(options.trace, options.records)
    if len(windows) < 2:
        parser.error(f"--records: {options.records} leave {len(windows)} windows, expected 2")
    policies = {
        "EPLB in plain Python": (reference, 1),
        "lplb.rebalance_experts": (lplb.rebalance_experts, options.repeat),
        pathlib.Path(options.solution).name: (program_of(options.solution), options.repeat),
    }
    print("| policy | score | balancedness, even split | ms a call | balancedness, exact split |")
    print("|---|---|---|---|---|")
    for name, (rebalance, repeat) in policies.items():
        row = evaluate(rebalance, windows, repeat)
        print(
            f"| {name} | {row['score']:.1f} | {row['balancedness']:.4f} | {row['ms']:.2f} | "
            f"{row['exact']:.4f} |"
        )


if __name__ == "__main__":
    main()
