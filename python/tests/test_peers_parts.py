# SPDX-License-Identifier: MIT
"""The parts of bench/peers: the judge's figures, the loads, what adapters make of answers."""

from __future__ import annotations

import pathlib
import sys
import types
from typing import Any

import numpy as np
import pytest

import lplb

pytest.importorskip("torch")

from conftest import cuda_missing
from peers_stand_ins import Sglang, make_loads, part, small_loads


@pytest.mark.parametrize(
    ("first", "second", "most", "infeasible"),
    [
        (0.6, 0.4, 8, 0),  # the optimum
        (0.5, 0.5, 9, 0),
        (3, 2, 9, 1),  # in the right proportion, but clamped they are equal
        (1.25, -0.25, 12, 1),
        (1 + 5e-5, -5e-5, 12, 0),  # rounding
        (0, 0, 9, 0),
        (float("nan"), 0.4, 9, 1),
        (float("inf"), 0, 9, 1),
    ],
)
def test_shares_are_clamped_and_compared_with_the_optimum(
    first: float, second: float, most: float, infeasible: int
) -> None:
    loads = small_loads([10, 2, 4])
    quality = part("judge").judge_shares(loads, [[first, 1, 1, second]])
    assert quality.infeasible == infeasible
    assert quality.ratio == pytest.approx([most / 8], rel=1e-4)
    assert quality.imbalance == pytest.approx([most / 8], rel=1e-4)  # the mean is 8 too


def test_experts_without_tokens_have_no_bad_shares() -> None:
    loads = small_loads([0, 2, 4], [10, 0, 4])
    shares = [[float("nan"), 1, 1, 7], [0.7, -3, 1, 0.3]]
    quality = part("judge").judge_shares(loads, shares)
    assert quality.infeasible == 0
    assert quality.ratio == pytest.approx([1, 1])  # 4 of 4, and 7 of 7


