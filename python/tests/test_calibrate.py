# SPDX-License-Identifier: MIT
"""Cost models from measured times."""

from __future__ import annotations

import json
import pathlib
import statistics

import numpy as np
import pytest

import lplb
from lplb import calibration
from lplb._calibrate import time_with_events
from lplb.calibration import GroupedExperts, read_points

COST = pathlib.Path(__file__).parents[2] / "data" / "cost"
MEASURED = ["h200-dsv3-bf16", "h200-dsv2lite-bf16", "h200-qwen3-30b-bf16"]


def staircase(_: object, vectors: list[list[int]]) -> list[float]:
    """Times that a model says exactly: 20 us, and for an expert 5 us and 3 us a tile of 64."""
    tiles = [[-(-n // 64) for n in v if n > 0] for v in vectors]
    return [20 + sum(5 + 3 * (t if t < 5 else t + t % 2) for t in ts) for ts in tiles]


def test_a_staircase_is_found() -> None:
    found = lplb.calibrate(print, tokens=700, experts=6, tile=64, timer=staircase)
    model = found.model
    assert [model.expert_cost(n) for n in (1, 64, 65, 256)] == pytest.approx(
        [8, 8, 11, 17], abs=0.02
    )
    assert model.rank_cost() == pytest.approx(20, abs=0.02)
    assert model.expert_cost(257) == model.expert_cost(384) == pytest.approx(23, abs=0.02)
    assert found.error < 0.001 and found.error_seen < 0.001 < found.error_of_tokens
    assert found.num_seen + found.num_unseen == len(found.points)
    assert all(len(p.tokens) == 6 and max(p.tokens) <= 700 for p in found.points)


@pytest.mark.parametrize("name", MEASURED)
def test_half_of_the_measured_points_says_the_other_half(name: str) -> None:
    points = read_points(COST / "points" / f"{name}.json")
    fitted = lplb.fit_cost(points[::2])
    rates = [p.us / sum(p.tokens) for p in points[::2]]
    errors, of_a_rate = [], []
    for point in points[1::2]:
        parts = [fitted.model.expert_cost(n) for n in point.tokens if n > 0]
        errors.append(abs((sum(parts) + fitted.model.rank_cost()) / point.us - 1))
        of_a_rate.append(abs(statistics.median(rates) * sum(point.tokens) / point.us - 1))
    assert statistics.fmean(errors) < 0.065
    assert sorted(errors)[int(0.9 * len(errors))] < 0.15
    assert statistics.fmean(errors) < 0.2 * statistics.fmean(of_a_rate)
    costs = [fitted.model.expert_cost(n) for n in range(1, 3000, 50)]
    assert costs == sorted(costs) and costs[0] > 0


@pytest.mark.parametrize("name", MEASURED)
def test_the_command_makes_the_models_of_the_project(
    name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cost.json"
    points = str(COST / "points" / f"{name}.json")
    assert calibration.main(["--points", points, "--decimals", "1", "--out", str(out)]) == 0
    assert lplb.CostModel.load(out) == lplb.CostModel.load(COST / f"{name}.json")
    assert "that the fit has not seen" in capsys.readouterr().out


def test_points_are_written_and_read(tmp_path: pathlib.Path) -> None:
    found = lplb.calibrate(print, tokens=300, experts=3, timer=staircase)
    path = tmp_path / "points.json"
    found.save_points(path, "a layer")
    assert json.loads(path.read_text())["layer"] == "a layer"
    assert lplb.fit_cost(read_points(path)) == found


def test_what_cannot_be_fitted_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="tokens: is 0"):
        lplb.calibrate(print, tokens=0, experts=3, timer=staircase)
    with pytest.raises(ValueError, match="experts: is 0"):
        lplb.calibrate(print, tokens=3, experts=0, timer=staircase)
    with pytest.raises(ValueError, match="timer: gave 1 times"):
        lplb.calibrate(print, tokens=300, experts=3, timer=lambda run, vectors: [1.0])
    with pytest.raises(ValueError, match=r"points\[0\]: took 0.0, expected a time > 0"):
        lplb.calibrate(print, tokens=300, experts=3, timer=lambda run, v: [0.0] * len(v))
    with pytest.raises(ValueError, match="points: 1 to fit and 0 to check"):
        lplb.fit_cost([lplb.CostPoint([1, 0], 2.0)])
    with pytest.raises(ValueError, match="decimals: is 4"):
        lplb.fit_cost([], decimals=4)
    bad = tmp_path / "bad.json"
    for text in ("{", "[]", '{"points": [{"tokens": "x", "us": 1}]}', '{"points": [{"us": 1}]}'):
        bad.write_text(text)
        arguments = ["--points", str(bad), "--out", str(tmp_path / "none.json")]
        assert calibration.main(arguments) == 1, text
        message = capsys.readouterr().err
        assert message.startswith("lplb-calibrate: ") and message.count("\n") == 1, message
    assert not (tmp_path / "none.json").exists()


def test_without_a_gpu_there_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert calibration.main(["--out", "/nonexistent/cost.json"]) == 1
    assert capsys.readouterr().err == "lplb-calibrate: there is no GPU\n"
    with pytest.raises(RuntimeError, match="there is no GPU, expected one or a timer"):
        lplb.calibrate(print, tokens=300, experts=3)


def test_the_layer_is_that_of_its_experts() -> None:
    torch = pytest.importorskip("torch")
    layer = GroupedExperts(32, 16, 4, device="cpu")
    vector = [3, 0, 5]
    rows, ends = layer.prepare(vector)
    got = layer.run(rows, ends, 2)
    up, down = layer.layers[1]
    at = 0
    for expert, tokens in enumerate(vector):
        mine = rows[at : at + tokens].float()
        gate, value = (mine @ up[expert].float()).chunk(2, -1)
        expected = (torch.nn.functional.silu(gate) * value) @ down[expert].float()
        np.testing.assert_allclose(got[at : at + tokens].float(), expected, rtol=0.05, atol=0.01)
        at += tokens
    assert at == len(got) == 8


def test_on_a_gpu_times_rise_with_active_experts() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    layer = GroupedExperts(2048, 1408, 8)
    vectors = [[0] * 8, [1] * 1 + [0] * 7, [1] * 8]
    nothing, one, all_of_them = layer.time(print, vectors)
    assert nothing == 0 < one < all_of_them
    rows, ends = layer.prepare([4] * 8)
    eager = time_with_events(lambda counts: layer.run(*layer.prepare(counts), 1), [[1] * 8])
    assert eager[0] > 0 and len(rows) == 32 and int(ends[-1]) == 32
