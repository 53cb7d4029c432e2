# SPDX-License-Identifier: MIT
"""Weights that move between ranks, which are processes, over gloo."""

from __future__ import annotations

import itertools
import os
import pathlib
import signal
import time
from typing import Any

import numpy as np
import pytest
from optional import torch
from ranks import run_ranks, world

import lplb

LAYERS = 2
TIMEOUT = 3.0
REBALANCES = 200


def random_placement(random: np.random.Generator, size: int) -> lplb.Placement:
    """Any experts anywhere, but each at least once."""
    from moving import EXPERTS, SLOTS

    rest = random.integers(0, EXPERTS, size * SLOTS - EXPERTS)
    slots = random.permutation(np.concatenate([np.arange(EXPERTS), rest]))
    return lplb.Placement(slots, size, EXPERTS)


def start_ranks(rank: int, size: int, **options: Any) -> tuple[Any, Any, lplb.WeightMover]:
    from moving import contiguous, model, weights_of

    layers = model(LAYERS)
    placements = [contiguous(size)] * LAYERS
    held = weights_of(layers, placements, rank)
    return layers, held, lplb.WeightMover(held, placements, group=world(), **options)


def expect_weights(layers: Any, held: Any, mover: lplb.WeightMover, rank: int) -> None:
    from moving import weights_of

    placements = [mover.placement(i) for i in range(LAYERS)]
    for mine, wanted in zip(held, weights_of(layers, placements, rank), strict=True):
        for tensor, expected in zip(mine, wanted, strict=True):
            assert tensor.dtype == expected.dtype and torch.equal(tensor, expected)


def rebalance_often(rank: int, size: int, folder: str) -> None:
    from moving import EXPERTS, drawn, plain, spread

    layers, held, mover = start_ranks(rank, size, timeout=30)
    planner = lplb.Planner(
        [mover.placement(i) for i in range(LAYERS)], group=world(), max_redundants=8, timeout=30
    )
    shared, own = np.random.default_rng(1), np.random.default_rng(100 + rank)
    popularity = np.ones(EXPERTS)
    rebalances = committed = batches = 0
    while rebalances < REBALANCES or committed < 2 * rebalances:
        if rebalances < REBALANCES and mover.status()["pending"] == 0:
            popularity = shared.lognormal(0, 1.5, EXPERTS)
            if rebalances % 3 == 0:
                new = [random_placement(shared, size) for _ in range(LAYERS)]
            else:
                loads = np.stack([popularity, shared.permutation(popularity)])
                maps = lplb.rebalance_experts(
                    loads, mover.placement().num_physical_experts, 1, 1, size
                )
                new = lplb.layers_of(maps[0], size, EXPERTS)
            # Layers that keep their placement count as moved.
            committed += LAYERS - mover.start(new)
            rebalances += 1
        changed = mover.step()
        committed += len(changed)
        if changed:
            planner.update_placement([mover.placement(i) for i in range(LAYERS)])
        layer = batches % LAYERS
        tokens, ids = drawn(own, 5, popularity)
        physical = planner.run(ids, layer=layer)
        found = spread(held[layer], tokens, physical, rank, size)
        assert torch.equal(found, plain(layers[layer], tokens, ids)), (batches, layer)
        batches += 1
        assert not mover.status()["reason"]
    expect_weights(layers, held, mover, rank)
    status = mover.status()
    assert status["phase"] == "idle" and status["generation"] == 2 * rebalances
    assert status["bytes_received"] > 0 and status["rounds"] > rebalances
    assert batches > rebalances  # batches ran while weights moved
    mover.close()
    assert mover.status()["phase"] == "closed"


def test_batches_are_right_through_hundreds_of_rebalances(tmp_path: pathlib.Path) -> None:
    assert run_ranks(rebalance_often, 4, tmp_path, 400) == [""] * 4


