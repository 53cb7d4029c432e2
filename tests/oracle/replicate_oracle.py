#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `lplb replicate` with HiGHS: the exact optimum, by mixed-integer programming.

usage: replicate_oracle.py LPLB [SEED [ROUNDS]]

Small instances: homes alone, static replicas, dead ranks, speeds, domains. The result must keep its
slots and tokens, its bound must not be above the optimum, and its largest load must be near it. The
mean gap over all instances is at most 0.5 %. The exit status is 77 if highspy is not installed.
"""

import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

try:
    import highspy
except ImportError:
    print("skipped: this Python has no highspy")
    sys.exit(77)

from split_lp import live_ranks, quiet_highs

BATCHES = 5
MEAN_GAP = 0.005


def least_load(placement, load, slots, domains, seconds=math.inf):
    """The least T over all choices of copies and splits, in fractions of tokens, and True.

    If HiGHS has not proven it after `seconds`: what T is proven not to be below, and False.

    x[e, g] tokens of expert e go to rank g; y[e, g] says that g has a copy of e.
    """
    num_ranks = placement["num_ranks"]
    speed = placement.get("rank_speed") or [1.0] * num_ranks
    alive = placement.get("rank_alive") or [True] * num_ranks
    held = live_ranks(placement)
    scale = sum(load) / sum(s for s, live in zip(speed, alive) if live) or 1.0
    size = num_ranks // domains

    highs = quiet_highs()
    highs.setOptionValue("mip_rel_gap", 1e-7)
    level = highs.addVariable(lb=0.0)
    on_rank = [[] for _ in range(num_ranks)]
    copies = [[] for _ in range(num_ranks)]
    for e, tokens in enumerate(load):
        if tokens == 0:
            continue
        parts = []
        reached = {g // size for g in held[e]}
        for g in range(num_ranks):
            if not alive[g] or g // size not in reached:
                continue
            part = highs.addVariable(lb=0.0, ub=tokens / scale)
            parts.append(part)
            on_rank[g].append(part)
            if g not in held[e]:
                copy = highs.addBinary()
                copies[g].append(copy)
                highs.addConstr(part <= tokens / scale * copy)
        highs.addConstr(highs.qsum(parts) == tokens / scale)
    for g in range(num_ranks):
        if on_rank[g]:
            highs.addConstr(highs.qsum(on_rank[g]) <= speed[g] * level)
        if copies[g]:
            highs.addConstr(highs.qsum(copies[g]) <= slots)
    if seconds < math.inf:
        highs.setOptionValue("time_limit", seconds)
    highs.minimize(level)
    if highs.getModelStatus() == highspy.HighsModelStatus.kTimeLimit:
        return highs.getInfo().mip_dual_bound * scale, False
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return highs.getInfo().objective_function_value * scale, True


def check(placement, load, result, slots, domains):
    """Yields what is wrong with a result, from the definitions alone."""
    num_ranks = placement["num_ranks"]
    experts = placement["physical_to_logical"]
    main = len(experts) // num_ranks
    alive = placement.get("rank_alive") or [True] * num_ranks
    held = live_ranks(placement)
    size = num_ranks // domains
    taken, rank_load, copies = [0] * len(load), [0] * num_ranks, 0
    for g in range(num_ranks):
        own = experts[g * main : (g + 1) * main] + result["slot_expert"][g]
        tokens = result["physical_load"][g * (main + slots) : (g + 1) * (main + slots)]
        dynamic = [e for e in result["slot_expert"][g] if e >= 0]
        copies += len(dynamic)
        if len(own) != len(tokens) or len(result["slot_expert"][g]) != slots:
            yield f"rank {g}: {len(own)} slots, {len(tokens)} loads"
        if len(set(dynamic)) < len(dynamic) or set(dynamic) & set(own[:main]):
            yield f"rank {g} has {own}: an expert twice"
        for e in dynamic:
            if g // size not in {h // size for h in held[e]}:
                yield f"rank {g} has expert {e} from another domain"
        for e, count in zip(own, tokens):
            if count < 0 or (count > 0 and (e < 0 or not alive[g])):
                yield f"rank {g}: expert {e} takes {count} tokens"
            taken[e] += count
            rank_load[g] += count
    if taken != load:
        yield f"experts give {load}, slots take {taken}"
    if rank_load != result["rank_load"] or copies != result["copies"]:
        yield f"rank_load or copies are not {rank_load}, {copies}"
    speed = placement.get("rank_speed") or [1.0] * num_ranks
    reached = max(tokens / s for tokens, s in zip(rank_load, speed))
    if not math.isclose(reached, result["max_load"], rel_tol=1e-12):
        yield f"max_load {result['max_load']}, rank_load says {reached}"


def instances(rng, rounds):
    """(placement, slots, domains)."""
    for i in range(rounds):
        num_ranks = rng.choice([2, 3, 4, 6])
        own = rng.choice([1, 2, 4])
        num_logical = num_ranks * own
        physical = list(range(num_logical))
        if i % 3 == 1:  # a static replica in each rank
            columns = [physical[g * own : (g + 1) * own] for g in range(num_ranks)]
            physical = [e for c in columns for e in [*c, rng.randrange(num_logical)]]
        placement = {
            "num_ranks": num_ranks,
            "num_logical_experts": num_logical,
            "physical_to_logical": physical,
        }
        if i % 5 == 2:
            placement["rank_speed"] = [rng.choice([0.5, 1.0, 2.0]) for _ in range(num_ranks)]
        if i % 7 == 3 and i % 3 == 1:
            alive = [g != num_ranks - 1 for g in range(num_ranks)]
            slots = len(physical) // num_ranks
            if set(physical[:-slots]) == set(range(num_logical)):
                placement["rank_alive"] = alive
        domains = rng.choice([d for d in (1, 1, 2, 3) if num_ranks % d == 0])
        yield placement, rng.choice([1, 1, 2]), domains
    homes = {"num_ranks": 8, "num_logical_experts": 32, "physical_to_logical": list(range(32))}
    for _ in range(2):
        yield homes, 1, 1


def main():
    lplb = sys.argv[1]
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    gaps, problems = [], 0
    with tempfile.TemporaryDirectory() as folder:
        placement_file, load_file = (pathlib.Path(folder, name) for name in ("p.json", "l.json"))
        for placement, slots, domains in instances(rng, rounds):
            loads = [
                [
                    int(2000 * math.exp(rng.gauss(0, 1)))
                    for _ in range(placement["num_logical_experts"])
                ]
                for _ in range(BATCHES)
            ]
            placement_file.write_text(json.dumps(placement))
            load_file.write_text(json.dumps({"load": loads}))
            settings = ["--slots", str(slots), "--num-domains", str(domains)]
            files = ["--placement", placement_file, "--load", load_file]
            command = [lplb, "replicate", *files, *settings, "--json", "-"]
            run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            for load, result in zip(loads, json.loads(run.stdout)["results"], strict=True):
                best, _ = least_load(placement, load, slots, domains)
                wrong = list(check(placement, load, result, slots, domains))
                if result["lower_bound"] > best * (1 + 1e-6) + 1 / min(
                    placement.get("rank_speed") or [1.0]
                ):
                    wrong.append(f"lower_bound {result['lower_bound']}, HiGHS {best}")
                if result["max_load"] < best * (1 - 1e-6):
                    wrong.append(f"max_load {result['max_load']}, HiGHS {best}")
                gaps.append(result["max_load"] / best - 1)
                problems += len(wrong)
                for text in wrong:
                    print(f"{text}\n  {json.dumps(placement)} {settings}\n  {load}")
    mean = sum(gaps) / len(gaps)
    print(
        f"{len(gaps)} results checked against HiGHS {quiet_highs().version()}, {problems} "
        f"problems; gap mean {mean:.3%}, worst {max(gaps):.3%}"
    )
    sys.exit(1 if problems or mean > MEAN_GAP else 0)


if __name__ == "__main__":
    main()
