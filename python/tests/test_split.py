# SPDX-License-Identifier: MIT
"""Count, solve and map as functions."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from conftest import draw

import lplb


def test_solve_is_optimal_and_proven(cube: lplb.Placement) -> None:
    load = np.random.default_rng(1).integers(0, 1000, 64)
    for solver in ("auto", "cut", "flow"):
        split = lplb.solve(cube, load, solver=solver)
        split.verify()
        assert split.status == "optimal"
        assert split.max_load == split.lower_bound == split.rank_load.max()
        assert split.imbalance == lplb.imbalance(split.rank_load)
        bottleneck = set(split.bottleneck_ranks.tolist())
        inside = sum(
            int(load[e])
            for e in range(64)
            if {p // cube.slots_per_rank for p in cube.logical_to_physical[e] if p >= 0}
            <= bottleneck
        )
        assert -(-inside // len(bottleneck)) == split.max_load
    near = lplb.solve(cube, load, solver="ipm")
    near.verify()
    assert near.max_load <= split.max_load * 1.001 + 1
    even = lplb.split_evenly(cube, load)
    assert even.reshape(8, -1).sum(1).max() >= split.max_load


def test_imbalance_is_that_of_live_ranks_by_their_speeds() -> None:
    slow = lplb.Placement([0, 1, 1, 0], num_ranks=2, rank_speed=[1, 0.25])
    assert lplb.solve(slow, [80, 20]).imbalance == 1.0
    assert lplb.imbalance([50, 50], slow) == 1.6
    dead = lplb.Placement([0, 1, 1, 0], num_ranks=2, rank_alive=[True, False])
    assert lplb.solve(dead, [80, 20]).imbalance == 1.0
    with pytest.raises(ValueError, match=r"rank_load: has 3 entries, expected num_ranks \(2\)"):
        lplb.imbalance([1, 2, 3], dead)


def test_loads_are_exact_integers_if_all_speeds_are_1() -> None:
    placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    split = lplb.solve(placement, [2**62, 3, 4])
    assert isinstance(split.max_load, int)
    assert split.max_load == split.lower_bound == 2**61 + 4  # (2^62 + 7) / 2, rounded up
    fast = lplb.Placement([0, 1, 2, 0], num_ranks=2, rank_speed=[2, 1])
    assert isinstance(lplb.solve(fast, [9, 0, 0]).max_load, float)


def test_results_are_of_the_kind_of_the_load(cube: lplb.Placement) -> None:
    torch = pytest.importorskip("torch")
    load = torch.arange(64, dtype=torch.int32)
    split = lplb.solve(cube, load)
    assert isinstance(split.physical_load, torch.Tensor)
    assert split.physical_load.tolist() == lplb.solve(cube, load.numpy()).physical_load.tolist()
    assert isinstance(lplb.split_evenly(cube, load), torch.Tensor)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_count_and_map(cube: lplb.Placement, dtype: Any) -> None:
    ranks = [draw(200, 4, 64, seed).astype(dtype) for seed in range(8)]
    counts = np.stack([lplb.count(ids, 64) for ids in ranks])
    assert counts.sum() == sum(
        int((ids != dtype(-1) if dtype != np.uint32 else ids != 2**32 - 1).sum()) for ids in ranks
    )
    split = lplb.solve(cube, counts.sum(0))
    taken = np.zeros(80, dtype=np.int64)
    for rank, ids in enumerate(ranks):
        mapped = lplb.map_tokens(cube, counts, split.physical_load, rank, ids)
        assert mapped.dtype == dtype and mapped.shape == ids.shape
        wide = mapped.astype(np.int64)
        wide[wide == 2**32 - 1] = -1
        assert (cube.physical_to_logical[wide[wide >= 0]] == ids[wide >= 0]).all()
        taken += np.bincount(wide[wide >= 0], minlength=80)
    assert taken.tolist() == split.physical_load.tolist()


def test_map_in_proportion_is_off_by_less_than_a_token(cube: lplb.Placement) -> None:
    ids = draw(500, 4, 64, 1)
    load = lplb.count(ids, 64)
    split = lplb.solve(cube, load)
    mapped = lplb.map_tokens(cube, None, split.physical_load, 3, ids)
    taken = np.bincount(mapped[mapped >= 0], minlength=80)
    assert np.abs(taken - split.physical_load).max() <= 1


def test_arrays_by_dlpack(cube: lplb.Placement) -> None:
    class Foreign:
        """An array that has only the DLPack interface."""

        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    load = np.arange(64)
    assert lplb.solve(cube, Foreign(load)).max_load == lplb.solve(cube, load).max_load


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: lplb.solve(p, [1, 2]), ValueError, ["load", "[2]", "[64]"]),
        (lambda p: lplb.solve(p, [0.5] * 64), TypeError, ["load", "float64"]),
        (lambda p: lplb.solve(p, [-1] * 64), ValueError, ["load", "-1"]),
        (lambda p: lplb.solve(p, [1] * 64, solver="magic"), ValueError, ["magic"]),  # type: ignore[arg-type]
        (lambda p: lplb.solve(p, [1] * 64, backend="tpu"), ValueError, ["tpu"]),  # type: ignore[arg-type]
        (lambda p: lplb.count([0.5], 4), TypeError, ["topk_idx"]),
        (lambda p: lplb.count([0], 0), ValueError, ["num_logical_experts"]),
        (lambda p: lplb.map_tokens(p, [[1]], [1] * 80, 0, [0]), ValueError, ["counts"]),
        (lambda p: lplb.map_tokens(p, None, [1], 0, [0]), ValueError, ["physical_load"]),
    ],
)
def test_bad_arguments_say_what_is_wrong(
    cube: lplb.Placement, call: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as raised:
        call(cube)
    for word in words:
        assert word in str(raised.value)


def test_cuda_without_a_gpu_is_an_error(cube: lplb.Placement) -> None:
    if not lplb.cuda_info()["missing"]:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="cuda"):
        lplb.solve(cube, [1] * 64, backend="cuda")
    with pytest.raises(RuntimeError, match="cuda"):
        lplb.Planner(cube, rank=0, backend="cuda")


def test_simulate_reports_what_policies_are_worth() -> None:
    report = lplb.simulate(
        "synthetic:W2_zipf"
        if "W2_zipf" in str(lplb._lplb.synthetic_names())
        else "synthetic:" + lplb._lplb.synthetic_names()[2],
        policies=["none", "eplb+lplb"],
    )
    assert (
        report.policy("eplb+lplb")["imbalance"]["mean"] < report.policy("none")["imbalance"]["mean"]
    )
    assert report.html.lstrip().lower().startswith("<!doctype html")
    assert '"policies"' in report.json
    with pytest.raises(KeyError):
        report.policy("magic")
    with pytest.raises(FileNotFoundError, match="no-such-trace"):
        lplb.simulate("no-such-trace")
    trace = "synthetic:W0_balanced"
    for policies in ("none", "none,eplb"):
        names = [p["name"] for p in lplb.simulate(trace, policies=policies)["policies"]]
        assert names == policies.split(",")


def test_simulate_gives_the_placement_to_deploy(tmp_path: pathlib.Path) -> None:
    options: dict[str, Any] = {"num_ranks": 6, "num_replicas": 264, "expert_bytes": 1000}
    report = lplb.simulate("synthetic:W1_hot_expert_set", warm_up=1, **options)
    assert [policy["name"] for policy in report["policies"]] == ["eplb", "eplb+lplb"]
    assert report["settings"]["left_out"] == ["none"]
    moved = report.policy("eplb")["moved_experts"]
    assert moved["mean_bytes"] == moved["mean"] * 1000
    (layer,) = report.placement("eplb")
    assert layer.num_physical_experts == 264
    path = tmp_path / "a+b,c.json"
    path.write_text(report.placements["eplb"])
    fixed = lplb.simulate(
        "synthetic:W1_hot_expert_set", policies=[f"file:{path}+lplb"], num_ranks=6
    )
    assert fixed["policies"][0]["rebalances"] == 0
    assert fixed.placement(f"file:{path}+lplb") == [layer]


def test_simulate_refuses_bad_options() -> None:
    trace = "synthetic:W0_balanced"
    with pytest.raises(ValueError, match="policies: is empty"):
        lplb.simulate(trace, policies=[])
    with pytest.raises(ValueError, match="num_replicas: is 0"):
        lplb.simulate(trace, num_replicas=0)
    with pytest.raises(ValueError, match="drop_repeats"):
        lplb.simulate(trace, drop_repeats=True)


def test_layers_may_have_different_numbers_of_slots() -> None:
    layers = lplb.layers_of([[0, 1, 2, 0], [0, 1, 2, 0, 1, 2]], 2)
    assert [layer.num_physical_experts for layer in layers] == [4, 6]
    with pytest.raises((TypeError, ValueError), match="physical_to_logical"):
        lplb.layers_of([[0, 1, 2, 0], [0, 1, [2]]], 2)


def test_simulate_copies_experts_for_each_batch() -> None:
    trace = "synthetic:W1_hot_expert_set"
    options: dict[str, Any] = {"policies": "none,none+dynamic:2", "expert_bytes": 1000}
    none, copied = lplb.simulate(trace, **options)["policies"]
    assert none["copies"] is None
    assert copied["imbalance"]["mean"] < none["imbalance"]["mean"]
    assert copied["copies"]["mean_bytes"] == 1000 * copied["copies"]["mean"] > 0
    fewer = lplb.simulate(trace, copy_target=3.0, **options).policy("none+dynamic:2")
    assert fewer["copies"]["mean"] < copied["copies"]["mean"]
    heavy = lplb.simulate(trace, copy_min_tokens=10**9, **options).policy("none+dynamic:2")
    alone = lplb.simulate(trace, copy_domains=8, **options).policy("none+dynamic:2")
    assert heavy["copies"]["max"] == alone["copies"]["max"] == 0
    with pytest.raises(ValueError, match="copy_domains: 3 does not divide"):
        lplb.simulate(trace, copy_domains=3)
    with pytest.raises(ValueError, match='copy_gigabytes_per_s: .* needs a cost model in "us"'):
        lplb.simulate(trace, copy_gigabytes_per_s=400, copy_hidden_us=1, **options)