def move_at_different_times(rank: int, size: int, folder: str) -> None:
    layers, held, mover = start_ranks(rank, size, timeout=30, staging=1, agree_every=3)
    shared = np.random.default_rng(5)
    plans = [[random_placement(shared, size) for _ in range(LAYERS)] for _ in range(6)]
    changed: list[list[int]] = []
    begun = 0
    for batch in itertools.count():
        if begun < 6 and (batch + 3 * rank) % 10 == 0:
            mover.start(plans[begun])  # while the moves before may still be under way
            begun += 1
        changed.append(mover.step())
        torch.distributed.barrier()
        if begun == 6 and mover.status()["pending"] == 0:
            break
    pathlib.Path(folder, f"changed{rank}").write_text(str(changed))
    assert [mover.placement(i) for i in range(LAYERS)] == plans[-1]
    assert sum(map(len, changed)) == 12
    expect_weights(layers, held, mover, rank)
    # Two layers never come at once: there is one staging slot.
    assert all(len(layers) <= 1 for layers in changed)


def test_ranks_that_start_at_different_times_commit_at_the_same_batch(
    tmp_path: pathlib.Path,
) -> None:
    assert run_ranks(move_at_different_times, 4, tmp_path, 240) == [""] * 4
    told = {(tmp_path / f"changed{rank}").read_text() for rank in range(4)}
    assert len(told) == 1


def die_in_a_move(rank: int, size: int, folder: str) -> None:
    layers, held, mover = start_ranks(rank, size, timeout=TIMEOUT)
    before = [mover.placement(i) for i in range(LAYERS)]
    shared = np.random.default_rng(3)
    rounds = 0
    run_round = mover._weights._run_round

    def run_some(*arguments: Any) -> None:
        nonlocal rounds
        rounds += 1
        if rank == 2 and rounds == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        run_round(*arguments)

    mover._weights._run_round = run_some  # type: ignore
    mover.start([random_placement(shared, size) for _ in range(LAYERS)])
    started = time.monotonic()
    while mover.status()["phase"] == "moving":
        mover.step()
        time.sleep(0.01)
    assert time.monotonic() - started < 3 * TIMEOUT
    status = mover.status()
    assert status["phase"] == "failed" and status["reason"], status
    assert mover.step() == [] and mover.start(before) == 0
    assert [mover.placement(i) for i in range(LAYERS)] == before
    expect_weights(layers, held, mover, rank)
    # The survivors go on with what they have.
    group = torch.distributed.new_group([0, 1, 3], use_local_synchronization=True)
    assert mover.settle(group) == []
    mover.close()


def test_a_rank_that_is_killed_in_a_move_leaves_all_on_the_old_placement(
    tmp_path: pathlib.Path,
) -> None:
    assert run_ranks(die_in_a_move, 4, tmp_path) == [""] * 4


def die_in_a_commit(rank: int, size: int, folder: str) -> None:
    """Rank 3 hears last that all are ready: it is as if the word to it were lost."""
    layers, held, mover = start_ranks(rank, size, timeout=TIMEOUT)
    before = [mover.placement(i) for i in range(LAYERS)]
    if rank == 3:
        commit = mover._commit

        def fail() -> int:
            mover._stop("the word was lost")
            raise ConnectionError

        mover._commit = fail  # type: ignore
        assert commit is not None
    mover.start([random_placement(np.random.default_rng(3), size) for _ in range(LAYERS)])
    while mover.status()["phase"] == "moving":
        try:
            mover.step()
        except ConnectionError:
            break
        time.sleep(0.01)
    while mover.status()["phase"] != "failed":
        mover.step()
        time.sleep(0.01)
    committed = mover.status()["generation"]
    assert (committed == 0) == (rank == 3)
    group = torch.distributed.new_group([0, 1, 2, 3], use_local_synchronization=True)
    assert len(mover.settle(group)) == committed
    assert [mover.placement(i) for i in range(LAYERS)] == before
    expect_weights(layers, held, mover, rank)


def test_survivors_settle_on_one_placement(tmp_path: pathlib.Path) -> None:
    assert run_ranks(die_in_a_commit, 4, tmp_path) == [""] * 4


