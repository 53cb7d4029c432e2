# SPDX-License-Identifier: MIT
"""DeviceRounds: counts that travel by a collective, over gloo, with a stand-in for the GPU."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optional import torch
from ranks import denser_placement, make_placement, run_ranks, signal, wait_for_others, world
from stand_ins import PlanningGpuPlanner, plan_on_gpu, pretend_a_gpu_that_plans, start
from test_stale_ranks import Model, equal

import lplb
from lplb import _exchange


def make(size: int, staleness: int, **options: Any) -> Any:
    return lplb.Planner(
        make_placement(size),
        group=world(),
        transport="collective",
        timeout=30,
        max_redundants=6 * size,
        quotas=True,
        staleness=staleness,
        **options,
    )


@pytest.mark.parametrize("size", [2, 4])
def test_between_a_count_and_a_plan(size: int, tmp_path: pathlib.Path) -> None:
    assert run_ranks(in_time, size, tmp_path) == [""] * size


def in_time(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu_that_plans()
    planner = make(size, 0, num_layers=2)
    host = lplb.Planner(make_placement(size), group=world(), timeout=30)
    model = Model(rank, make_placement(size))
    for batch in range(4):
        ids = model.tokens(batch)[rank]
        got = plan_on_gpu(planner, ids, batch % 2, with_quotas=True)
        assert equal(got, host.run_quotas(ids))
    assert PlanningGpuPlanner.calls == ["count", "run", "quotas"] * 4
    planner.close()


def stale(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu_that_plans()
    planner = make(size, 1, num_layers=2, keep_history=True)
    model = Model(rank, make_placement(size), 2, max_redundants=6 * size)
    for batch in range(12):
        if batch == 6:
            planner.update_placement([denser_placement(size)] * 2)
            model.planner.update_placement([denser_placement(size)] * 2)
        if batch == 9:
            planner.join()
        tokens = model.tokens(batch)
        got = plan_on_gpu(planner, tokens[rank], batch % 2, with_quotas=True)
        assert equal(got, model.run_quotas(tokens, batch % 2)), f"batch {batch}"
    assert PlanningGpuPlanner.calls == ["count", "run", "quotas"] * 12
    assert planner.exchange_stats().transport == "collective" and planner.exchange_stats().bytes > 0
    planner.close()  # with counts under way
    with pytest.raises(RuntimeError, match="planner: is closed"):
        plan_on_gpu(planner, tokens[rank])


def stale_and_a_batch_apart(rank: int, size: int, folder: str) -> None:
    """Rank 1 comes to each batch only after the others have enqueued theirs."""
    pretend_a_gpu_that_plans()
    planner = make(size, 1)
    start(planner)
    model = Model(rank, make_placement(size), max_redundants=6 * size)
    for batch in range(5):
        tokens = model.tokens(batch)
        if rank == 1:
            wait_for_others(folder, 1, size, f"has planned {batch}")
        ids, _ = plan_on_gpu(planner, tokens[rank])
        signal(folder, f"{rank} has planned {batch}")
        assert (ids == model.run_quotas(tokens)[0]).all(), f"batch {batch}"


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("function", [stale, stale_and_a_batch_apart])
def test_in_parallel_with_the_stream(
    function: Callable[..., None], size: int, tmp_path: pathlib.Path
) -> None:
    assert run_ranks(function, size, tmp_path) == [""] * size


class Work:
    """A torch.distributed.Work that logs its wait() in place of a stream."""

    log: list[str] = []

    def __init__(self, name: str) -> None:
        self.name = name

    def wait(self) -> None:
        Work.log.append(f"wait {self.name}")


class FakeExchange:
    size = 2

    def __init__(self) -> None:
        self.started = 0

    def start(self, everyone: Any, mine: Any) -> Work:
        assert (len(everyone), len(mine)) == (10, 5)
        self.started += 1
        return Work(f"{self.started}")


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    Work.log = []
    exchange: Any = FakeExchange()
    found: Any = _exchange.DeviceRounds(exchange, 8, torch.device("cpu"))

    def capture(is_on: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: is_on)

    found.capture = capture
    capture(False)
    return found


def test_what_is_under_way_is_waited_for_once(rounds: Any) -> None:
    rounds.join()
    rounds.start(5)
    rounds.join()
    rounds.join()
    assert Work.log == ["wait 1"]
    assert rounds.bytes == 4 * 8 * 3


def test_a_capture_takes_nothing_from_outside(rounds: Any) -> None:
    rounds.start(5)
    rounds.capture(True)
    with pytest.raises(
        RuntimeError, match=r"from before the capture are under way, expected Planner.join"
    ):
        rounds.join()
    rounds.capture(False)
    rounds.join()
    rounds.capture(True)
    rounds.join()
    rounds.start(5)
    rounds.join()
    rounds.capture(False)
    rounds.start(5)
    rounds.join()
    assert Work.log == ["wait 1", "wait 2", "wait 3"]


def test_what_a_capture_left_is_over(rounds: Any) -> None:
    rounds.capture(True)
    rounds.start(5)
    rounds.capture(False)
    rounds.join()
    assert Work.log == []


def test_one_rank_gathers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _exchange.DeviceRounds(None, 8, torch.device("cpu"))
    alone.mine[:] = torch.arange(8)
    alone.start(5)
    alone.join()
    assert alone.everyone.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def on_one_rank(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu_that_plans()
    placement = lplb.Placement(np.r_[np.arange(16), np.arange(8)], num_ranks=1)
    planner = lplb.Planner(placement, staleness=1)
    model = Model(0, placement)
    for batch in range(4):
        tokens = model.tokens(batch)
        ids, _ = plan_on_gpu(planner, tokens[0])
        assert (ids == model.run_quotas(tokens)[0]).all()
    planner.close()


def counts_of_the_caller(rank: int, size: int, folder: str) -> None:
    """A planner without a group. The kernel never gets rows of a placement of another size."""
    pretend_a_gpu_that_plans()
    planner = lplb.Planner(make_placement(4), rank=2, staleness=1, max_redundants=24, quotas=True)
    model = Model(2, make_placement(4), max_redundants=24)
    for batch in range(7):
        if batch == 3:
            planner.update_placement(denser_placement(4))
            model.planner.update_placement(denser_placement(4))
        if batch == 5:
            model.last[0] = None
        tokens = model.tokens(batch)
        got = plan_on_gpu(planner, tokens[2], 0, True, model.last[0])
        assert PlanningGpuPlanner.was_given == (batch not in (0, 3, 5))
        assert equal(got, model.run_quotas(tokens)), f"batch {batch}"
    with pytest.raises(ValueError, match=r"all_counts: has shape \[4, 7\], expected \[4, "):
        plan_on_gpu(planner, tokens[2], 0, True, np.zeros((4, 7), np.int64))


@pytest.mark.parametrize("function", [on_one_rank, counts_of_the_caller])
def test_without_a_group(function: Callable[..., None], tmp_path: pathlib.Path) -> None:
    assert run_ranks(function, 1, tmp_path) == [""]
