# SPDX-License-Identifier: MIT
"""Arguments of wrong types are named, and simulate() has every option of the command."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

import lplb

PLACEMENT = lplb.Placement([0, 1, 2, 0], num_ranks=2)
SYNTHETIC = "synthetic:W0_balanced"

#: A function and arguments that it takes.
CALLS: list[tuple[Any, dict[str, Any]]] = [
    (lplb.Placement, {"physical_to_logical": [0, 1, 2, 0], "num_ranks": 2}),
    (lplb.solve, {"placement": PLACEMENT, "load": [10, 2, 4]}),
    (lplb.solve_batch, {"placement": PLACEMENT, "loads": [[10, 2, 4]]}),
    (lplb.split_evenly, {"placement": PLACEMENT, "load": [10, 2, 4]}),
    (lplb.count, {"topk_idx": [[0]], "num_logical_experts": 3}),
    (
        lplb.map_tokens,
        {
            "placement": PLACEMENT,
            "counts": [[1, 0, 0], [0, 0, 0]],
            "physical_load": [1, 0, 0, 0],
            "rank": 0,
            "topk_idx": [[0]],
        },
    ),
    (lplb.imbalance, {"rank_load": [1, 2]}),
    (
        lplb.rebalance_experts,
        {"weight": [[1, 2, 3]], "num_replicas": 4, "num_groups": 1, "num_nodes": 1, "num_gpus": 2},
    ),
    (
        lplb.place_on_topology,
        {"weight": [[1] * 8], "topology": "ring:4", "redundants": 1, "num_ranks": 4},
    ),
    (lplb.moves, {"old": PLACEMENT, "new": PLACEMENT}),
    (lplb.keep_slots, {"old": PLACEMENT, "new": PLACEMENT}),
    (lplb.keep_ranks, {"old": PLACEMENT, "new": PLACEMENT}),
    (lplb.replicate, {"placement": PLACEMENT, "load": [10, 2, 4]}),
    (lplb.place_homes, {"loads": [[[1, 2, 3, 4]]], "num_replicas": 6, "num_ranks": 2}),
    (lplb.simulate, {"trace": SYNTHETIC, "policies": ["none"], "synthetic_num_steps": 1}),
    (lplb.Planner, {"placement": PLACEMENT, "rank": 0}),
]
#: Handles that are used later, and truth values.
FREE = {"keep_slots", "same_tokens", "comm"}


@pytest.mark.parametrize(
    ("function", "valid", "name"),
    [
        pytest.param(function, valid, name, id=f"{function.__name__}-{name}")
        for function, valid in CALLS
        for name in inspect.signature(function).parameters
        if name not in FREE
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_the_argument(
    function: Any, valid: dict[str, Any], name: str
) -> None:
    if name == "group":
        pytest.importorskip("torch")
    function(**valid)
    with pytest.raises(TypeError) as raised:
        function(**{**valid, name: object()})
    assert str(raised.value).startswith(name), raised.value


def command() -> str:
    found = os.environ.get("LPLB_COMMAND") or shutil.which("lplb")
    if not found:
        pytest.skip("the command is not there: LPLB_COMMAND may name it")
    return found


#: Options that choose what the command writes; a report has all of it.
OUTPUT = {"json", "html", "write_placement", "policy", "sweep", "help"}
RENAMED = {"threads": "num_threads"}


def test_simulate_has_every_option_of_the_command() -> None:
    text = subprocess.run(
        [command(), "simulate", "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"^  (?:-h,)?--([a-z0-9-]+)", text, re.M))
    names = {RENAMED.get(name, name) for name in (o.replace("-", "_") for o in options)}
    parameters = set(inspect.signature(lplb.simulate).parameters) - {"progress"}
    assert names - OUTPUT == parameters
    assert len(parameters) > 20


def test_the_shape_of_synthetic_traces() -> None:
    shape = {
        "num_logical_experts": 32,
        "num_topk": 2,
        "num_layers": 3,
        "num_steps": 5,
        "num_tokens": 100,
        "seed": 9,
    }
    options: dict[str, Any] = {f"synthetic_{name}": value for name, value in shape.items()}
    report = lplb.simulate(SYNTHETIC, policies="none", backend="auto", **options)
    assert report["trace"]["num_batches"] == 5
    assert report["settings"]["synthetic"] == shape
    with pytest.raises(ValueError, match="synthetic_num_topk: is for synthetic traces, x is a fi"):
        lplb.simulate("x", synthetic_num_topk=2)
    for name in shape:
        with pytest.raises(ValueError, match=f"synthetic_{name}: "):
            lplb.simulate(SYNTHETIC, **{f"synthetic_{name}": -1})  # type: ignore[arg-type]


def test_many_batches_are_solved_as_one_by_one() -> None:
    random = np.random.default_rng(5)
    maps = lplb.rebalance_experts(random.integers(1, 100, (1, 24)), 40, 1, 1, 8)
    placement = lplb.Placement(maps[0][0], num_ranks=8)
    loads = random.integers(0, 500, (30, 24))
    for num_threads in (1, 3):
        splits = lplb.solve_batch(placement, loads, num_threads=num_threads)
        assert len(splits) == 30 and splits.physical_load.shape == (30, 40)
        for i, load in enumerate(loads):
            one = lplb.solve(placement, load)
            assert (splits.physical_load[i] == one.physical_load).all()
            assert (splits.max_load[i], splits.lower_bound[i]) == (one.max_load, one.lower_bound)
            assert bool(splits.optimal[i]) == (one.status == "optimal")
    assert len(lplb.solve_batch(placement, loads[:0])) == 0
    with pytest.raises(ValueError, match=r"loads: has shape \[24\], expected \[num_batches, 24\]"):
        lplb.solve_batch(placement, loads[0])
    with pytest.raises(ValueError, match="-1"):
        lplb.solve_batch(placement, -np.ones((1, 24), np.int64))
