#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How far the copies of `lplb replicate` are from the optimum, at 8 ranks with one slot each.

usage: replicate_quality.py LPLB [--instances N] [--seconds S] [--table]

Instances take turns between recorded loads (Qwen3-30B-A3B, DeepSeek-V2-Lite) and hard ones: few
experts of very unequal loads, and hot ranks. The optimum is the mean load, rounded up, if the plan
reaches it: no plan can be below. Otherwise HiGHS finds it by mixed-integer programming, for at most
S seconds an instance (60). If that is not enough, HiGHS's own bound takes the place of the optimum,
so that the distance is never too small. The mean distance of all instances must be at most 0.5 %.
The exit status is 77 if highspy is not installed.
"""

import argparse
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

from replicate_oracle import check, least_load

RANKS = 8
MEAN_DISTANCE = 0.005
TRACES = pathlib.Path(__file__).resolve().parents[2] / "data" / "traces"


def recorded(name, least_tokens):
    """Each layer of each step with enough tokens, in an order that mixes steps and layers."""
    with open(TRACES / name) as file:
        steps = [json.loads(line) for line in file]
    loads = [
        load for s in steps if s.get("num_tokens", 0) >= least_tokens for load in s.get("load", [])
    ]
    random.Random(1).shuffle(loads)
    return loads


def hard(rng):
    """Loads that are far from even, and of which few experts can fill a rank."""
    while True:
        for experts in (32, 64, 128):
            for sigma in (0.7, 1.0, 1.5, 2.0):
                yield [int(2000 * math.exp(rng.gauss(0, sigma))) for _ in range(experts)]
            # Two ranks with equally hot experts.
            own = experts // RANKS
            yield [rng.randint(900, 1100) if e < 2 * own else 100 for e in range(experts)]


def instances():
    """(kind, load)"""
    qwen = recorded("qwen3-30b-a3b.load.jsonl", 0)
    deepseek = recorded("deepseek-v2-lite.load.jsonl", 1024)
    drawn = hard(random.Random(1))
    for one, other in zip(qwen, deepseek, strict=False):
        yield "Qwen3-30B-A3B", one
        yield "hard", next(drawn)
        yield "DeepSeek-V2-Lite", other
        yield "hard", next(drawn)


def plan_of(lplb, placement, load):
    with tempfile.TemporaryDirectory() as folder:
        placement_file, load_file = (pathlib.Path(folder, name) for name in ("p.json", "l.json"))
        placement_file.write_text(json.dumps(placement))
        load_file.write_text(json.dumps({"load": [load]}))
        files = ["--placement", placement_file, "--load", load_file]
        run = subprocess.run(
            [lplb, "replicate", *files, "--slots", "1", "--json", "-"],
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(run.stdout)["results"][0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lplb")
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--table", action="store_true", help="print each instance")
    options = parser.parse_args()

    distances, problems, searched, unproven = [], 0, [], 0
    for i, (kind, load) in enumerate(instances()):
        if i == options.instances:
            break
        placement = {
            "num_ranks": RANKS,
            "num_logical_experts": len(load),
            "physical_to_logical": list(range(len(load))),
        }
        result = plan_of(options.lplb, placement, load)
        for text in check(placement, load, result, 1, 1):
            problems += 1
            print(f"{kind}: {text}\n  {load}")
        best, proven = -(-sum(load) // RANKS), True
        if result["max_load"] > best:
            # Loads in whole tokens: the least is rounded up.
            found, proven = least_load(placement, load, 1, 1, options.seconds)
            best = max(best, math.ceil(found * (1 - 1e-6)))
            searched.append(result["max_load"] / best - 1)
            unproven += not proven
            if proven and result["lower_bound"] > best:
                problems += 1
                print(f"{kind}: lower_bound {result['lower_bound']}, HiGHS {best}\n  {load}")
        if result["max_load"] < best:
            problems += 1
            print(f"{kind}: max_load {result['max_load']}, HiGHS {best}\n  {load}")
        distances.append(result["max_load"] / best - 1)
        if options.table:
            mark = "" if proven else " (HiGHS's bound)"
            ratio = result["max_load"] * RANKS / max(sum(load), 1)
            print(
                f"{kind}, {len(load)} experts: {ratio:.4f}, {distances[-1]:.3%}{mark}", flush=True
            )
    mean = sum(distances) / len(distances)
    print(
        f"{len(distances)} plans at {RANKS} ranks, {problems} problems: mean distance to the "
        f"optimum {mean:.3%}, worst {max(distances):.3%}; {len(distances) - len(searched)} reach "
        f"the mean load, {sum(d <= 0 for d in searched)} more the optimum"
        + (f"; {unproven} against HiGHS's bound" if unproven else "")
    )
    sys.exit(1 if problems or mean > MEAN_DISTANCE else 0)


if __name__ == "__main__":
    main()
