# SPDX-License-Identifier: MIT
"""bench/moe_step.py on two ranks on the CPU: it compares the policies' outputs itself."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")

PROGRAM = pathlib.Path(__file__).parents[1] / "bench" / "moe_step.py"
SMALL = ["--cpu", "--hidden", "16", "--inner", "8", "--tokens", "48", "--batches", "3"]


def test_every_policy_gives_the_plain_layer_output_and_splits_balance() -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(PROGRAM)]
    ended = subprocess.run(
        [*run, *SMALL, "--loads", "qwen3-30b-a3b"], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()]
    imbalance = {r[0]: float(r[1]) for r in rows if len(r) == 11 and r[0] != "policy"}
    assert list(imbalance) == ["none", "eplb+even", "eplb+lplb", "homes+lplb", "homes+time"]
    assert 1 <= imbalance["eplb+lplb"] <= imbalance["eplb+even"]
    assert 1 <= imbalance["homes+lplb"] <= imbalance["none"]
