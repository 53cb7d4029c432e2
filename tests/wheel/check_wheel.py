# SPDX-License-Identifier: MIT
"""Uses an installed wheel as a user would, and prints figures that are equal on every processor.

usage: check_wheel.py cuda|cpu COMMAND...

cuda: the wheel must have CUDA kernels. If there is a GPU, it must give the CPU's integers.
COMMAND: how to run the command `lplb` of the same wheel.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import lplb


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()[:16]


def check_cuda(wanted: str) -> None:
    info = lplb.cuda_info()
    assert info["compiled"] == (wanted == "cuda"), info
    if not info["missing"]:
        placement, loads = instance()
        for load in loads:
            split = lplb.solve(placement, load, backend="cuda")
            assert split.backend == "cuda"
            expected = lplb.solve(placement, load).physical_load
            assert (split.physical_load == expected).all()


def instance() -> tuple[lplb.Placement, np.ndarray]:
    """A placement by EPLB on 16 ranks, and the loads of 50 batches."""
    random = np.random.Generator(np.random.PCG64(20))
    loads = random.integers(0, 4000, (50, 64)) ** 2 // 1000
    maps = lplb.rebalance_experts(loads[:1], 96, 1, 1, 16)
    return lplb.Placement(maps[0][0], num_ranks=16), loads


def solved() -> dict[str, object]:
    placement, loads = instance()
    splits = [lplb.solve(placement, load) for load in loads]
    for split in splits:
        split.verify()
    planner = lplb.Planner(placement, rank=0, same_tokens=True)
    ids = np.random.Generator(np.random.PCG64(21)).integers(0, 64, (256, 8))
    return {
        "max_load": [int(split.max_load) for split in splits[:5]],
        "optimal": sum(split.status == "optimal" for split in splits),
        "split": digest(np.stack([split.physical_load for split in splits])),
        "plan": digest(planner.run(ids)),
    }


def replayed(command: list[str]) -> dict[str, object]:
    """What the command says; equal to what the package says but for times."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.json")
        policies = "none,eplb,eplb+lplb,cube+lplb,homes+lplb"
        subprocess.run(
            [*command, "simulate", "--trace", "synthetic:W6_rotating_hotspot", "--json", path]
            + ["--policies", policies],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        told = json.loads(path.read_text())["policies"]
    report = lplb.simulate("synthetic:W6_rotating_hotspot", policies=policies)
    assert [p["imbalance"] for p in report["policies"]] == [p["imbalance"] for p in told]
    return {p["name"]: p["imbalance"]["mean"] for p in told}


def main() -> None:
    wanted, *command = sys.argv[1:]
    check_cuda(wanted)
    figures = {"version": lplb.__version__, "solve": solved(), "simulate": replayed(command)}
    print(json.dumps(figures, indent=1))


main()
