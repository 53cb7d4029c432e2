# SPDX-License-Identifier: MIT
"""place_homes() and schedule(): what Python adds. The functions of C++ have tests there."""

from typing import Any, Literal

import numpy as np
import pytest
import torch

import lplb


def window(batches: int, layers: int, experts: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    heat = rng.random((layers, experts)) ** 3
    return np.floor(1000 * heat * (0.5 + rng.random((batches, layers, experts))))


def test_a_rebalance_keeps_homes_and_limits_moves() -> None:
    placed = lplb.place_homes(window(4, 3, 32), 48, 8)
    assert placed.physical_to_logical.shape == (3, 48)
    assert (placed.replica_count.sum(axis=1) == 48).all()
    assert (placed.judged <= placed.judged_before).all()
    old = lplb.layers_of(placed.physical_to_logical, 8)
    for layer, placement in enumerate(old):
        homes = placement.physical_to_logical.reshape(8, 6)[:, :4]
        assert homes.ravel().tolist() == list(range(32))
        mean = np.mean(
            [lplb.solve(placement, b[layer]).imbalance for b in window(4, 3, 32).astype(np.int64)]
        )
        assert placed.imbalance[layer] == pytest.approx(mean, abs=1e-3)

    following = lplb.place_homes(window(4, 3, 32, seed=1), 48, 8, old=old, max_moves=2)
    assert (following.moves <= 2).all()
    for before, after in zip(old, lplb.layers_of(following.physical_to_logical, 8), strict=True):
        assert len(lplb.moves(before, after)) <= 2


def test_budgets_of_bytes_and_seconds() -> None:
    old = lplb.layers_of(lplb.place_homes(window(4, 3, 32), 48, 8).physical_to_logical, 8)
    loads = window(4, 3, 32, seed=1)
    free = lplb.place_homes(loads, 48, 8, old=old)
    few = lplb.place_homes(loads, 48, 8, old=old, max_bytes=4500, expert_bytes=1000)
    assert few.moves.sum() <= 4 < free.moves.sum()
    assert free.judged.sum() < few.judged.sum() < few.judged_before.sum()
    none = lplb.place_homes(loads, 48, 8, old=old, max_seconds=0)
    assert none.trials.tolist() == [0, 0, 0]
    # With a budget of time trials are not limited.
    long = lplb.place_homes(loads, 48, 8, old=old, max_seconds=3600)
    assert (long.judged <= free.judged).all()


def test_backends_are_equal() -> None:
    loads = window(4, 3, 32)
    cpu = lplb.place_homes(loads, 48, 8)
    assert cpu.trials.sum() > 0
    backends: list[Literal["auto", "cuda"]] = ["auto"]
    if not lplb.cuda_info()["missing"]:
        backends.append("cuda")
    for backend in backends:
        placed = lplb.place_homes(loads, 48, 8, backend=backend)
        assert placed.physical_to_logical.tolist() == cpu.physical_to_logical.tolist()
        assert placed.trials.tolist() == cpu.trials.tolist()
        assert placed.judged.tolist() == cpu.judged.tolist()
    # What the device does not take runs on the CPU.
    few = lplb.place_homes(loads, 48, 8, rank_speed=[1, 1, 1, 1, 2, 2, 2, 2], max_trials=5)
    same = lplb.place_homes(
        loads, 48, 8, rank_speed=[1, 1, 1, 1, 2, 2, 2, 2], max_trials=5, backend="auto"
    )
    assert same.judged.tolist() == few.judged.tolist()


def test_placements_for_dynamic_slots() -> None:
    loads = window(3, 2, 32, seed=2)
    loads[:, :, :8] *= 3  # one domain is hot
    placed = lplb.place_homes(loads, 40, 8, dynamic_slots=1, num_domains=4)
    for layer, placement in enumerate(lplb.layers_of(placed.physical_to_logical, 8)):
        plans = [
            lplb.replicate(placement, batch[layer].astype(np.int64), dynamic_slots=1, num_domains=4)
            for batch in loads
        ]
        mean = np.mean([p.max_load * 8 / b[layer].sum() for p, b in zip(plans, loads, strict=True)])
        assert placed.imbalance[layer] == pytest.approx(mean, abs=1e-3)


def test_arrays_come_back_as_they_were_given() -> None:
    loads = torch.tensor(window(2, 2, 16))
    placed = lplb.place_homes(loads, 24, 4, num_threads=2, rank_alive=[1, 1, 1, 1])
    assert isinstance(placed.physical_to_logical, torch.Tensor)
    assert placed.physical_to_logical.dtype == torch.int64
    same = lplb.place_homes(loads.numpy(), 24, 4, pinned=())
    assert placed.physical_to_logical.tolist() == same.physical_to_logical.tolist()
    pinned = lplb.place_homes(loads, 24, 4, pinned=[(5, 3), (0, 2)], max_trials=10)
    ranks = pinned.physical_to_logical.reshape(2, 4, 6)
    assert (ranks[:, 3] == 5).any(dim=1).all()
    assert (ranks[:, 2] == 0).any(dim=1).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_replicas": 25}, "num_replicas: 25"),
        ({"loads": [[1, 2]]}, "loads"),
        ({"max_trials": -1}, "max_trials: -1"),
        ({"min_gain": float("nan")}, "min_gain"),
        ({"max_bytes": 10}, "expert_bytes"),
        ({"max_seconds": -1}, "max_seconds: -1"),
        ({"max_seconds": "1"}, "max_seconds"),
        ({"dynamic_slots": 9}, "dynamic_slots: 9"),
        ({"dynamic_slots": 1, "num_domains": 3}, "num_domains: 3"),
        ({"pinned": [(16, 0)]}, "pinned: 16"),
        ({"backend": "gpu"}, "backend"),
        ({"backend": "cuda", "dynamic_slots": 1}, "backend: cuda does not search with dynamic"),
        ({"old": [3]}, "old"),
        ({"old": [lplb.Placement([0, 1], 2)]}, "old: has 1 placements"),
        ({"rank_alive": [1, 1]}, "rank_alive"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {
        "loads": window(2, 2, 16),
        "num_replicas": 24,
        "num_ranks": 4,
    } | change
    with pytest.raises((ValueError, TypeError), match=says):
        lplb.place_homes(**arguments)


def test_a_schedule_has_each_move_once() -> None:
    rng = np.random.default_rng(3)
    old = lplb.Placement(rng.permutation(np.arange(48) % 32), 8, 32, num_nodes=2)
    new = lplb.Placement(rng.permutation(np.arange(48) % 32), 8, 32, num_nodes=2)
    moves = lplb.moves(old, new)
    plan = lplb.schedule(moves, old, new)
    listed = plan.same_rank + plan.lost + [move for step in plan.rounds for move in step.moves]
    assert sorted(listed) == sorted(moves)
    for step in plan.rounds:
        assert len({move.source // 6 for move in step.moves}) == len(step.moves)
        assert len({move.target // 6 for move in step.moves}) == len(step.moves)
        assert {move.kind for move in step.moves} == {step.kind}
    kinds = [step.kind for step in plan.rounds]
    assert kinds == sorted(kinds, reverse=True)  # "same node" before "other node"
    with pytest.raises(ValueError, match="moves"):
        lplb.schedule([lplb.Move(0, 99, 0, "same node")], old, new)
    with pytest.raises(ValueError, match="kind of move"):
        lplb.schedule([lplb.Move(0, 0, 6, "by post")], old, new)
