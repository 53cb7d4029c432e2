#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What splits take in real time: the grouped matrix products of each rank, timed on one GPU.

usage: rank_time.py [--seconds N] [--cells NAME ...] [--json FILE] [--by-model]

Each rank of a group is played by the same GPU, one after another: its experts' SwiGLU layer in
bfloat16, by PyTorch's grouped products, as a CUDA graph. The slowest rank is the time of a layer.
Loads are recorded ones and the hard ones of bench/METHOD.md. Compared are no replicas; and over
EPLB's placement and over homes with replica slots the even split, the split by tokens and the split
by time with the models of data/cost. Prints a table of mean microseconds over the batches, and
which targets are met.
--by-model: no GPU; the cost model says the times. The figures are no measurements.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from batches import ROOT, Pair, hard_batches, recorded_topk, stretches

import lplb
from lplb.calibration import GroupedExperts

HISTORY = 4096  # tokens that a placement is made from, at most
SPLITS = ("even", "tokens", "time")
LAYERS = {  # hidden, width, cost model
    "dsv3": (7168, 2048, "h200-dsv3-bf16"),
    "dsv2lite": (2048, 1408, "h200-dsv2lite-bf16"),
    "qwen3-30b": (2048, 768, "h200-qwen3-30b-bf16"),
}


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    loads: str  # a recorded trace, "hard mild" or "hard skew"
    layer: str
    num_ranks: int
    redundants: int
    tokens: int  # of a batch, in all

    @property
    def name(self) -> str:
        group = f"EP{self.num_ranks}+{self.redundants}"
        return f"{self.loads}/{self.layer}/{group}/{self.tokens}"


CELLS = [
    Cell(loads, layer, ranks, redundants, tokens)
    for loads, layer, ranks, redundants, sizes in (
        ("deepseek-v2-lite", "dsv3", 8, 2, (64, 256, 1024, 4096, 32768)),
        ("deepseek-v2-lite", "dsv2lite", 8, 2, (64, 256, 32768)),
        ("qwen3-30b-a3b", "qwen3-30b", 16, 1, (128, 512, 65536)),
        ("hard mild", "dsv3", 8, 2, (64, 256, 32768)),
        ("hard skew", "dsv3", 8, 2, (64, 256, 32768)),
    )
    for tokens in sizes
]


class Timer(Protocol):
    def laps(self, vectors: list[list[int]], rounds: int) -> list[list[float]]:
        """Microseconds of one rank's layer for the tokens of each slot: [vectors][rounds]."""


class ModelTimer:
    """Says what a cost model says, in place of a measurement."""

    def __init__(self, model: lplb.CostModel) -> None:
        self.model = model

    def laps(self, vectors: list[list[int]], rounds: int) -> list[list[float]]:
        return [[self.time(v)] * rounds for v in vectors]

    def time(self, vector: list[int]) -> float:
        parts = [self.model.expert_cost(n) for n in vector if n > 0]
        return sum(parts) + self.model.rank_cost() if parts else 0.0