def test_the_judge_agrees_with_sums_token_by_token(tmp_path: pathlib.Path) -> None:
    loads = make_loads("skew:EP16+16", tmp_path, 4, 1)
    draw = np.random.default_rng(3)
    shares = draw.uniform(-0.5, 1.5, (4, len(loads.physical_to_logical)))
    quality = part("judge").judge_shares(loads, shares.tolist())
    slots, each = loads.slots_of(), len(loads.physical_to_logical) // 16
    placement = lplb.Placement(loads.physical_to_logical, 16)
    for batch, load in enumerate(loads.batches):
        ranks = [0.0] * 16
        for expert, own in enumerate(slots):
            kept = [min(max(shares[batch][slot], 0), 1) for slot in own]
            for slot, share in zip(own, kept, strict=True):
                whole = sum(kept)
                ranks[slot // each] += load[expert] * (share / whole if whole else 1 / len(own))
        assert quality.imbalance[batch] == pytest.approx(max(ranks) / (sum(ranks) / 16))
        optimum = lplb.solve(placement, load).max_load
        assert quality.ratio[batch] == pytest.approx(max(ranks) / optimum)
    assert quality.infeasible == 4


@pytest.mark.parametrize(
    ("experts", "tokens", "message"),
    [
        ([0, 1, 2, 0], [6, 2, 4, 3], r"batch 0: expert 0 gets 9 tokens, expected 10"),
        ([0, 1, 2, 0], [11, 2, 4, -1], r"a slot less than none"),
        ([0, 1, 2, -1], [6, 2, 4, 4], r"an empty slot has tokens"),
        ([0, 1, 2], [10, 2, 4], r"has 3 slots and 3 loads, expected 4"),
    ],
)
def test_plans_that_carry_other_tokens_are_refused(
    experts: list[int], tokens: list[int], message: str
) -> None:
    plan = {"physical_to_logical": experts, "physical_load": tokens}
    with pytest.raises(ValueError, match=message):
        part("judge").judge_plans(small_loads([10, 2, 4]), [plan])


def test_plans_have_an_imbalance_and_no_ratio() -> None:
    plan = {"physical_to_logical": [0, 1, 2, -1], "physical_load": [10, 2, 4, 0]}
    found = {"plans": [plan]}
    quality = part("judge").judge(small_loads([10, 2, 4]), found)
    assert (quality.imbalance, quality.ratio, quality.infeasible) == ([1.5], None, 0)
    assert part("judge").judge(small_loads([10, 2, 4], [1, 1, 1]), found) is None
    with pytest.raises(ValueError, match="shares: have shape"):
        part("judge").judge(small_loads([10, 2, 4]), {"shares": [[1.0]]})


def test_loads_are_the_hard_ones(tmp_path: pathlib.Path) -> None:
    names = part("loads").NAMES
    assert len(names) == 12
    for name in names:
        loads = make_loads(name, tmp_path, 3, 5)
        assert (loads.batches.sum(1) == 4096 * 8 * loads.num_ranks).all()
        assert loads.topk_idx.shape == (3, 5, 8)
        assert len(set(loads.history.tolist())) == 256
        assert loads.history.sum() == pytest.approx(2**24, rel=1e-3)
        assert (loads.r2o is None) == ("EP" in name)
        log = np.log(loads.history)
        assert log.std() == pytest.approx(0.5 if "mild" in name else 1.2, rel=0.2)
        drift = np.log((loads.batches + 1) / loads.batches.sum(1, keepdims=True)) - log
        assert drift.std() == pytest.approx(0.34, rel=0.3)
        ranks = loads.physical_to_logical.reshape(loads.num_ranks, -1)
        assert all(len(set(rank)) == len(rank) for rank in ranks.tolist())


def test_weights_of_sglang_become_shares(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sglang", "sglang.srt", "sglang.srt.eplb", "sglang.kernels.ops.lplb"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    solver: Any = types.ModuleType("sglang.srt.eplb.lplb_solver")
    solver.LPLBSolver = Sglang
    monkeypatch.setitem(sys.modules, solver.__name__, solver)
    kernels: Any = types.ModuleType("cuda_solver")
    monkeypatch.setattr(sys.modules["sglang.kernels.ops.lplb"], "cuda_solver", kernels, False)
    adapter = part("sglang_lp")

    loads = make_loads("skew:cube8x2", tmp_path, 3, 5)
    case = adapter.prepare(loads, "cpu")
    quality = part("judge").judge_shares(loads, [case.answer(batch) for batch in range(3)])
    assert quality.infeasible == 0
    assert quality.ratio == pytest.approx([1, 1, 1], rel=1e-5)

    for version, message in (("0.5.22.post1", "expected 0.5.23 or newer"), ("0.5.23", "")):
        monkeypatch.setattr(adapter.metadata, "version", lambda _, v=version: v)
        if message:
            with pytest.raises(ImportError, match=message):
                adapter.find()
        else:
            assert adapter.find() == version


def test_what_was_measured_before_an_error_stays() -> None:
    adapter = part("adapter")

    def broken(batch: int) -> Any:
        raise ValueError("no\nluck")

    case = adapter.Case("shares", lambda batch: [1.0], {"solve": lambda b: int, "run": broken})
    found: dict[str, Any] = {}
    with pytest.raises(ValueError) as error:
        adapter.measure(case, 2, "cpu", found)
    assert found["shares"] == [[1.0], [1.0]]
    assert len(found["times"]["solve"]["eager"]) == 2 and "run" not in found["times"]
    assert adapter.describe(error.value) == "ValueError: no luck"
    assert adapter.describe(adapter.Refused("takes none")) == "takes none"


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["lplb_planner", "deepseek_lplb"])  # the latter: the drop-in
def test_ours_in_graphs_on_a_gpu(name: str, tmp_path: pathlib.Path) -> None:
    if missing := cuda_missing():
        pytest.skip(missing)
    loads = make_loads("skew:cube8x2", tmp_path, 2, 64)
    found: dict[str, Any] = {}
    part("adapter").measure(part(name).prepare(loads, "cuda"), 2, "cuda", found)
    quality = part("judge").judge(loads, found)
    assert quality.ratio == pytest.approx([1, 1], rel=1e-5)
    for times in found["times"].values():
        assert len(times["graph"]) == 2 and min(times["graph"] + times["eager"]) > 0


def test_this_project_is_not_taken_for_the_original() -> None:
    with pytest.raises(ImportError, match="is this project's lplb"):
        part("deepseek_lplb").find()
