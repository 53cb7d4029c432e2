# SPDX-License-Identifier: MIT
"""Runs what docs/convert.md and examples/simulate.py show."""

from __future__ import annotations

import pathlib
import re
import struct
import sys
import types
from typing import Any

import numpy as np
import pytest
from convert_files import (
    lplb_command,
    random_load,
    random_slots,
    run_program,
    scatter,
    trtllm_statistics,
)

from lplb import convert
from lplb.convert.cli import make_parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/convert.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the project's folder docs")


def blocks(kind: str) -> list[str]:
    """The fenced blocks of `kind` on the page."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_vllm_s_recipe_saves_what_convert_reads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    (recipe,) = [block for block in blocks("python") if "class Recorder" in block]
    names: dict[str, Any] = {}
    exec(recipe, names)
    slots = random_slots(1, 2, 6, 8)
    load = np.stack([random_load(rank, 4, 2, 6, 30) for rank in range(2)])
    for rank in range(2):
        window = np.roll(scatter(load[rank], slots, rank), 1, axis=0)
        model = types.SimpleNamespace(
            expert_load_window=torch.tensor(window), physical_to_logical_map=torch.tensor(slots)
        )
        worker = names["Recorder"]()
        state = types.SimpleNamespace(model_states={"hash": model}, expert_load_window_step=1)
        worker.model_runner = types.SimpleNamespace(eplb_state=state)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        worker.save_expert_load(str(tmp_path / "dumps"))
    files = [tmp_path / f"dumps/model0_rank{rank}.pt" for rank in range(2)]
    steps = list(convert.open_recording(files).steps())
    assert np.array_equal(np.stack(steps, axis=1), load)


def test_the_python_block_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = random_load(1, 4, 2, 8, 16)[np.newaxis]
    trtllm_statistics(tmp_path / "statistics", counts, range(4), [3, 4], 2)
    placement = convert.Placement(random_slots(1, 2, 8, 32))
    convert.write_placement(placement, tmp_path / "experts.json", "sglang")
    (block,) = [block for block in blocks("python") if "open_recording" in block]
    exec(block, {})
    assert (tmp_path / "trace.jsonl").exists()
    assert convert.read_placement(tmp_path / "balancer.yaml").layers == (3, 4)


def test_the_commands_shown_have_no_unknown_option() -> None:
    lines = [
        line.split("#")[0].split("&&")[0]
        for block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("python -m lplb.convert ")
    ]
    assert len(lines) >= 6
    for line in lines:
        make_parser().parse_args(line.split()[3:])


def test_the_example_draws_a_picture(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    command = lplb_command()
    picture = tmp_path / "imbalance.png"
    script = (sys.executable, ROOT / "examples/simulate.py")
    trace = ROOT / "data/traces/deepseek-v2-lite.load.jsonl"
    done = run_program(*script, trace, picture, "--batch-tokens", 1024, "--lplb", command)
    assert done.returncode == 0, done.stderr
    assert "5 policies; least imbalance with cube+lplb: mean 1.0" in done.stdout
    data = picture.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 800
    assert height > 300
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pixels = pyplot.imread(picture)[..., :3].reshape(-1, 3)
    # Each policy's bar and line have its colour.
    for red, green, blue in ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167)):
        near = np.abs(pixels * 255 - (red, green, blue)).max(axis=1) < 3
        assert near.sum() > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "a.png"], "none.jsonl"),
        (["synthetic:W0_balanced", "a.png", "--policies", "a,b,c,d,e,f,g,h"], "expected at most 7"),
    ],
)
def test_the_example_says_what_is_wrong(
    tmp_path: pathlib.Path, arguments: list[str], message: str
) -> None:
    pytest.importorskip("matplotlib")
    script = (sys.executable, ROOT / "examples/simulate.py")
    done = run_program(*script, *arguments, "--lplb", lplb_command(), cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.png").exists()