def recorded_batches(trace: str, tokens: int) -> Iterator[Pair]:
    """(past load, load) of batches of consecutive recorded tokens, spread over trace and layers.

    A batch that is longer than its recording is the load of fewer tokens times a whole number.
    """
    topk = recorded_topk(trace)
    num_experts = int(topk.max()) + 1
    history = min(HISTORY, len(topk) // 2)
    length = min(tokens, HISTORY, len(topk) - history)
    while tokens % length:
        length -= 1
    for stretch in stretches(topk, history, length):
        past, now = (np.bincount(ids.ravel(), minlength=num_experts) for ids in stretch)
        yield past, now * (tokens // length)


def batches_of(cell: Cell) -> Iterator[Pair]:
    if cell.loads.startswith("hard "):
        return hard_batches(cell.loads.removeprefix("hard "), cell.tokens)
    return recorded_batches(cell.loads, cell.tokens)


def homes_and_slots(past: np.ndarray, num_ranks: int, redundants: int) -> lplb.Placement:
    """Contiguous homes, then `redundants` slots on each rank for replicas of hot experts.

    The next replica is of the expert with the most load a replica, as EPLB has it; it goes to the
    least loaded rank that has a free slot and not the expert.
    """
    experts = len(past)
    each = experts // num_ranks
    ranks = [list(range(g * each, (g + 1) * each)) for g in range(num_ranks)]
    count = np.ones(experts, np.int64)
    for _ in range(num_ranks * redundants):
        share = past / count
        carried = [sum(share[e] for e in r) for r in ranks]
        open_ranks = [g for g in range(num_ranks) if len(ranks[g]) < each + redundants]
        for expert in np.argsort(-share, kind="stable"):
            free = [g for g in open_ranks if expert not in ranks[g]]
            if free:
                ranks[min(free, key=lambda g: (carried[g], g))].append(int(expert))
                count[expert] += 1
                break
    return lplb.Placement([e for r in ranks for e in r], num_ranks)


def placements_of(past: np.ndarray, cell: Cell) -> dict[str, lplb.Placement]:
    slots = len(past) + cell.num_ranks * cell.redundants
    found = lplb.rebalance_experts(past[None], slots, 1, 1, cell.num_ranks)[0][0]
    return {
        "EPLB": lplb.Placement(found, cell.num_ranks),
        "homes": homes_and_slots(past, cell.num_ranks, cell.redundants),
    }


def splits_of(
    past: np.ndarray, load: np.ndarray, cell: Cell, model: lplb.CostModel
) -> tuple[dict[str, list[list[int]]], dict[str, float]]:
    """The tokens of each slot of each rank, by split; and the proven bound of each placement."""
    plain = lplb.Placement(list(range(len(load))), cell.num_ranks)
    taken = {"none": (plain, lplb.split_evenly(plain, load))}
    bound = {}
    for name, placement in placements_of(past, cell).items():
        by_time = lplb.solve(placement, load, cost=model)
        assert by_time.cost_lower_bound is not None
        bound[name] = by_time.cost_lower_bound
        taken[f"{name} even"] = placement, lplb.split_evenly(placement, load)
        taken[f"{name} tokens"] = placement, lplb.solve(placement, load).physical_load
        taken[f"{name} time"] = placement, by_time.physical_load
    ranks = {}
    for name, (placement, slots) in taken.items():
        carried = np.zeros(len(load), np.int64)
        np.add.at(carried, np.asarray(placement.physical_to_logical), slots)
        assert (carried == load).all(), name
        ranks[name] = np.asarray(slots).reshape(cell.num_ranks, -1).tolist()
    return ranks, bound


@dataclass
class Result:
    """A cell's layer times by split: the slowest rank, in microseconds, of each batch."""

    cell: Cell
    time: dict[str, list[float]] = field(default_factory=dict)
    predicted: dict[str, list[float]] = field(default_factory=dict)  # by the cost model
    bound: dict[str, list[float]] = field(default_factory=dict)  # of the model's cost
    noise: list[float] = field(default_factory=list)  # relative difference of two halves

    def mean(self, split: str) -> float:
        return statistics.fmean(self.time[split])

    def ratio(self, split: str, base: str) -> float:
        return self.mean(split) / self.mean(base)


def slowest(rank_times: list[float]) -> float:
    return max(rank_times)


def measure_batch(
    result: Result, timer: Timer, model: lplb.CostModel, past: Any, load: Any, rounds: int
) -> None:
    """Times all ranks of all splits of one batch, each different vector once a round."""
    ranks, bound = splits_of(past, load, result.cell, model)
    vectors = sorted({tuple(v) for split in ranks.values() for v in split})
    laps = dict(zip(vectors, timer.laps([list(v) for v in vectors], rounds), strict=True))
    by_model = ModelTimer(model)
    for name, split in ranks.items():
        taken = [laps[tuple(v)] for v in split]
        result.time.setdefault(name, []).append(slowest([statistics.median(t) for t in taken]))
        halves = [slowest([statistics.median(t[i::2]) for t in taken]) for i in range(2)]
        result.noise.append(abs(halves[0] / halves[1] - 1) if halves[1] > 0 else 0.0)
        result.predicted.setdefault(name, []).append(slowest([by_model.time(v) for v in split]))
    for name, value in bound.items():
        result.bound.setdefault(name, []).append(value)


def measure(cell: Cell, timer: Timer, seconds: float, most: int) -> Result:
    """Measures batches until `seconds` are over, at least one and at most `most`."""
    model = lplb.CostModel.load(ROOT / "data" / "cost" / f"{LAYERS[cell.layer][2]}.json")
    rounds = 6 if cell.tokens * 8 < 8192 * cell.num_ranks else 4
    result = Result(cell)
    end = time.monotonic() + seconds
    for i, (past, load) in enumerate(batches_of(cell)):
        if i > 0 and (i >= most or time.monotonic() >= end):
            break
        measure_batch(result, timer, model, past, load, rounds)
    return result


def header() -> str:
    columns = ["none", *(f"{p} {s}" for p in ("EPLB", "homes") for s in SPLITS)]
    ratios = ["EPLB time/tokens", "EPLB time/none", "homes time/tokens", "homes time/none"]
    return (
        "| loads/layer/ranks/tokens | batches | " + " | ".join([*columns, *ratios]) + " | noise |"
    )


def row(result: Result) -> str:
    """The means, and the split by time as a part of others."""
    names = ["none", *(f"{p} {s}" for p in ("EPLB", "homes") for s in SPLITS)]
    ratios = [
        result.ratio(f"{p} time", base)
        for p in ("EPLB", "homes")
        for base in (f"{p} tokens", "none")
    ]
    return (
        f"| {result.cell.name} | {len(result.noise) // len(names)} | "
        + " | ".join(f"{result.mean(name):.1f}" for name in names)
        + " | "
        + " | ".join(f"{r - 1:+.1%}" for r in ratios)
        + f" | {statistics.fmean(result.noise):.1%} |"
    )


def targets(results: list[Result]) -> Iterator[tuple[str, float, float]]:
    """(what, the ratio that was measured, the most that it may be)."""
    for r in results:
        decode = r.cell.layer == "dsv3" and r.cell.loads == "deepseek-v2-lite"
        decode = decode and r.cell.tokens in (64, 256)
        noise = statistics.fmean(r.noise)
        for place in ("EPLB", "homes"):
            by_time = f"{place} time"
            limits = []
            if decode:
                limits.append((f"{place} tokens", 0.88))
            if decode and (place == "homes" or r.cell.tokens == 64):
                limits.append(("none", 1.01 if place == "homes" else 1.03))
            if r.cell.tokens == 4096 * r.cell.num_ranks:
                limits.append((f"{place} tokens", 1.01))
            slowest_other = max(["none", f"{place} even", f"{place} tokens"], key=r.mean)
            limits.append((slowest_other, 1 + noise))
            for base, most in limits:
                yield f"{r.cell.name}: {by_time} / {base}", r.ratio(by_time, base), most


def to_json(results: list[Result], machine: str) -> str:
    cells = [
        {
            "cell": r.cell.name,
            "tokens": r.cell.tokens,
            "mean_us": {name: r.mean(name) for name in r.time},
            "us": r.time,
            "predicted_us": r.predicted,
            "model_bound_us": r.bound,
            "noise": statistics.fmean(r.noise),
        }
        for r in results
    ]
    return json.dumps({"machine": machine, "unit": "us", "cells": cells}, indent=1) + "\n"


def gpu_timer(cell: Cell, made: dict[tuple[str, int], GroupedExperts]) -> GroupedExperts:
    """The layer with as many slots as a rank has; weights are made once for each size."""
    hidden, width, _ = LAYERS[cell.layer]
    experts = 128 if cell.loads.startswith("qwen3") else 256 if "hard" in cell.loads else 64
    slots = experts // cell.num_ranks + cell.redundants
    if (cell.layer, slots) not in made:
        made.clear()
        made[cell.layer, slots] = GroupedExperts(hidden, width, slots)
    return made[cell.layer, slots]


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the splits' grouped products on a GPU.")
    parser.add_argument("--seconds", type=float, default=150, help="for all cells (%(default)s)")
    parser.add_argument("--most", type=int, default=60, help="batches of a cell (%(default)s)")
    parser.add_argument("--cells", nargs="+", help="only cells whose name holds one of these")
    parser.add_argument("--json", type=pathlib.Path, help="write all times to this file")
    parser.add_argument("--by-model", action="store_true", help="no GPU: times by the cost model")
    options = parser.parse_args()
    machine = "the cost models, no measurement"
    if not options.by_model:
        import torch

        if not torch.cuda.is_available():
            print("rank_time: skipped, there is no GPU")
            return 0
        machine = f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
    cells = [c for c in CELLS if not options.cells or any(t in c.name for t in options.cells)]
    print(f"mean microseconds of a layer's slowest rank; {machine}")
    head = header()
    print(head + "\n|" + "---|" * (head.count("|") - 1))
    end = time.monotonic() + options.seconds
    made: dict[tuple[str, int], GroupedExperts] = {}
    results = []
    for i, cell in enumerate(cells):
        timer: Timer
        if options.by_model:
            name = LAYERS[cell.layer][2]
            timer = ModelTimer(lplb.CostModel.load(ROOT / "data" / "cost" / f"{name}.json"))
        else:
            timer = gpu_timer(cell, made)
        share = max(0.0, end - time.monotonic()) / (len(cells) - i)
        results.append(measure(cell, timer, share, options.most))
        print(row(results[-1]), flush=True)
        if options.json:  # also if the run is stopped
            options.json.write_text(to_json(results, machine))
    print("\n| target | measured | at most | met |\n|---|---|---|---|")
    for what, found, most in targets(results):
        met = "yes" if found <= most else "no"
        print(f"| {what} | {found - 1:+.1%} | {most - 1:+.1%} | {met} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
