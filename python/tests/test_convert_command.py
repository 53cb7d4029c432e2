# SPDX-License-Identifier: MIT
"""Tests of `python -m lplb.convert`, and of the command lplb on the files that it writes."""

from __future__ import annotations

import json
import pathlib
import stat
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from convert_files import (
    random_load,
    random_slots,
    read_trace,
    run_lplb,
    run_program,
    scatter,
    sglang_records,
    sglang_stat,
    trtllm_statistics,
)

from lplb.convert.cli import main

LOAD = random_load(1, 6, 2, 16, 80)


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in `tmp_path`, so that command lines name files without a folder."""
    monkeypatch.chdir(tmp_path)


def run(line: str) -> int:
    """The exit status of `python -m lplb.convert` with `line`, which is split at spaces."""
    return main(line.split())


def simulate(tmp_path: pathlib.Path, options: str) -> Any:
    """The report of a replay on 4 ranks."""
    return json.loads(run_lplb(f"simulate --json - --num-ranks 4 {options}", tmp_path))


def test_a_recorder_dump_is_replayed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = sglang_stat(tmp_path, np.concatenate([LOAD, np.zeros_like(LOAD[:2])]))
    assert run(f"trace {dump.name} --num-topk 4 --out trace.jsonl") == 0
    line = "trace.jsonl: 6 steps (2 empty ones left out), layers 0 to 1, 16 experts, top 4\n"
    assert capsys.readouterr().out == line
    report = simulate(tmp_path, "--trace trace.jsonl --redundants 1 --policies none")
    ranks = LOAD.reshape(6, 2, 4, 4).sum(axis=3)
    expected = float((ranks.max(axis=2) / ranks.mean(axis=2)).mean())
    assert report["policies"][0]["imbalance"]["mean"] == pytest.approx(expected, abs=1e-9)
    assert (report["trace"]["num_batches"], report["trace"]["num_layers"]) == (6, 2)


def test_all_forms_of_one_recording_replay_alike(tmp_path: pathlib.Path) -> None:
    slots = random_slots(2, 2, 16, 20)
    half = LOAD // 2
    parts = [half, LOAD - half]
    for rank, part in enumerate(parts):
        sglang_records(tmp_path, rank, range(6), scatter(part, slots, rank), slots)
    trtllm_statistics(tmp_path / "trt", np.stack(parts), range(6), [0, 1], 4)
    np.save(tmp_path / "load.npy", LOAD)
    means = []
    for source in (". --num-topk 4", "trt", "load.npy --num-topk 4"):
        assert run(f"trace {source} --out trace.jsonl") == 0
        report = simulate(tmp_path, "--trace trace.jsonl --redundants 1")
        # The first three policies are none, eplb and eplb+lplb.
        means.append([policy["imbalance"]["mean"] for policy in report["policies"]])
    assert means[0] == means[1] == means[2]
    assert means[0][2] <= means[0][1]


def test_sources_reach_the_replay(tmp_path: pathlib.Path) -> None:
    trtllm_statistics(tmp_path / "trt", np.stack([LOAD] * 4), range(6), [0, 1], 4)
    assert run("trace trt --sources --out t.jsonl") == 0
    report = simulate(tmp_path, "--trace t.jsonl --policies none --redundants 0")
    # Every source holds the same tokens, so a quarter of each expert's tokens stay on their rank.
    assert report["policies"][0]["local_share"] == pytest.approx(0.25)


def test_from_a_dump_to_the_engine_s_placement(tmp_path: pathlib.Path) -> None:
    dump = sglang_stat(tmp_path, LOAD)
    assert run(f"load {dump.name} --last 3 --out load.json") == 0
    load = json.loads((tmp_path / "load.json").read_text())
    assert load == {"load": LOAD[3:].sum(axis=0).tolist()}
    run_lplb("place --load load.json --num-ranks 4 --redundants 1 --json p.json", tmp_path)
    assert run("placement p.json --to sglang --out s.json") == 0
    rows = json.loads((tmp_path / "s.json").read_text())["physical_to_logical_map"]
    assert np.shape(rows) == (2, 20)
    assert all(set(row) == set(range(16)) for row in rows)


def test_standard_output_holds_the_file_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "load.npy", LOAD)
    assert run("trace load.npy --num-topk 1 --out -") == 0
    out, err = capsys.readouterr()
    (tmp_path / "t.jsonl").write_text(out)
    assert np.array_equal([step["load"] for step in read_trace(tmp_path / "t.jsonl")[1]], LOAD)
    assert err == ""


def test_keys_that_do_not_fit_the_other_form_are_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    placement = {"num_ranks": 2, "num_logical_experts": 2, "physical_to_logical": [0, 1]}
    (tmp_path / "p.json").write_text(json.dumps({**placement, "rank_speed": [1, 2]}))
    assert run("placement p.json --to sglang --out s.json") == 0
    assert capsys.readouterr().err == "lplb.convert: note: rank_speed left out\n"


NOT_READ = "lplb.convert: none.npy: cannot be read: No such file or directory"
NOT_WRITTEN = "no/t.jsonl: cannot be written: No such file or directory"
NOT_APART = "load.npy: does not tell ranks apart"


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("trace none.npy --num-topk 4 --out t.jsonl", 3, NOT_READ),
        ("trace load.npy --out t.jsonl", 3, "expected num_topk (--num-topk)"),
        ("trace load.npy --num-topk 4 --sources --out t.jsonl", 3, NOT_APART),
        ("trace load.npy --num-topk 4 --out no/t.jsonl", 4, NOT_WRITTEN),
        ("placement load.npy --out p.json", 3, "load.npy: "),
        ("trace load.npy --num-topk 0 --out t.jsonl", 2, "--num-topk"),
        ("trace --out t.jsonl", 2, "INPUT"),
        ("convert", 2, "invalid choice"),
        ("", 2, "COMMAND"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], line: str, status: int, message: str
) -> None:
    np.save("load.npy", LOAD)
    assert run(line) == status
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True)
    if status != 2:
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["load.npy"]


def test_an_old_file_is_replaced_whole_and_keeps_its_mode(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "load.npy", LOAD)
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    assert run("trace load.npy --num-topk 4 --out link.jsonl") == 0
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert len(read_trace(real)[1]) == 6
    before = real.read_bytes()
    bad = LOAD.astype(float)
    bad[3, 0, 0] = 0.5
    np.save(tmp_path / "load.npy", bad)
    assert run("trace load.npy --num-topk 4 --out link.jsonl") == 3
    assert real.read_bytes() == before


def test_devices_are_written_in_place(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "load.npy", LOAD)
    assert run("trace load.npy --num-topk 4 --out /dev/null") == 0
    assert pathlib.Path("/dev/null").is_char_device()


@pytest.mark.parametrize("command", ["", "trace", "load", "placement"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{command} --help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m lplb.convert")
    assert "Example: " in text or not command
    assert max(map(len, text.splitlines())) <= 100


def test_the_module_runs_without_torch_and_its_like() -> None:
    code = (
        "import sys, lplb.convert, lplb.convert.cli\n"
        "assert not {'torch', 'pyarrow', 'safetensors', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    done = run_program(sys.executable, "-m", "lplb.convert", "--help")
    assert done.returncode == 0, done.stderr
    assert "expert_distribution_recorder_*.pt" in done.stdout
