# SPDX-License-Identifier: MIT
"""bench/moe_step.py on two ranks on the CPU: it compares the policies' results itself."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")

PROGRAM = pathlib.Path(__file__).parents[1] / "bench" / "moe_step.py"
SMALL = ["--cpu", "--hidden", "16", "--inner", "8", "--tokens", "48", "--batches", "3"]


# In hotspot a quarter of the experts is hot, and they are neighbours: one slot takes one of them.
@pytest.mark.parametrize(
    ("loads", "most"), [("qwen3-30b-a3b", 1.02), ("mild", 1.02), ("hotspot", 1.7)]
)
def test_every_policy_gives_the_plain_layers_results_and_splits_balance(
    loads: str, most: float
) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(PROGRAM)]
    ended = subprocess.run(
        [*run, *SMALL, "--loads", loads], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()]
    imbalance = {r[0]: float(r[1]) for r in rows if len(r) == 11 and r[0] != "policy"}
    assert list(imbalance) == [
        "none",
        "eplb+even",
        "eplb+lplb",
        "homes+lplb",
        "homes+time",
        "none+dynamic",
    ]
    assert 1 <= imbalance["eplb+lplb"] <= imbalance["eplb+even"]
    assert 1 <= imbalance["homes+lplb"] <= imbalance["none"]
    assert 1 <= imbalance["none+dynamic"] <= min(most, imbalance["none"])


def test_a_table_that_would_begin_too_late_is_left_out() -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(PROGRAM)]
    ended = subprocess.run(
        [*run, *SMALL, "--loads", "skew", "--seconds", "0"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "skew, 48 tokens a rank: left out after 0 s" in ended.stdout
