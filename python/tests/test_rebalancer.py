# SPDX-License-Identifier: MIT
"""The slow loop of ranks, which are processes, over gloo."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import time
from typing import Any

import numpy as np
import pytest
from moving import EXPERTS, contiguous, drawn, model, plain, spread, weights_of
from optional import torch
from ranks import run_ranks, world

import lplb

LAYERS = 2
OPTIONS = lplb.ControllerOptions(window=2, round_cost=2, life=8)


class Engine:
    """A rank with weights, a planner and a rebalancer; its batches are checked."""

    def __init__(
        self,
        rank: int,
        size: int,
        timeout: float = 30.0,
        search_timeout: float = 30.0,
        **options: Any,
    ) -> None:
        self.rank, self.size = rank, size
        self.layers = model(LAYERS)
        placements = [contiguous(size)] * LAYERS
        self.held = weights_of(self.layers, placements, rank)
        self.planner = lplb.Planner(placements, group=world(), keep_history=True, timeout=timeout)
        self.mover = lplb.WeightMover(self.held, placements, group=world(), timeout=timeout)
        options = {"options": OPTIONS, "sample_every": 2, "timeout": search_timeout, **options}
        self.rebalancer = lplb.Rebalancer(self.planner, self.mover, **options)
        self.random = np.random.default_rng(100 + rank)

    def run(
        self, popularity: Any, tokens: int = 8, phase: int = 0, checks: bool = True
    ) -> list[int]:
        changed = self.rebalancer.step(phase)
        for layer in range(LAYERS):
            x, ids = drawn(self.random, tokens, popularity)
            physical = self.planner.run(ids, layer=layer)
            if not checks:
                continue
            found = spread(self.held[layer], x, physical, self.rank, self.size)
            assert torch.equal(found, plain(self.layers[layer], x, ids))
        return changed

    def wait_for_samples(self, least: int) -> dict[str, Any]:
        """The status after `least` samples: the thread comes later than the batches."""
        deadline = time.monotonic() + 20
        while self.rebalancer.status()["samples"] < least:
            assert time.monotonic() < deadline, self.rebalancer.status()
            time.sleep(0.01)
        time.sleep(0.2)  # the decision of the last sample
        return self.rebalancer.status()

    def placements(self) -> list[list[int]]:
        placed = [self.planner.placement(i) for i in range(LAYERS)]
        assert placed == self.mover.placements
        return [p.physical_to_logical.tolist() for p in placed]


def hot(first: int) -> Any:
    popularity = np.ones(EXPERTS)
    popularity[[first % EXPERTS, (first + 1) % EXPERTS]] = 20
    return popularity


def follow_the_load(rank: int, size: int, folder: str) -> None:
    engine = Engine(rank, size)
    changed = [engine.run(hot(batch // 60 * 5), 20) for batch in range(240)]
    status = engine.rebalancer.status()
    told = [changed, engine.placements(), status["generation"], status["samples"]]
    pathlib.Path(folder, f"told{rank}").write_text(repr(told))
    assert status["phase"] in ("collecting", "searching", "moving") and not status["reason"]
    assert status["generation"] == sum(map(len, changed)) >= 4
    assert status["stats"]["rebalances"] >= 2 and status["stats"]["moves"] > 0
    assert status["mover"]["bytes_received"] + status["mover"]["bytes_sent"] > 0
    assert 0.1 <= status["stats"]["trust"] <= 1 and status["batches"] == 240
    engine.rebalancer.close()
    assert engine.rebalancer.status()["phase"] == "closed"


def test_placements_follow_the_load_and_batches_are_right(tmp_path: pathlib.Path) -> None:
    assert run_ranks(follow_the_load, 4, tmp_path, 240) == [""] * 4
    told = [(tmp_path / f"told{rank}").read_text().rsplit(",", 1)[0] for rank in range(4)]
    assert told == told[:1] * 4


def weigh_noise(rank: int, size: int, folder: str) -> None:
    """Loads that differ by 2 %, in a placement that is made for them; and no loads at all."""
    engine = Engine(rank, size, options=lplb.ControllerOptions(window=4, round_cost=0))
    shared = np.random.default_rng(3)
    before = engine.placements()
    for batch in range(60):
        if batch < 30:
            # Every expert has the same tokens on each rank, but for 2 %.
            counts = np.rint(100 * (1 + 0.02 * shared.standard_normal(EXPERTS))).astype(np.int64)
            ids = torch.from_numpy(np.repeat(np.arange(EXPERTS), counts)[:, None].copy())
        else:
            ids = torch.zeros((0, 1), dtype=torch.int64)
        assert engine.rebalancer.step() == []
        for layer in range(LAYERS):
            engine.planner.run(ids, layer=layer)
    status = engine.wait_for_samples(29)
    assert engine.placements() == before and status["generation"] == 0
    assert status["decision"]["kind"] == "keep", status
    assert status["stats"]["ignored"] >= 8 * LAYERS


def test_noise_and_idle_ranks_move_nothing(tmp_path: pathlib.Path) -> None:
    assert run_ranks(weigh_noise, 4, tmp_path) == [""] * 4


def search_too_long(rank: int, size: int, folder: str) -> None:
    engine = Engine(rank, size, search_seconds=1e-9)
    for batch in range(30):
        engine.run(hot(batch // 5))
    status = engine.wait_for_samples(14)
    assert status["generation"] == 0 and not status["reason"]
    assert status["decision"]["undecided"] == LAYERS
    assert status["decision"]["reason"] == "the search ran out of time"


def test_a_search_has_a_budget(tmp_path: pathlib.Path) -> None:
    assert run_ranks(search_too_long, 4, tmp_path) == [""] * 4


def search_for_ever(rank: int, size: int, folder: str) -> None:
    engine = Engine(rank, size, search_timeout=1.0, search_seconds=0.5)
    if rank == 0:
        engine.rebalancer._controllers.decide = lambda seconds: time.sleep(60)  # type: ignore
    before = engine.placements()
    started = time.monotonic()
    goes_on = torch.ones(1)
    while goes_on:
        engine.run(hot(3))  # batches do not wait, and are right
        goes_on[0] = time.monotonic() - started < 6
        torch.distributed.broadcast(goes_on, 0)
    phase = engine.rebalancer.status()["phase"]
    assert phase == ("searching" if rank == 0 else "failed")
    if rank > 0:
        assert "a decision within 1.5 s" in engine.rebalancer.status()["reason"]
    else:
        assert engine.rebalancer.status()["heartbeat"] > 3
    assert engine.placements() == before


def test_a_search_that_hangs_stops_no_batch(tmp_path: pathlib.Path) -> None:
    assert run_ranks(search_for_ever, 4, tmp_path) == [""] * 4


def die_in_a_move(rank: int, size: int, folder: str) -> None:
    engine = Engine(rank, size, timeout=2.0)
    before = engine.placements()
    if rank == 2:
        engine.mover._weights.receive = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore
    started = time.monotonic()
    while engine.rebalancer.status()["phase"] != "failed":
        assert time.monotonic() - started < 20
        try:
            engine.run(hot(3), 20, checks=False)
        except RuntimeError:  # the planner misses rank 2, too
            engine.mover.step()
            time.sleep(0.05)
    reason = engine.rebalancer.status()["reason"]
    assert reason and engine.placements() == before
    held = weights_of(engine.layers, [contiguous(size)] * LAYERS, rank)
    for mine, wanted in zip(engine.held, held, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, wanted, strict=True))


def test_a_rank_that_is_killed_in_a_move_is_told(tmp_path: pathlib.Path) -> None:
    assert run_ranks(die_in_a_move, 4, tmp_path) == [""] * 4


def tell(rank: int, size: int, folder: str) -> None:
    engine = Engine(rank, size, num_phases=2, sample_every=3)
    for batch in range(40):
        engine.run(hot(3), 20 if batch % 2 == 0 else 1, phase=batch % 2)
    text = engine.rebalancer.prometheus(rank=str(rank))
    comment = r"# (HELP|TYPE) lplb_rebalancer_\w+ .+"
    value = rf'lplb_rebalancer_\w+{{rank="{rank}"}} [\d.e+-]+'
    for line in text.splitlines():
        assert re.fullmatch(f"{comment}|{value}", line), line
    assert f'lplb_rebalancer_batches_total{{rank="{rank}"}} 40\n' in text
    with pytest.raises(ValueError, match=r"^phase: is 2, expected 0 to 1$"):
        engine.rebalancer.step(2)
    planner, mover = engine.planner, engine.mover
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sample_every": 0}, r"^sample_every: is 0, expected at least 1$"),
        ({"search_seconds": 0}, r"^search_seconds: is 0, expected more than 0 seconds$"),
    )
    for options, why in wrong:
        with pytest.raises(ValueError, match=why):
            lplb.Rebalancer(planner, mover, **options)
    with pytest.raises(ValueError, match=r"^round_cost: -1 is not a finite number >= 0$"):
        lplb.Rebalancer(planner, mover, lplb.ControllerOptions(round_cost=-1))
    with pytest.raises(ValueError, match=r"^planner: keeps no sum of all batches"):
        plain_planner = lplb.Planner(contiguous(size), group=world(), window=3)
        lplb.Rebalancer(plain_planner, mover)


def test_status_and_arguments(tmp_path: pathlib.Path) -> None:
    assert run_ranks(tell, 4, tmp_path) == [""] * 4
