# SPDX-License-Identifier: MIT
"""bench/peers.py: its processes, table and arguments, with stand-ins for the others."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import lplb

pytest.importorskip("torch")

from peers_stand_ins import PLANNER, PROGRAM, SOLVER, load_program, make_loads, part


@pytest.fixture(scope="module")
def peers() -> Any:
    return load_program()


def test_the_table(peers: Any) -> None:
    quality = part("judge").Quality([1.0, 1.5], [1.0, 1.02], 1)
    times = {"solve": {"graph": [4.0, 3.0, 9.0], "eager": [7.0]}, "run": {"eager": [1.0, 2.0]}}
    rows = [
        peers.Row("mild:cube8x2", "A 1", {"times": times}, quality),
        peers.Row("mild:EP16+16", "A 1", {"reason": "no"}, None),
        peers.Row("skew:EP16+16", "A 1", {"reason": "no"}, None),
        peers.Row("mild:cube8x2", "B", {}, part("judge").Quality([1.25])),
    ]
    lines = peers.table(rows)
    assert lines[2] == (
        "| mild:cube8x2 | A 1 | 4.0, 9.0 | 7.0 | - | 1.0 | 1.0100, 1.0200 | 1 | 1.2500, 1.5000 |"
    )
    assert lines[3] == "| mild:EP16+16 | A 1 | - | - | - | - | - | - | - |"
    assert lines[5] == "| mild:cube8x2 | B | - | - | - | - | - | - | 1.2500, 1.2500 |"
    assert {line.count("|") for line in lines} == {10}
    assert peers.reasons(rows) == ["A 1, mild:EP16+16, skew:EP16+16: no"]


def test_balancers_in_processes_of_their_own(peers: Any, tmp_path: pathlib.Path) -> None:
    names = ["mild:cube8x2", "mild:EP16+16", "skew:EP32+32"]
    cube = make_loads("mild:cube8x2", tmp_path, 2, 4)
    for package, files in {
        "original/lplb": {
            "__init__.py": PLANNER,
            "placement.txt": " ".join(map(str, cube.physical_to_logical)),
        },
        "ultra/ultra_ep": {"__init__.py": "__version__ = '1.0.0'", "_C.py": SOLVER},
        "none/sglang": {"__init__.py": "raise ImportError('no\\nkernels')"},
    }.items():
        (tmp_path / package).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / package / file).write_text(text)
    options = f"--device cpu --batches 2 --tokens 4 --json {tmp_path}/all.json --sglang"
    options += f" {tmp_path}/none --ultraep {tmp_path}/ultra --deepseek-lplb {tmp_path}/original"
    command = [sys.executable, str(PROGRAM), *options.split(), "--loads", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "SGLang lp cannot be imported: ImportError: no kernels." in lines
    assert done.stdout.split("\n\n")[-1].splitlines() == [
        f"LPLB drop-in {lplb.__version__}, mild:EP16+16, skew:EP32+32: "
        "takes only placements along a topology",
        "deepseek-ai/LPLB, mild:EP16+16, skew:EP32+32: takes only placements along a topology",
        "UltraEP 1.0.0, mild:EP16+16: RuntimeError: too many ranks",
        "UltraEP, skew:EP32+32: its process ended with status 7: out of luck",
    ]
    rows = {
        (row["loads"], row["balancer"].rstrip("0.1 ")): row
        for row in json.loads((tmp_path / "all.json").read_text())["rows"]
    }
    for name in names:
        ours = rows[name, "LPLB"]
        assert ours["quality"]["ratio"] == pytest.approx([1, 1], rel=1e-5)
        assert ours["quality"]["infeasible"] == 0
        assert set(ours["found"]["times"]) == {"solve", "run"}
        copies = rows[name, "LPLB copies"]["quality"]
        assert copies["ratio"] is None
        assert max(copies["imbalance"]) <= min(ours["quality"]["imbalance"]) + 0.02
    dropped_in = rows["mild:cube8x2", "LPLB drop-in"]["quality"]
    assert dropped_in["ratio"] == pytest.approx([1, 1], rel=1e-5)

    original = rows["mild:cube8x2", "deepseek-ai/LPLB"]["quality"]
    assert original["infeasible"] == 2
    even = np.array([1.0 / c for c in np.bincount(cube.physical_to_logical)])
    parts = even[cube.physical_to_logical].reshape(8, 34)
    parts[0, 0] = 1  # the original of share 1.25; its replica is slot 32 of the rank that copies it
    parts[cube.r2o[:, 0].tolist().index(0), 32] = 0
    for batch, load in enumerate(cube.batches):
        ranks = (load[cube.physical_to_logical].reshape(8, 34) * parts).sum(1)
        optimum = lplb.solve(lplb.Placement(cube.physical_to_logical, 8), load).max_load
        assert original["ratio"][batch] == pytest.approx(ranks.max() / optimum)
        homes = load.reshape(8, 32).sum(1)
        ultra = rows["mild:cube8x2", "UltraEP"]["quality"]
        assert ultra["imbalance"][batch] == pytest.approx(homes.max() / homes.mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--sglang /nowhere", "--sglang: /nowhere is neither a folder nor a Python interpreter"),
        ("--deepseek-lplb", "--deepseek-lplb: expected one argument"),
        ("--loads mild:cube", "--loads: invalid choice: 'mild:cube'"),
        ("--batches 0", "--batches: '0' is no number, expected at least 1"),
        ("--tokens many", "--tokens: 'many' is no number, expected at least 1"),
    ],
)
def test_bad_arguments_are_refused(
    peers: Any,
    options: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", *options.split()])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_gpu_it_says_so_in_one_line(
    peers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = lplb.cuda_info()["missing"]
    if not missing:
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["peers"])
    assert peers.main() == 0
    assert capsys.readouterr().out == f"peers: not run: {missing}\n"
