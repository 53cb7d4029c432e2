# SPDX-License-Identifier: MIT
"""The logic of bench/rank_time.py, with times that are given."""

from __future__ import annotations

import importlib
import itertools
import json
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

import lplb

FOLDER = pathlib.Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module("rank_time")


def test_batches_are_recorded_or_drawn(bench: Any) -> None:
    for cell in bench.CELLS:
        for past, load in itertools.islice(bench.batches_of(cell), 3):
            topk = 6 if cell.loads.startswith("deepseek") else 8
            assert load.sum() == cell.tokens * topk, cell.name
            assert len(past) == len(load) and past.sum() > load.sum() / 1000
            assert len(load) % cell.num_ranks == 0


def test_homes_stay_and_hot_experts_get_replicas(bench: Any) -> None:
    past = np.arange(32)[::-1] ** 2 + 1
    placement = bench.homes_and_slots(past, 8, 2)
    ranks = np.asarray(placement.physical_to_logical).reshape(8, 6)
    assert (ranks[:, :4] == np.arange(32).reshape(8, 4)).all()
    assert all(len(set(rank)) == 6 for rank in ranks.tolist())
    counts = np.bincount(ranks.ravel(), minlength=32)
    assert counts[0] == counts.max() > counts[15] == 1


class Given:
    """Times of a rank that are known: 10 for each active expert and 1 for each token."""

    def __init__(self) -> None:
        self.asked = 0

    def laps(self, vectors: list[list[int]], rounds: int) -> list[list[float]]:
        self.asked += len(vectors)
        assert len({tuple(v) for v in vectors}) == len(vectors)
        return [[10.0 * sum(n > 0 for n in v) + sum(v)] * rounds for v in vectors]


def test_the_slowest_rank_counts(bench: Any) -> None:
    cell = bench.CELLS[0]
    timer = Given()
    result = bench.measure(cell, timer, 60, 2)
    assert all(len(times) == 2 for times in result.time.values())
    past, load = next(bench.batches_of(cell))
    homes = load.reshape(8, 8)
    expected = max(10 * np.count_nonzero(r) + r.sum() for r in homes)
    assert result.time["none"][0] == expected
    slots = lplb.rebalance_experts(past[None], 80, 1, 1, 8)[0][0]
    split = lplb.solve(lplb.Placement(slots, 8), load)
    ranks = np.asarray(split.physical_load).reshape(8, 10)
    expected = max(10 * np.count_nonzero(r) + r.sum() for r in ranks)
    assert result.time["EPLB tokens"][0] == expected
    assert set(result.noise) == {0.0}
    assert result.ratio("none", "none") == 1
    assert 8 < timer.asked <= 2 * 56


def test_the_split_by_time_is_the_fastest_by_its_model(bench: Any) -> None:
    for cell in bench.CELLS[:2] + bench.CELLS[-1:]:
        model = lplb.CostModel.load(
            bench.ROOT / "data" / "cost" / f"{bench.LAYERS[cell.layer][2]}.json"
        )
        result = bench.measure(cell, bench.ModelTimer(model), 60, 2)
        assert result.predicted == result.time
        for place in ("EPLB", "homes"):
            for i in range(2):
                best = result.time[f"{place} time"][i]
                assert best <= min(result.time[f"{place} {s}"][i] for s in bench.SPLITS) + 1e-9
                assert best >= result.bound[place][i] - 1e-9
        columns = bench.header().count("|")
        assert bench.row(result).count("|") == columns
        loaded = json.loads(bench.to_json([result], "none"))["cells"][0]
        assert loaded["mean_us"]["none"] == result.mean("none")


def test_the_program_prints_a_table(
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "times.json"
    arguments = "rank_time --by-model --seconds 1 --most 1 --cells dsv3/EP8+2/64"
    monkeypatch.setattr(sys, "argv", [*arguments.split(), "--json", str(path)])
    assert bench.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no measurement" in lines[0] and lines[6] == ""
    # Three cells and two placements have a slowest other split; one cell has four targets more.
    met = [line for line in lines[9:] if line.endswith("| yes |")]
    assert len(met) == len(lines[9:]) == 3 * 2 + 4
    assert [c["tokens"] for c in json.loads(path.read_text())["cells"]] == [64, 64, 64]


def test_without_a_gpu_it_skips(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["rank_time"])
    assert bench.main() == 0
    assert capsys.readouterr().out == "rank_time: skipped, there is no GPU\n"
