# SPDX-License-Identifier: MIT
"""Uses an installed wheel as a user would, and writes figures that are equal on every processor.

usage: check_wheel.py cuda|cpu FIGURES COMMAND...

cuda: the wheel must have CUDA kernels. If there is a GPU, it must give the CPU's integers.
FIGURES: the JSON file that is written. COMMAND: how to run the command `lplb` of the same wheel.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import lplb

POLICIES = "none,eplb,eplb+lplb,cube+lplb,homes+lplb,none+dynamic:1"


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()[:16]


def instance() -> tuple[lplb.Placement, np.ndarray]:
    """A placement by EPLB on 16 ranks, and the loads of 50 batches."""
    random = np.random.Generator(np.random.PCG64(20))
    loads = random.integers(0, 4000, (50, 64)) ** 2 // 1000
    maps = lplb.rebalance_experts(loads[:1], 96, 1, 1, 16)
    return lplb.Placement(maps[0][0], num_ranks=16), loads


def check_cuda(wanted: str) -> str:
    """Returns what is to be told of the wheel's kernels."""
    info = lplb.cuda_info()
    assert info["compiled"] == (wanted == "cuda"), info
    if not info["compiled"]:
        return "no kernels"
    if info["missing"]:
        return f"kernels for {info['architectures']}; none ran: {info['missing']}"
    placement, loads = instance()
    for load in loads:
        split = lplb.solve(placement, load, backend="cuda")
        assert split.backend == "cuda"
        assert (split.physical_load == lplb.solve(placement, load).physical_load).all()
    return f"kernels for {info['architectures']}; on this GPU they give the CPU's integers"


def solved() -> dict[str, object]:
    placement, loads = instance()
    splits = [lplb.solve(placement, load) for load in loads]
    copies = [lplb.replicate(placement, load) for load in loads]
    for result in (*splits, *copies):
        result.verify()
    assert all(copy.max_load <= split.max_load for copy, split in zip(copies, splits))
    planner = lplb.Planner(placement, rank=0, same_tokens=True)
    ids = np.random.Generator(np.random.PCG64(21)).integers(0, 64, (256, 8))
    slots = planner.run(ids)
    assert (np.asarray(placement.physical_to_logical)[slots] == ids).all()
    return {
        "max_load": [int(split.max_load) for split in splits[:5]],
        "optimal": sum(split.status == "optimal" for split in splits),
        "split": digest(np.stack([split.physical_load for split in splits])),
        "copies": digest(np.stack([copy.physical_load for copy in copies])),
        "plan": digest(slots),
    }


def replayed(command: list[str]) -> dict[str, float]:
    """What the command says; the package must say the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "report.json")
        subprocess.run(
            [*command, "simulate", "--trace", "synthetic:W6_rotating_hotspot", "--json", path]
            + ["--policies", POLICIES],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        told = json.loads(path.read_text())["policies"]
    report = lplb.simulate("synthetic:W6_rotating_hotspot", policies=POLICIES)
    assert [p["imbalance"] for p in report["policies"]] == [p["imbalance"] for p in told]
    return {p["name"]: p["imbalance"]["mean"] for p in told}


def main() -> None:
    wanted, path, *command = sys.argv[1:]
    version = lplb.__version__
    assert importlib.metadata.version("lplb") == version
    told = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True)
    assert told.stdout == f"lplb {version}\n", told.stdout
    kernels = check_cuda(wanted)
    figures = {"version": version, "solve": solved(), "simulate": replayed(command)}
    pathlib.Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"wheel: lplb {version} is imported, solves, plans and replays; {kernels}")


main()
