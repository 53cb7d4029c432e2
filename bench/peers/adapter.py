# SPDX-License-Identifier: MIT
"""What the process of each balancer does: reads loads, solves them, times that, writes results.

An adapter is a file of this folder with two functions, which it hands to serve():

- find() imports the balancer and returns its version. It raises if it cannot.
- prepare(loads, device) makes a Case, which knows what the balancer answers for a batch, and which
  calls are timed. It raises Refused if the balancer takes no such placement.

Loads come as .npz (loads.py), results are JSON:

    {"version": "1.0.0", "device": "NVIDIA H200",
     "shares": [num_batches][num_slots]            the part of its expert's tokens of each slot,
     or "plans": [num_batches]{"physical_to_logical", "physical_load"}   (a balancer that chooses
                                                   its replicas for the batch; -1: an empty slot),
     "times": {"solve": {"graph": [num_batches], "eager": [...]}, "run": ...},   microseconds
     "reason": "..."                               why something of this is missing,
     "missing": true                               the balancer could not be imported}

NOTE: nothing of this project is imported here or in the adapters of others, since
deepseek-ai/LPLB's package has the same name.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Call = Callable[[], object]
CALLS = 20  # in a graph
EAGER_CALLS = 200


class Refused(Exception):
    """The balancer takes no such placement."""


@dataclass
class Loads:
    """A placement and its batches, as loads.py has them."""

    num_ranks: int
    history: Any  # [num_logical] int64: what the placement was made for
    physical_to_logical: Any  # [num_slots] int32
    r2o: Any  # [num_ranks, num_columns] int32, or None if there is no topology
    batches: Any  # [num_batches, num_logical] int64
    topk_idx: Any  # [num_batches, num_tokens, num_topk] int16: a rank's tokens

    @property
    def num_logical(self) -> int:
        return int(self.batches.shape[1])

    def slots_of(self) -> list[list[int]]:
        """The slots of each expert, ascending."""
        slots: list[list[int]] = [[] for _ in range(self.num_logical)]
        for slot, expert in enumerate(self.physical_to_logical.tolist()):
            slots[expert].append(slot)
        return slots


@dataclass
class Case:
    """A balancer that is ready for the batches of a placement."""

    kind: str  # of the answer: "shares" or "plans"
    answer: Callable[[int], Any]  # of a batch
    calls: dict[str, Callable[[int], Call]] = field(default_factory=dict)  # what is timed


def read_loads(path: str) -> Loads:
    with np.load(path) as file:
        r2o = file["r2o"]
        return Loads(
            int(file["num_ranks"]),
            file["history"],
            file["physical_to_logical"],
            r2o if r2o.size else None,
            file["batches"],
            file["topk_idx"],
        )


def elapsed(work: Call, device: str) -> float:
    """Microseconds of `work`: by events on a GPU, else by the clock."""
    if device == "cpu":
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e6
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1000


def repeat(call: Call, count: int) -> Call:
    def work() -> None:
        for _ in range(count):
            call()

    return work


def eager(call: Call, device: str) -> float:
    count = EAGER_CALLS if device == "cuda" else 3
    work = repeat(call, count)
    work()
    return statistics.median(elapsed(work, device) for _ in range(5)) / count


def in_graph(call: Call) -> float:
    """The time of one node of a CUDA graph of 20 calls: the median of 7 replays after 2."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        repeat(call, CALLS)()
    replays = [elapsed(graph.replay, "cuda") / CALLS for _ in range(9)]
    return statistics.median(replays[2:])


def measure(case: Case, num_batches: int, device: str, found: dict[str, Any]) -> None:
    """Fills `found` step by step, so that what was measured before an error stays."""
    found[case.kind] = []
    for batch in range(num_batches):
        found[case.kind].append(case.answer(batch))
    times: dict[str, Any] = found.setdefault("times", {})
    # Some batches are enough for eager times, which are those of the host.
    some = range(0, num_batches, max(num_batches // 5, 1))
    for name, call_of in case.calls.items():
        times[name] = {"eager": [eager(call_of(batch), device) for batch in some]}
    if device == "cuda":
        for name, call_of in case.calls.items():
            times[name]["graph"] = [in_graph(call_of(batch)) for batch in range(num_batches)]


def describe(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, Refused):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def device_works(device: str) -> bool:
    """Whether the device can still be used: some errors end a process's use of it."""
    if device == "cuda":
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
    return True


def serve(find: Callable[[], str], prepare: Callable[[Loads, str], Case]) -> None:
    """The program of an adapter: DEVICE, then LOADS and RESULT for each placement.

    Stops after the first placement if the balancer is missing, or the device cannot be used any
    more. Whoever started it starts it again for the rest.
    """
    device, paths = sys.argv[1], sys.argv[2:]
    for loads_path, result_path in zip(paths[::2], paths[1::2], strict=True):
        found: dict[str, Any] = {}
        try:
            found["version"] = find()
        except Exception as error:  # whatever an import raises is the reason
            found = {"missing": True, "reason": describe(error)}
        else:
            try:
                found["device"] = torch.cuda.get_device_name() if device == "cuda" else "CPU"
                loads = read_loads(loads_path)
                measure(prepare(loads, device), len(loads.batches), device, found)
            except Exception as error:  # in the same way
                found["reason"] = describe(error)
        # NOTE: a process that dies while it writes must not leave a part of a result.
        with open(result_path + ".part", "w", encoding="utf-8") as file:
            json.dump(found, file)
        os.replace(result_path + ".part", result_path)
        if "missing" in found or ("reason" in found and not device_works(device)):
            return
