# SPDX-License-Identifier: MIT
"""Planners that split batches by what tokens cost."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from conftest import cuda_missing, draw
from optional import torch
from ranks import make_placement, run_ranks, world

import lplb

#: A step of 16 tokens, so that batches of a few hundred tokens have several.
MODEL = lplb.CostModel([16, 32], [10.0, 14.0], then_every=16, then_cost=6.0, rank=5.0)


def split_of(placement: lplb.Placement, load: Any, solver: Any = "fast-time") -> lplb.Split:
    return lplb.solve(placement, load, solver=solver, cost=MODEL)


@pytest.mark.parametrize("solver", ["auto", "fast-time", "time"])
def test_a_batch_is_split_by_cost(cube: lplb.Placement, solver: Any) -> None:
    planner = lplb.Planner(cube, rank=2, num_topk=4, solver=solver, cost=MODEL, backend="cpu")
    for batch, size in enumerate((1, 30, 400)):
        tokens = [draw(size, 4, 64, 10 * batch + rank) for rank in range(8)]
        counts = np.stack([lplb.count(ids, 64) for ids in tokens])
        own = planner.count(tokens[2])
        assert own.shape == (64,)
        assert own.sum() == counts[2].sum()
        rows = np.stack([planner.count(ids) for ids in tokens])
        mapped, quotas = planner.run_quotas(tokens[2], all_counts=rows)
        want = split_of(cube, counts.sum(0), "time" if solver == "time" else "fast-time")
        want.verify()
        assert (mapped == lplb.map_tokens(cube, counts, want.physical_load, 2, tokens[2])).all()
        stats = planner.stats()
        assert stats is not None
        assert (stats.last_max_cost, stats.last_cost_lower_bound) == (
            want.max_cost,
            want.cost_lower_bound,
        )
        assert quotas.solved.tolist() == [1]


def plan_together(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), timeout=30, cost=MODEL)
    ids = draw(30 * (rank + 1), 4, 16 * size, rank)
    mapped = planner.run(torch.from_numpy(ids))
    stats = planner.stats()
    assert stats is not None
    np.savez(f"{folder}/rank{rank}", ids=ids, mapped=mapped.numpy(), cost=stats.last_max_cost)


def test_ranks_split_alike(tmp_path: pathlib.Path) -> None:
    size = 3
    assert run_ranks(plan_together, size, tmp_path) == [""] * size
    placement = make_placement(size)
    found = [np.load(tmp_path / f"rank{r}.npz") for r in range(size)]
    want = split_of(placement, lplb.count(np.concatenate([f["ids"] for f in found]), 16 * size))
    mapped = np.concatenate([f["mapped"] for f in found])
    taken = np.bincount(mapped[mapped >= 0], minlength=placement.num_physical_experts)
    assert (taken == want.physical_load).all()
    assert [float(f["cost"]) for f in found] == [want.max_cost] * size


def other_costs(rank: int, size: int, _: str) -> None:
    model = MODEL if rank == 0 else lplb.CostModel.weights_only()
    with pytest.raises(ValueError, match="cost"):
        lplb.Planner(make_placement(size), group=world(), timeout=30, cost=model)


def test_ranks_must_agree_on_the_cost(tmp_path: pathlib.Path) -> None:
    assert run_ranks(other_costs, 2, tmp_path) == ["", ""]


def test_what_does_not_fit_is_refused(cube: lplb.Placement) -> None:
    with pytest.raises(ValueError, match='"flow" takes no cost model'):
        lplb.Planner(cube, rank=0, solver="flow", cost=MODEL)
    with pytest.raises(ValueError, match="needs a cost model"):
        lplb.Planner(cube, rank=0, solver="fast-time")
    with pytest.raises(ValueError, match="has tables for 2 ranks"):
        lplb.Planner(cube, rank=0, cost=lplb.CostModel.by_rank([MODEL, MODEL]))
    with pytest.raises(TypeError, match="cost: is a str, expected an lplb.CostModel"):
        lplb.Planner(cube, rank=0, cost="us")  # type: ignore[arg-type]
    planner = lplb.Planner(cube, rank=0, num_topk=1, cost=MODEL, backend="cpu")
    with pytest.raises(ValueError, match="all_counts"):
        planner.run(np.zeros((4, 1), np.int64), all_counts=np.zeros((8, cube.packed_size), int))


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_missing()), reason=cuda_missing() or "GPU")
def test_backends_are_equal(cube: lplb.Placement) -> None:
    cpu = lplb.Planner(cube, same_tokens=True, cost=MODEL)
    gpu = lplb.Planner(cube, same_tokens=True, cost=MODEL, backend="cuda", checks=True)
    for seed in range(20):
        ids = draw(1 + 100 * seed, 8, 64, seed)
        assert gpu.run(torch.from_numpy(ids).cuda()).tolist() == cpu.run(ids).tolist()
        a, b = cpu.stats(), gpu.stats()
        assert a is not None and b is not None
        assert (a.last_max_cost, a.last_cost_lower_bound) == (
            b.last_max_cost,
            b.last_cost_lower_bound,
        )
        assert b.check_failures == 0
