#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lplb.Planner between GPUs, one process each: every transport, checked against the CPU's planner.

usage: multi_gpu.py [--devices 0,1] [SCENARIO...]

Without arguments it runs all scenarios. A scenario is a value of Planner's `transport`, or:

    deep_ep  nccl, with a communicator that is passed as DeepEP's buffers hold it
    stale    planners with staleness, within the kernel and by the collective
    moving   experts' weights move over NCCL (lplb.WeightMover)
    copies   weights of copies and their gradients (lplb.ReplicaBuffers)
    copies_symmetric  the same through PyTorch's symmetric memory
    late     a rank comes after the deadline
    dropped  planners that nobody closes, some of them alive when Python ends
    killed   a process ends without a word

A device may be named twice. Then the ranks take turns on it, over gloo; this suits "ipc", "auto",
"stale", "copies", "late", "dropped" and "killed".

Each scenario ends in a line "passed NAME", "skipped NAME: reason" (the machine or a library lacks
something) or "failed NAME". The last line has the totals. The status is 1 if a scenario failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

import torch
import torch.distributed as dist
from copies_between_gpus import run_copies
from scenarios import (
    Rank,
    Unsupported,
    run_dropped,
    run_killed,
    run_late,
    run_moving,
    run_stale,
    run_transport,
)

SCENARIOS = (
    "collective",
    "auto",
    "ipc",
    "fabric",
    "nccl",
    "nvshmem",
    "symmetric_memory",
    "deep_ep",
    "stale",
    "moving",
    "copies",
    "copies_symmetric",
    "late",
    "dropped",
    "killed",
)
UNSUPPORTED = 77
SECONDS = 150  # that a scenario may take


def run_rank(scenario: str, me: Rank, folder: str) -> int:
    torch.cuda.set_device(me.device)
    torch.zeros(1, device="cuda")
    # If a process died, NCCL would end the others.
    gloo = me.shares_device or scenario in ("killed", "late")
    options: dict[str, Any] = {} if gloo else {"device_id": torch.device("cuda", me.device)}
    dist.init_process_group(
        "gloo" if gloo else "nccl",
        init_method=f"file://{folder}/store",
        rank=me.rank,
        world_size=me.size,
        **options,
    )
    status = 0
    try:
        if scenario == "killed":
            run_killed(me)
        elif scenario == "late":
            run_late(me)
        elif scenario == "dropped":
            run_dropped(me)
        elif scenario == "stale":
            run_stale(me)
        elif scenario == "moving":
            run_moving(me)
        elif scenario == "copies":
            run_copies(me)
        elif scenario == "copies_symmetric":
            run_copies(me, "symmetric_memory")
        else:
            run_transport(me, scenario)
    except Unsupported as reason:
        status = UNSUPPORTED
        with open(f"{folder}/reason", "w") as file:
            file.write(str(reason))
    except Exception:
        print(f"rank {me.rank}, {scenario}:\n{traceback.format_exc()}", flush=True)
        status = 1
    if status == 0 and scenario != "killed":
        dist.destroy_process_group()
        return 0
    sys.stdout.flush()
    os._exit(status)  # without the group's end: the others may be gone


def run_scenario(scenario: str, devices: list[int]) -> str:
    """Runs it; returns the line that says how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--devices",
                    ",".join(map(str, devices)),
                    "--rank",
                    str(rank),
                    "--folder",
                    folder,
                    scenario,
                ]
            )
            for rank in range(len(devices))
        ]
        deadline = time.monotonic() + SECONDS
        for process in ranks:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                print(f"  a rank of {scenario} does not end", flush=True)
        statuses = [process.returncode for process in ranks]
        wanted = [0] * len(devices)
        if scenario == "killed" and statuses[-1] == -signal.SIGKILL:
            wanted[-1] = -signal.SIGKILL
        if statuses == wanted:
            return f"passed {scenario}"
        if statuses == [UNSUPPORTED] * len(devices):
            with open(f"{folder}/reason") as file:
                return f"skipped {scenario}: {file.read()}"
        return f"failed {scenario}: the ranks ended with {statuses}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--devices", default="0,1")
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for scenario in options.scenarios:
        if scenario not in SCENARIOS:
            parser.error(f"{scenario}: expected one of {', '.join(SCENARIOS)}")
    devices = [int(device) for device in options.devices.split(",")]
    if options.rank >= 0:
        me = Rank(
            options.rank, len(devices), devices[options.rank], len(set(devices)) < len(devices)
        )
        return run_rank(options.scenarios[0], me, options.folder)
    lines = []
    found = torch.cuda.device_count()
    for scenario in options.scenarios or SCENARIOS:
        if found <= max(devices):
            lines.append(f"skipped {scenario}: needs GPU {max(devices)}, PyTorch sees {found}")
        else:
            lines.append(run_scenario(scenario, devices))
        print(lines[-1], flush=True)
    totals = [
        sum(line.startswith(word) for line in lines) for word in ("passed", "failed", "skipped")
    ]
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
