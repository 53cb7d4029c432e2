# SPDX-License-Identifier: MIT
"""Planners with staleness 1 on ranks that are processes, over gloo."""

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
from ranks import (
    denser_placement,
    expect_told,
    make_placement,
    run_ranks,
    signal,
    wait_for,
    wait_for_others,
    world,
)

import lplb

TIMEOUT = 2.0


class Model:
    """What a rank's planner must do, from a planner without a group: each rank draws all tokens."""

    def __init__(
        self, rank: int, placement: lplb.Placement, num_layers: int = 1, **options: Any
    ) -> None:
        self.rank = rank
        self.num_experts = placement.num_logical_experts
        self.planner = lplb.Planner(
            placement, rank=rank, num_layers=num_layers, staleness=1, backend="cpu", **options
        )
        self.last: list[Any] = [None] * num_layers

    def tokens(self, batch: int) -> list[Any]:
        return [
            draw((batch * 61 + r * 37) % 200, 4, self.num_experts, 100 * batch + r)
            for r in range(self.planner.num_ranks)
        ]

    def run_quotas(self, tokens: list[Any], layer: int = 0) -> tuple[Any, Any]:
        placement = self.planner.placement(layer)
        found = self.planner.run_quotas(tokens[self.rank], layer=layer, all_counts=self.last[layer])
        self.last[layer] = np.stack(
            [placement.pack(lplb.count(ids, self.num_experts)) for ids in tokens]
        )
        return found


def equal(got: tuple[Any, Any], want: tuple[Any, Any]) -> bool:
    return bool((np.asarray(got[0]) == want[0]).all()) and all(
        np.asarray(a).tolist() == b.tolist() for a, b in zip(got[1], want[1], strict=True)
    )


def plan_together(rank: int, size: int, folder: str) -> None:
    options: dict[str, Any] = {"num_layers": 2, "max_redundants": 6 * size}
    planner = lplb.Planner(make_placement(size), group=world(), timeout=30, staleness=1, **options)
    model = Model(rank, make_placement(size), **options)
    for batch in range(16):
        if batch in (6, 10):  # the counts that are under way cannot be used
            placement = make_placement(size, 1) if batch == 6 else denser_placement(size)
            planner.update_placement([placement] * 2)
            model.planner.update_placement([placement] * 2)
        tokens = model.tokens(batch)
        ids = tokens[rank] if batch % 3 == 0 else torch.from_numpy(tokens[rank])
        got = planner.run_quotas(ids, layer=batch % 2)
        assert equal(got, model.run_quotas(tokens, batch % 2)), f"batch {batch}"
    stats = planner.stats()
    assert stats is not None and stats == model.planner.stats()
    assert (stats.batches, stats.unplanned, stats.optimal) == (16, 6, 10)


def ranks_are_a_batch_apart(rank: int, size: int, folder: str) -> None:
    """Rank 1 comes to each batch only after the others have ended theirs."""
    planner = lplb.Planner(make_placement(size), group=world(), timeout=30, staleness=1)
    model = Model(rank, make_placement(size))
    for batch in range(5):
        tokens = model.tokens(batch)
        if rank == 1:
            wait_for_others(folder, 1, size, f"has planned {batch}")
        got = planner.run_quotas(tokens[rank])
        signal(folder, f"{rank} has planned {batch}")
        assert equal(got, model.run_quotas(tokens)), f"batch {batch}"


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("function", [plan_together, ranks_are_a_batch_apart])
def test_every_rank_plans_by_the_previous_batch(
    function: Callable[..., None], size: int, tmp_path: pathlib.Path
) -> None:
    assert run_ranks(function, size, tmp_path) == [""] * size


def make(size: int, **options: Any) -> lplb.Planner:
    return lplb.Planner(
        make_placement(size), group=world(), timeout=TIMEOUT, **{"staleness": 1, **options}
    )


BATCH = np.zeros((3, 1), np.int64)


def one_is_not_stale(rank: int, size: int, folder: str) -> None:
    make(size, staleness=0 if rank == 2 else 1)


def one_dies(rank: int, size: int, folder: str) -> None:
    planner = make(size)
    for _ in range(3):
        planner.run(BATCH)
    if rank == 2:
        os._exit(0)
    # The counts of its last batch have arrived, or are lost with it. It counts no further batch.
    planner.run(BATCH)
    planner.run(BATCH)


def one_does_not_come(rank: int, size: int, folder: str) -> None:
    planner = make(size)
    if rank == 2:
        time.sleep(2 * TIMEOUT)
        os._exit(0)
    planner.run(BATCH)  # waits for nobody
    planner.run(BATCH)


def one_runs_another_layer(rank: int, size: int, folder: str) -> None:
    planner = make(size, num_layers=2)
    planner.run(BATCH, layer=1 if rank == 2 else 0)
    planner.run(BATCH, layer=1 if rank == 2 else 0)


def the_group_is_closed(rank: int, size: int, folder: str) -> None:
    planner = make(size)
    torch.distributed.destroy_process_group()
    planner.run(BATCH)


@pytest.mark.parametrize(
    ("function", "words", "silent"),
    [
        (one_is_not_stale, ["ValueError: staleness: differs", "rank 2 has 0, expected 1"], None),
        (one_dies, ["RuntimeError: group: rank", "did not get the counts of layer 0"], 2),
        (one_does_not_come, ["RuntimeError: group: rank", "did not get the counts of"], 2),
        (one_runs_another_layer, ["RuntimeError: group: the ranks run layers"], None),
        (the_group_is_closed, ["RuntimeError: group:", "closed"], None),
    ],
)
def test_ranks_that_are_lost_are_told_in_time(
    function: Callable[..., None], words: list[str], silent: int | None, tmp_path: pathlib.Path
) -> None:
    started = time.monotonic()
    errors = run_ranks(function, 4, tmp_path)
    assert time.monotonic() - started < 6 * TIMEOUT
    expect_told(errors, words, silent)


def one_is_late(rank: int, size: int, folder: str) -> None:
    """Rank 0 times out and calls again: it had not handed in the counts of the batch."""
    planner = lplb.Planner(
        make_placement(size), group=world(), staleness=1, timeout=0.3 if rank == 0 else 30
    )
    model = Model(rank, make_placement(size))
    for batch in range(4):
        tokens = model.tokens(batch)
        if batch == 1 and rank == 1:
            wait_for(folder, "gave up")
        if batch == 2 and rank == 0:
            with pytest.raises(
                RuntimeError, match="did not get the counts of layer 0 within 0.3 s"
            ):
                planner.run(tokens[rank])
            signal(folder, "gave up")
            wait_for(folder, "1 has planned 1")
        got = planner.run_quotas(tokens[rank])
        signal(folder, f"{rank} has planned {batch}")
        assert equal(got, model.run_quotas(tokens)), f"batch {batch}"


def test_a_rank_that_is_late_after_all(tmp_path: pathlib.Path) -> None:
    assert run_ranks(one_is_late, 2, tmp_path) == [""] * 2


def nobody_collects(rank: int, size: int, folder: str) -> None:
    planner = make(size, num_layers=3)
    for layer in range(3):
        planner.run(BATCH, layer=layer)
    if rank == 0:
        planner.close()
    del planner
    torch.distributed.destroy_process_group()


def test_rounds_that_nobody_collects_hold_up_nothing(tmp_path: pathlib.Path) -> None:
    started = time.monotonic()
    assert run_ranks(nobody_collects, 4, tmp_path) == [""] * 4
    assert time.monotonic() - started < 30
