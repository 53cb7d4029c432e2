# SPDX-License-Identifier: MIT
"""Measures HiGHS on the instances of the split benchmarks. METHOD.md explains the forms.

usage: highs_bench.py INSTANCES OUT

INSTANCES is the JSON file that lplb_benchmarks --export-instances writes. OUT is a JSON file:
{"version": ..., "rows": [{"name": "highs/WORKLOAD/FORM", "seconds": ..., "batches": ...}]}
"""

import json
import math
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "oracle"))

from split_lp import quiet_highs, split_lp

INTEGER_BATCHES = 8  # instead of 64, because the integer program takes milliseconds


def timed(action):
    """The processor time of this thread. HiGHS runs only in it."""
    start = time.thread_time()
    action()
    return time.thread_time() - start


def solve_new(program, load, highs):
    """Solves a new model of the batch, from scratch."""
    program.set_load(load)

    def action():
        highs.passModel(program.lp)
        highs.run()

    return timed(action)


def solve_again(program, load, highs):
    """Changes the bounds in the same model; HiGHS starts from the previous batch's basis."""
    program.set_load(load)
    lp = program.lp
    rows = np.arange(lp.num_row_, dtype=np.int32)
    columns = np.arange(lp.num_col_, dtype=np.int32)
    highs.changeRowsBounds(lp.num_row_, rows, lp.row_lower_, lp.row_upper_)
    highs.changeColsBounds(lp.num_col_, columns, lp.col_lower_, lp.col_upper_)
    return timed(highs.run)


def solve_whole(program, load, highs):
    """Like solve_again; then T is rounded up to a whole number and fixed. The matrix is that of a
    network, so the tokens of a vertex are then whole too."""
    seconds = solve_again(program, load, highs)
    least = math.ceil(highs.getObjectiveValue() * (1 - 1e-9))
    highs.changeColBounds(0, least, least)
    seconds += timed(highs.run)
    values = np.array(highs.getSolution().col_value)
    if np.abs(values - values.round()).max() > 1e-4:
        sys.exit("a vertex is not whole")
    return seconds


def measure(program, loads, how, highs):
    """The mean seconds a batch, and the optimum of each batch."""
    program.set_load(loads[-1])
    highs.passModel(program.lp)
    highs.run()
    seconds, optima = 0.0, []
    for load in loads:
        seconds += how(program, load, highs)
        optima.append(highs.getObjectiveValue())
    return seconds / len(loads), optima


def measure_workload(workload):
    """The rows of one workload. All forms must find the same optimum of every batch."""
    placement, loads = workload["placement"], workload["load"]
    tuned_highs, whole_highs = quiet_highs(), quiet_highs()
    tuned_highs.setOptionValue("presolve", "off")
    whole_highs.setOptionValue("presolve", "off")
    exact_highs = quiet_highs()
    exact_highs.setOptionValue("mip_rel_gap", 0.0)
    exact_highs.setOptionValue("mip_abs_gap", 0.99)
    few = loads[:INTEGER_BATCHES]
    forms = [
        ("plain", split_lp(placement, plain=True), loads, solve_new, quiet_highs()),
        ("tuned", split_lp(placement), loads, solve_again, tuned_highs),
        ("whole", split_lp(placement), loads, solve_whole, whole_highs),
        ("integer", split_lp(placement, integer=True), few, solve_new, exact_highs),
    ]
    rows, plain_optima = [], None
    for form, program, batches, how, highs in forms:
        seconds, optima = measure(program, batches, how, highs)
        plain_optima = plain_optima or optima
        for one, other in zip(optima, plain_optima):
            whole = form in ("whole", "integer")
            expected = math.ceil(other * (1 - 1e-9)) if whole else other
            if abs(one - expected) > 1e-6 * other:
                sys.exit(f"{workload['name']}: {form} finds {one}, expected {expected}")
        name = f"highs/{workload['name']}/{form}"
        rows.append({"name": name, "seconds": seconds, "batches": len(batches)})
    return rows


def main():
    instances, out = sys.argv[1:]
    workloads = json.loads(pathlib.Path(instances).read_text())["workloads"]
    rows = [row for workload in workloads for row in measure_workload(workload)]
    result = {"version": quiet_highs().version(), "rows": rows}
    pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
