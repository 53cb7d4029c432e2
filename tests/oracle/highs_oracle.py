#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `lplb solve` with HiGHS on random and worst-case instances.

usage: highs_oracle.py LPLB [SEED [ROUNDS]]

If all speeds are 1, the least T in whole tokens is the linear program's optimum, rounded up. For
other speeds HiGHS solves the integer program. The results of the command must add up, and their
bottleneck ranks must prove the bound by its definition, in fractions. The exit status is 77 if
highspy is not installed.
"""

import fractions
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

from split_lp import live_ranks, quiet_highs, split_lp

BATCHES = 6


def placement_of(num_ranks, experts, **optional):
    return {
        "num_ranks": num_ranks,
        "num_logical_experts": max(experts) + 1,
        "physical_to_logical": experts,
        **optional,
    }


def ring(n):
    return placement_of(n, [e for g in range(n) for e in ((g - 1) % n, g)])


def chain(n):
    """Expert i is on ranks i and i + 1; the two ends have one more expert each."""
    inner = [e for g in range(1, n - 1) for e in (g - 1, g)]
    return placement_of(n, [n - 1, 0] + inner + [n - 2, n])


def star(n):
    """Rank 0 shares one expert with each other rank; all other experts are on one rank."""
    slots = list(range(n))
    for leaf in range(n):
        slots += [leaf] + [n + leaf * (n - 1) + i for i in range(n - 1)]
    return placement_of(n + 1, slots)


def everywhere(n):
    return placement_of(n, [e for g in range(n) for e in (0, g + 1)])


def random_placement(rng, max_ranks, max_slots):
    """Random numbers of replicas, also several on one rank; some ranks are dead, some have another
    speed."""
    num_ranks, slots = rng.randint(1, max_ranks), rng.randint(1, max_slots)
    alive = [True] * num_ranks
    if rng.random() < 0.25:
        alive = [rng.random() < 0.75 for _ in alive]
        alive[rng.randrange(num_ranks)] = True
    live_slots = [p for p in range(num_ranks * slots) if alive[p // slots]]
    num_logical = rng.randint(1, len(live_slots))
    experts = [rng.randrange(num_logical) for _ in range(num_ranks * slots)]
    for expert, physical in enumerate(rng.sample(live_slots, num_logical)):
        experts[physical] = expert
    optional = {} if all(alive) else {"rank_alive": alive}
    if rng.random() < 0.25:
        optional["rank_speed"] = [rng.choice([0.25, 0.5, 1.0, 1.0, 1.5, 2.0, 4.0]) for _ in alive]
    return placement_of(num_ranks, experts, **optional)


def eplb_like(rng, num_ranks, num_logical, num_replicas):
    slots = list(range(num_logical)) + rng.choices(range(num_logical // 4), k=num_replicas)
    rng.shuffle(slots)
    return placement_of(num_ranks, slots)


def random_load(rng, num_logical):
    shape = rng.choice(["uniform", "lognormal", "one hot", "equal", "few"])
    top = rng.choice([1, 10, 1000, 100000])
    if shape == "lognormal":
        return [int(top * math.exp(rng.gauss(0, 1.5))) for _ in range(num_logical)]
    if shape == "one hot":
        hot = rng.randrange(num_logical)
        return [top * num_logical if e == hot else rng.randint(0, 2) for e in range(num_logical)]
    if shape == "equal":
        return [top] * num_logical
    if shape == "few":
        return [rng.randint(0, top) if rng.random() < 0.3 else 0 for _ in range(num_logical)]
    return [rng.randint(0, top) for _ in range(num_logical)]


def placements(rng, rounds):
    for n in (2, 5, 8, 9, 24):
        yield from (ring(n), chain(max(n, 3)), star(n), everywhere(n))
    for num_ranks, num_logical, num_replicas in ((32, 256, 32), (64, 256, 64), (128, 256, 128)):
        yield eplb_like(rng, num_ranks, num_logical, num_replicas)
    for _ in range(rounds):
        yield random_placement(rng, 8, 5)
        yield random_placement(rng, 24, 4)


def optimum(placement, load):
    """The least T that HiGHS finds. If all speeds are equal, it is rounded up to whole tokens."""
    uneven = len(set(placement.get("rank_speed", [1.0]))) > 1
    program = split_lp(placement, integer=uneven)
    program.set_load(load)
    highs = quiet_highs()
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("mip_abs_gap", 1e-6)
    highs.passModel(program.lp)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    value = highs.getObjectiveValue()
    if uneven:
        return value
    speed = placement.get("rank_speed", [1.0])[0]
    # An optimum is a multiple of 1 / (ranks in the tight set), which is far above this tolerance.
    return math.ceil(value * speed - 1e-3) / speed


def check(placement, load, result, expected):
    """Yields the problems of one result, as text."""
    num_ranks = placement["num_ranks"]
    experts = placement["physical_to_logical"]
    slots = len(experts) // num_ranks
    speed = [fractions.Fraction(s) for s in placement.get("rank_speed", [1.0] * num_ranks)]
    taken, rank_load = [0] * len(load), [0] * num_ranks
    for physical, tokens in enumerate(result["physical_load"]):
        if tokens < 0:
            yield f"slot {physical} takes {tokens} tokens"
        taken[experts[physical]] += tokens
        rank_load[physical // slots] += tokens
    alive = placement.get("rank_alive", [True] * num_ranks)
    if any(tokens and not live for tokens, live in zip(rank_load, alive)):
        yield "a dead rank takes tokens"
    if taken != load:
        yield f"experts give {load}, slots take {taken}"
    if rank_load != result["rank_load"]:
        yield f"rank_load {result['rank_load']}, slots add up to {rank_load}"

    reached = max(tokens / s for tokens, s in zip(map(fractions.Fraction, rank_load), speed))
    if not math.isclose(reached, result["max_load"], rel_tol=1e-12):
        yield f"max_load {result['max_load']}, rank_load says {float(reached)}"
    if not math.isclose(reached, expected, rel_tol=1e-8, abs_tol=1e-6):
        yield f"max_load {result['max_load']}, HiGHS {expected}"
    if result["status"] != "optimal" or result["lower_bound"] != result["max_load"]:
        yield f"status {result['status']}, lower_bound {result['lower_bound']}"

    inside = set(result["bottleneck_ranks"])
    room = sum(max(0, math.ceil(reached * speed[g]) - 1) for g in inside if alive[g])
    need = sum(w for w, places in zip(load, live_ranks(placement)) if inside.issuperset(places))
    if reached > 0 and room >= need:
        yield f"ranks {sorted(inside)} do not prove {float(reached)}: room {room}, need {need}"


def main():
    lplb = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    rng = random.Random(seed)
    checked = problems = 0
    with tempfile.TemporaryDirectory() as folder:
        placement_file, load_file = (pathlib.Path(folder, name) for name in ("p.json", "l.json"))
        for placement in placements(rng, rounds):
            loads = [random_load(rng, placement["num_logical_experts"]) for _ in range(BATCHES)]
            placement_file.write_text(json.dumps(placement))
            load_file.write_text(json.dumps({"load": loads}))
            expected = [optimum(placement, load) for load in loads]
            solvers = ["auto", "flow"] + ["cut"] * (placement["num_ranks"] <= 8)
            for solver in solvers:
                files = ["--placement", placement_file, "--load", load_file]
                command = [lplb, "solve", *files, "--solver", solver, "--json", "-"]
                run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                results = json.loads(run.stdout)["results"]
                if len(results) != len(loads):
                    sys.exit(f"{len(loads)} batches, {len(results)} results")
                for load, result, best in zip(loads, results, expected):
                    checked += 1
                    for problem in check(placement, load, result, best):
                        problems += 1
                        print(f"{solver}: {problem}\n  {json.dumps(placement)}\n  {load}")
    print(f"{checked} results checked against HiGHS {quiet_highs().version()}, {problems} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