def fall_behind(rank: int, size: int, folder: str) -> None:
    layers, held, mover = start_ranks(rank, size, timeout=1.0)
    before = [mover.placement(i) for i in range(LAYERS)]
    new = [random_placement(np.random.default_rng(3), size) for _ in range(LAYERS)]
    if rank == 1:
        receive = mover._weights.receive

        def late(*arguments: Any) -> None:
            time.sleep(4)
            receive(*arguments)

        mover._weights.receive = late  # type: ignore
    mover.start(new)
    for _ in range(1000):
        mover.step()
        torch.distributed.barrier()
        if mover.status()["phase"] == "failed":
            break
        time.sleep(0.01)
    # A rank that is late, but lives, leads all to the same end at the same batch.
    assert mover.status()["phase"] == "failed"
    assert [mover.placement(i) for i in range(LAYERS)] == before
    expect_weights(layers, held, mover, rank)


def test_a_rank_that_is_late_leaves_all_on_the_old_placement(tmp_path: pathlib.Path) -> None:
    assert run_ranks(fall_behind, 4, tmp_path) == [""] * 4


def differ(rank: int, size: int, folder: str) -> None:
    _, _, mover = start_ranks(rank, size, timeout=TIMEOUT)
    shared = np.random.default_rng(3)
    new = [random_placement(shared, size) for _ in range(LAYERS)]
    # Nothing moves between ranks in the first layer, so only the agreement can notice.
    row = mover.placement().physical_to_logical.reshape(size, -1).copy()
    row[:, :2] = row[:, 1::-1]
    if rank == 1:
        row[0, 2:4] = row[0, 3:1:-1]
    new[0] = lplb.Placement(row.reshape(-1), size)
    mover.start(new[:1], [0])
    while mover.status()["phase"] == "moving":
        mover.step()
        time.sleep(0.01)
    assert mover.status()["reason"] == "the ranks were given different placements"
    assert mover.status()["generation"] == 0


def test_different_placements_are_noticed_before_a_commit(tmp_path: pathlib.Path) -> None:
    assert run_ranks(differ, 4, tmp_path) == [""] * 4


def test_arguments_are_checked(tmp_path: pathlib.Path) -> None:
    assert run_ranks(refuse, 4, tmp_path) == [""] * 4


def refuse(rank: int, size: int, folder: str) -> None:
    from moving import EXPERTS, SLOTS, contiguous, model, weights_of

    placements = [contiguous(size)] * LAYERS
    held = weights_of(model(LAYERS), placements, rank)
    for weights, why in (
        (held[:1], r"^weights: has 1 layers, expected 2$"),
        ([held[0], [held[1][0][:, 0]]], r"^weights\[1\]\[0\]: is not contiguous"),
        ([held[0], [held[1][0][1:]]], r"^weights\[1\]\[0\]: has shape .*, expected \[6, \.\.\.\]"),
    ):
        with pytest.raises(ValueError, match=why):
            lplb.WeightMover(weights, placements, group=world())
    with pytest.raises(TypeError, match=r"^weights\[0\]: expected a list of tensors$"):
        lplb.WeightMover([held[0][0], held[1][0]], placements, group=world())  # type: ignore
    odd = held if rank == 0 else [[t.double() for t in tensors] for tensors in held]
    with pytest.raises(ValueError, match=r"^weights: differ between .*: rank 1 has .*float64"):
        lplb.WeightMover(odd, placements, group=world())
    mover = lplb.WeightMover(held, placements, group=world())
    for new, why in (
        (placements[:1], r"^placements: has 1, expected 2$"),
        ([lplb.Placement(np.arange(16), size)] * 2, r"^placements: slots_per_rank is 4, expected"),
    ):
        with pytest.raises(ValueError, match=why):
            mover.start(new)
    with pytest.raises(ValueError, match=r"^layers: has 2, expected 0 to 1$"):
        mover.start(placements[:1], [2])
    assert mover.start(placements) == 0
    alive = [True, True, False, True]  # rank 2 has the only replica of an expert
    slots = lplb.rebalance_experts(np.ones((1, EXPERTS)), 4 * SLOTS, 1, 1, 4, rank_alive=alive)[0][
        0
    ]
    dead = lplb.Placement(slots, 4, EXPERTS, rank_alive=alive)
    with pytest.raises(ValueError, match=r"^placements: expert \d+ of layer 0 has no source"):
        mover.start([dead], [0])
    mover.close()
