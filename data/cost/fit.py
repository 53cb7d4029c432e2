#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fits cost models to measured points.

usage: fit.py [--write] [POINTS.json...]

Reads points/*.json, or the given files, and prints the model of each with the errors of its fit.
--write writes the models next to this script.

A point is the tokens of each expert on one rank, and the time of the rank. The time of a rank is
fitted as a constant plus a sum over its experts of a table that never descends. The fit makes the
sum of squared relative errors least. Every fifth of the random points is left out of the fit: the
error on these is that on vectors that the fit has not seen.
"""

import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).parent
STEPS = [128, 256, 384, 512]  # the tile of the kernels is 128 rows
THEN_EVERY = 256
HELD_OUT = 5  # every fifth random point
PASSES = 4000


def features(tokens):
    """What multiplies the unknowns: the constant, the rise of each step, and that of the tail."""
    counts = [n for n in tokens if n > 0]
    above = [sum(n > limit for n in counts) for limit in STEPS[:-1]]
    tail = sum(-(-(n - STEPS[-1]) // THEN_EVERY) for n in counts if n > STEPS[-1])
    return [1.0, float(len(counts)), *map(float, above), float(tail)]


def least_squares(rows, times):
    """Unknowns >= 0 with the least sum of squared relative errors, by coordinate descent."""
    scaled = [[x / time for x in row] for row, time in zip(rows, times)]
    count = len(scaled[0])
    gram = [[sum(r[i] * r[j] for r in scaled) for j in range(count)] for i in range(count)]
    right = [sum(r[i] for r in scaled) for i in range(count)]
    unknowns = [0.0] * count
    for _ in range(PASSES):
        for i in range(count):
            others = sum(gram[i][j] * unknowns[j] for j in range(count) if j != i)
            unknowns[i] = max(0.0, (right[i] - others) / gram[i][i]) if gram[i][i] > 0 else 0.0
    return unknowns


def model_of(points, unit):
    """The model as its file has it. One decimal is finer than the measurement."""
    rank, *rises, tail = least_squares([features(p["tokens"]) for p in points], times_of(points))
    cost = [round(sum(rises[: i + 1]), 1) for i in range(len(rises))]
    return {
        "unit": unit,
        "rank": round(rank, 1),
        "tokens": STEPS,
        "cost": cost,
        "then_every": THEN_EVERY,
        "then_cost": round(tail, 1),
    }


def times_of(points):
    return [p["us"] for p in points]


def cost_of(model, n):
    for limit, cost in zip(model["tokens"], model["cost"]):
        if n <= limit:
            return cost if n > 0 else 0.0
    more = -(-(n - model["tokens"][-1]) // model["then_every"])
    return model["cost"][-1] + more * model["then_cost"]


def errors(model, points):
    """Relative errors, ascending."""
    found = [model["rank"] + sum(cost_of(model, n) for n in p["tokens"]) for p in points]
    return sorted(abs(f / t - 1) for f, t in zip(found, times_of(points)))


def tokens_error(points):
    """The mean error of the best constant and price for each token, for comparison."""
    rows = [[1.0, float(sum(p["tokens"]))] for p in points]
    base, price = least_squares(rows, times_of(points))
    return statistics.fmean(
        abs((base + price * row[1]) / t - 1) for row, t in zip(rows, times_of(points))
    )


def main():
    arguments = sys.argv[1:]
    write = "--write" in arguments
    files = [pathlib.Path(a) for a in arguments if a != "--write"]
    for path in files or sorted((HERE / "points").glob("*.json")):
        measured = json.loads(path.read_text())
        points = [p for p in measured["points"] if any(p["tokens"])]
        grid = [p for p in points if len({n for n in p["tokens"] if n > 0}) == 1]
        random = [p for p in points if p not in grid]
        unseen = random[::HELD_OUT]
        model = model_of(grid + [p for p in random if p not in unseen], measured["unit"])
        all_errors, unseen_errors = errors(model, points), errors(model, unseen)
        print(f"{path.name}: {json.dumps(model)}")
        print(
            f"  mean error {statistics.fmean(all_errors):.1%} of {len(points)} points, "
            f"{statistics.fmean(unseen_errors):.1%} of {len(unseen)} unseen ones "
            f"(90th percentile {unseen_errors[int(0.9 * len(unseen))]:.1%}); "
            f"a price for each token {tokens_error(points):.1%}"
        )
        if write:
            lines = ",\n ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in model.items())
            (HERE / path.name).write_text("{\n " + lines + "\n}\n")


if __name__ == "__main__":
    main()
