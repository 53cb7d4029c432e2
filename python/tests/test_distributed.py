# SPDX-License-Identifier: MIT
"""Planners of several ranks, which are processes, over gloo."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import draw
from optional import torch
from ranks import everywhere, expect_told, make_placement, run_ranks, world
from stand_ins import Buffer, BufferWithoutGroup, ElasticBuffer, EPBuffer

import lplb

TIMEOUT = 3.0


def plan_together(rank: int, size: int, folder: str) -> None:
    placement = make_placement(size)
    planner = lplb.Planner(placement, group=world(), timeout=30, num_layers=2, keep_history=True)
    assert planner.rank == rank
    for batch in range(3):
        layer = batch % 2
        ids = draw(50 * (rank + batch) if rank != 1 else 0, 4, 16 * size, 100 * batch + rank)
        mapped, quotas = planner.run_quotas(torch.from_numpy(ids), layer=layer)
        np.savez(
            f"{folder}/batch{batch}rank{rank}",
            ids=ids,
            mapped=mapped.numpy(),
            quota_end=quotas.quota_end.numpy(),
            alloc=quotas.alloc.numpy(),
        )
        if batch == 1:
            planner.update_placement([make_placement(size, 1)] * 2)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_every_rank_has_the_same_plan_and_it_is_optimal(size: int, tmp_path: pathlib.Path) -> None:
    assert run_ranks(plan_together, size, tmp_path) == [""] * size
    for batch in range(3):
        placement = make_placement(size, 1 if batch == 2 else 0)
        found = [np.load(tmp_path / f"batch{batch}rank{r}.npz") for r in range(size)]
        ids = np.concatenate([f["ids"] for f in found])
        mapped = np.concatenate([f["mapped"] for f in found])
        assert (placement.physical_to_logical[mapped[mapped >= 0]] == ids[mapped >= 0]).all()
        assert ((mapped < 0) == (ids < 0)).all()
        load = lplb.count(ids, 16 * size)
        best = lplb.solve(placement, load)
        best.verify()
        taken = np.bincount(mapped[mapped >= 0], minlength=placement.num_physical_experts)
        assert taken.reshape(size, -1).sum(1).max() == best.max_load
        replicated = placement.replica_count[placement.physical_to_logical] > 1
        assert (taken == best.physical_load)[replicated].all()
        for f in found:
            assert (f["quota_end"] == found[0]["quota_end"]).all()
            assert (f["alloc"] == found[0]["alloc"]).all()


def one_brings_another_placement(rank: int, size: int, folder: str) -> None:
    lplb.Planner(make_placement(size, shift=1 if rank == 2 else 0), group=world(), timeout=TIMEOUT)


def one_updates_to_another_placement(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), timeout=TIMEOUT)
    planner.update_placement(make_placement(size, shift=1 if rank == 2 else 2))


def one_has_another_dead_rank(rank: int, size: int, folder: str) -> None:
    dead = 1 if rank == 2 else 3
    lplb.Planner(everywhere(size, dead), group=world(), timeout=TIMEOUT)


def one_wants_another_transport(rank: int, size: int, folder: str) -> None:
    lplb.Planner(make_placement(size), group=world(), transport="ipc" if rank == 2 else "auto")


def one_has_another_number_of_layers(rank: int, size: int, folder: str) -> None:
    lplb.Planner(
        make_placement(size), group=world(), num_layers=3 if rank == 2 else 1, timeout=TIMEOUT
    )


def one_brings_other_ranks(rank: int, size: int, folder: str) -> None:
    lplb.Planner(make_placement(3 if rank == 2 else size), group=world(), timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            one_brings_another_placement,
            ["placement: differs", "layer 0, physical_to_logical[", "on rank 2", "on rank 0"],
        ),
        (
            one_updates_to_another_placement,
            ["placement: differs", "layer 0, physical_to_logical[", "on rank 2", "on rank 0"],
        ),
        (one_has_another_dead_rank, ["placement: differs", "rank_alive[1] is 0 on rank 2, 1 on"]),
        (one_has_another_number_of_layers, ["num_layers: differs", "rank 2 has 3, expected 1"]),
        (one_wants_another_transport, ["transport: differs", 'rank 2 has "ipc", expected "auto"']),
        (one_brings_other_ranks, ["num_ranks: differs", "rank 2 has 3, expected 4"]),
    ],
)
def test_ranks_that_differ_are_told_on_all(
    function: Callable[..., None], words: list[str], tmp_path: pathlib.Path
) -> None:
    for error in run_ranks(function, 4, tmp_path):
        assert "ValueError" in error
        for word in words:
            assert word in error


def one_runs_another_layer(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), num_layers=2, timeout=TIMEOUT)
    planner.run(torch.zeros((3, 1), dtype=torch.int64), layer=1 if rank == 2 else 0)


def one_dies(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), timeout=TIMEOUT)
    planner.run(torch.zeros((3, 1), dtype=torch.int64))
    if rank == 2:
        os._exit(0)
    planner.run(torch.zeros((3, 1), dtype=torch.int64))


def one_does_not_come(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), timeout=TIMEOUT)
    if rank == 2:
        time.sleep(2 * TIMEOUT)
        os._exit(0)
    planner.run(torch.zeros((3, 1), dtype=torch.int64))


def the_group_is_closed(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(make_placement(size), group=world(), timeout=TIMEOUT)
    torch.distributed.destroy_process_group()
    planner.run(torch.zeros((3, 1), dtype=torch.int64))


@pytest.mark.parametrize(
    ("function", "words", "silent"),
    [
        (one_runs_another_layer, ["RuntimeError: group: the ranks run layers"], None),
        (one_dies, ["RuntimeError: group: rank", "did not get the counts of layer 0 (after "], 2),
        (one_does_not_come, ["RuntimeError: group: rank", "did not get the counts of"], 2),
        (the_group_is_closed, ["RuntimeError: group:", "closed"], None),
    ],
)
def test_ranks_that_are_lost_are_told_in_time(
    function: Callable[..., None], words: list[str], silent: int | None, tmp_path: pathlib.Path
) -> None:
    started = time.monotonic()
    errors = run_ranks(function, 4, tmp_path)
    assert time.monotonic() - started < 5 * TIMEOUT
    expect_told(errors, words, silent)
    if function is one_does_not_come:  # the others notice that this rank ends
        assert any("within 3 s: a rank is late, or has ended" in error for error in errors)


def original_with_a_group(rank: int, size: int, folder: str) -> None:
    make: Any = lplb.Planner
    r2o = torch.tensor([[1], [2], [3], [0]])
    planner: Any = make(r2o, 24, 16, group=world())
    counter = torch.zeros(1, dtype=torch.int64)
    idx = torch.from_numpy(draw(100, 4, 16, rank))
    mapped = planner.run(idx, counter)
    assert counter.item() == 1
    loads = torch.bincount(mapped[mapped >= 0], minlength=24)
    torch.distributed.all_reduce(loads)
    counts, _ = planner.count_workload(idx, 4)
    share, _ = planner.solve_probs(counts, counter)
    torch.distributed.all_reduce(counts)
    best = lplb.solve(planner.planner.placement(), counts)
    assert loads.view(4, 6).sum(1).max().item() == best.max_load
    assert share.shape == (1, 4, 1)

    for buffer in (Buffer(world()), ElasticBuffer(world(), 0), EPBuffer(world(), None)):
        alone: Any = make(r2o, 24, 16, 4)
        alone.init_from_deep_ep(buffer)
        alone.init_from_deep_ep(buffer)
        assert alone.deep_ep_initialized and alone.ep_group is world()
        assert (alone.run(idx, counter) == mapped).all()
    # A buffer with only a communicator is used with the planner's own group.
    planner.init_from_deep_ep(BufferWithoutGroup(0))
    assert planner.deep_ep_initialized and planner.ep_group is world()
    assert (planner.run(idx, counter) == mapped).all()


def test_the_original_interface_with_a_group(tmp_path: pathlib.Path) -> None:
    assert run_ranks(original_with_a_group, 4, tmp_path) == [""] * 4
