# SPDX-License-Identifier: MIT
"""Cost models, and splits by them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import lplb

MODEL: dict[str, Any] = {
    "unit": "us",
    "rank": 32.1,
    "tokens": [128, 256, 384, 512],
    "cost": [31.0, 42.1, 65.3, 76.4],
    "then_every": 256,
    "then_cost": 34.3,
}


def staircase() -> lplb.CostModel:
    return lplb.CostModel(MODEL["tokens"], MODEL["cost"], then_every=256, then_cost=34.3, rank=32.1)


def test_a_file_is_written_and_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.json"
    staircase().save(path)
    assert json.loads(path.read_text()) == MODEL
    assert lplb.CostModel.load(path) == staircase()
    both = lplb.CostModel.by_rank([staircase(), lplb.CostModel.weights_only()])
    assert both.num_tables == 2 and both != staircase()
    both.save(path)
    assert lplb.CostModel.load(path) == both
    assert both.expert_cost(9, rank=0) == 31.0 and both.expert_cost(9, rank=1) == 1.0
    assert both.expert_cost(9, rank=0, speed=0.5) == 62.0


def test_a_split_by_cost_is_proven(cube: lplb.Placement) -> None:
    load = np.random.default_rng(3).integers(0, 60, 64)
    split = lplb.solve(cube, load, cost=staircase())
    split.verify()
    assert split.solver == "time" and split.status == "optimal"
    assert split.max_cost == split.cost_lower_bound == max(split.rank_cost)
    assert split.active_experts.sum() == np.count_nonzero(load)
    assert split.max_cost == pytest.approx(32.1 + 31.0 * max(split.active_experts))
    assert (split.active_experts > 0).all() and len(split.cost_bottleneck_ranks) > 0
    by_tokens = lplb.solve(cube, load)
    assert by_tokens.max_cost is None and by_tokens.rank_cost is None
    assert by_tokens.max_load <= split.max_load


def test_a_replay_has_costs(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.json"
    staircase().save(path)
    trace = "synthetic:W2_hot_rank"
    report = lplb.simulate(
        trace, policies="eplb,eplb+time", batch_tokens=0, cost=path, num_threads=2
    )
    eplb, time = (report.policy(name)["cost"] for name in ("eplb", "eplb+time"))
    assert time["mean"] <= eplb["mean"] and time["gap"]["mean"] < eplb["gap"]["mean"]
    assert report["settings"]["cost"] == MODEL and report["settings"]["cost_file"] == str(path)
    assert "--cost" in report.html
    given = lplb.simulate(trace, policies="eplb", cost=staircase())
    assert given.policy("eplb")["cost"] == eplb
    assert lplb.simulate(trace, policies="eplb").policy("eplb")["cost"] is None
    with pytest.raises(ValueError, match=r"policies: \"eplb\+time\" needs a cost model"):
        lplb.simulate(trace, policies="eplb+time")
    with pytest.raises(OSError, match="none.json"):
        lplb.simulate(trace, cost=tmp_path / "none.json")
    with pytest.raises(TypeError, match="cost: is a dict, expected a CostModel or a path"):
        lplb.simulate(trace, cost=MODEL)  # type: ignore[arg-type]


def test_bad_models_are_refused(cube: lplb.Placement, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"cost\[1\]: is 30"):
        lplb.CostModel([1, 2], [31, 30], then_every=1, then_cost=0)
    with pytest.raises(ValueError, match="tokens: is empty"):
        lplb.CostModel([], [], then_every=1, then_cost=0)
    with pytest.raises(ValueError, match="models: is empty"):
        lplb.CostModel.by_rank([])
    with pytest.raises(ValueError, match="cost: has tables for 2 ranks"):
        lplb.solve(cube, [1] * 64, cost=lplb.CostModel.by_rank([staircase()] * 2))
    with pytest.raises(ValueError, match="takes no cost model"):
        lplb.solve(cube, [1] * 64, cost=staircase(), solver="flow")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(dict(MODEL, cost=[1])))
    with pytest.raises(OSError, match="key cost: has 1 entries, expected 4"):
        lplb.CostModel.load(path)
