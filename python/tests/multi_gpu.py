#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lplb.Planner between GPUs, a process each: every way for counts, against the CPU's planner.

usage: multi_gpu.py [--devices 0,1] [SCENARIO...]

A scenario is a value of Planner's `exchange`; "deep_ep": a communicator as DeepEP's buffers have it;
"stale": planners with staleness, within the kernel and by the collective; "killed": a process ends
without a word; "late": a rank comes after the deadline; "dropped": planners that nobody closes, when
Python ends too. Without arguments all are run. A device may be named twice: then the ranks take turns
on it, over gloo, which suits "ipc", "auto", "stale", "late", "dropped" and "killed".

Each ends in a line "passed NAME", "skipped NAME: reason" (the machine or a library lacks something) or
"failed NAME". The last line has the totals; the status is 1 where one failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ranks import make_placement
from stand_ins import ElasticBuffer

import lplb
from lplb import _exchange

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
    "late",
    "dropped",
    "killed",
)
UNSUPPORTED = 77
SECONDS = 150
DEADLINE = 0.25  # of a batch, where ranks are late or gone
TOPK = 4


@dataclasses.dataclass
class Rank:
    rank: int
    size: int
    device: int
    shares_device: bool

    @property
    def num_experts(self) -> int:
        return 16 * self.size

    def tokens(self, batch: int) -> list[NDArray[np.int64]]:
        """Of every rank: each can draw those of the others."""
        drawn = []
        for rank in range(self.size):
            random = np.random.default_rng(1000 * batch + rank)
            weight = random.lognormal(0, 1, self.num_experts)
            num_tokens = 0 if (batch + rank) % 7 == 3 else 1 + (batch * 61 + rank * 37) % 900
            ids = random.choice(self.num_experts, (num_tokens, TOPK), p=weight / weight.sum())
            ids[random.random(ids.shape) < 0.05] = -1
            drawn.append(ids)
        return drawn

    def reference(
        self, placement: lplb.Placement, tokens: list[NDArray[np.int64]]
    ) -> tuple[Any, Any]:
        """The CPU's plan of this rank: ids, and quotas."""
        counts = np.stack([placement.pack(lplb.count(ids, self.num_experts)) for ids in tokens])
        planner = lplb.Planner(placement, rank=self.rank, backend="cpu")
        return planner.run_quotas(tokens[self.rank], all_counts=counts)


def on_gpu(ids: NDArray[np.int64], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.from_numpy(ids).to("cuda", dtype)


def denser_placement(size: int) -> lplb.Placement:
    """With other replicas, and more of them, than make_placement()."""
    load = np.arange(16 * size)[None] + 1
    return lplb.Placement(lplb.rebalance_experts(load, 22 * size, 1, 1, size)[0][0], size)


def check_batches(me: Rank, planner: lplb.Planner, other: lplb.Planner | None) -> int:
    """Batches of two layers; returns how many. `other` plans the same ones by the collective."""
    placement = planner.placement()
    for batch in range(40):
        tokens = me.tokens(batch)
        want, quotas = me.reference(placement, tokens)
        ids = on_gpu(tokens[me.rank], torch.int32 if batch % 3 == 0 else torch.int64)
        got, tables = planner.run_quotas(ids, layer=batch % 2)
        assert got.dtype == ids.dtype and (got.cpu().numpy() == want).all(), f"batch {batch}"
        for name in ("quota_end", "source_prefix", "alloc"):
            assert (getattr(tables, name).cpu().numpy() == getattr(quotas, name)).all(), name
        if other is not None:
            assert (other.run(ids, layer=batch % 2) == got).all(), f"batch {batch}"
    # Without waiting in between: the ranks drift apart as far as the rounds allow.
    for batch in range(200):
        planner.run(ids, layer=batch % 2)
    assert (planner.run(ids).cpu().numpy() == want).all()
    return 241


def check_graph(me: Rank, planner: lplb.Planner, replays: bool) -> None:
    """A captured batch, replayed with other tokens and under other placements."""
    batch = torch.full((900, TOPK), -1, dtype=torch.int64, device="cuda")
    out = torch.empty_like(batch)
    planner.run(batch, out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        planner.run(batch, out)
    placements = [make_placement(me.size), make_placement(me.size, 1), denser_placement(me.size)]
    for number in range(30 if replays else 0):
        placement = placements[number % 3]
        planner.update_placement(placement)
        tokens = me.tokens(number)
        own = tokens[me.rank]
        want, _ = me.reference(placement, tokens)
        for _ in range(3):
            batch.fill_(-1)
            batch[: len(own)].copy_(torch.from_numpy(own))
            graph.replay()
            got = out.cpu().numpy()
            assert (got[: len(own)] == want).all() and (got[len(own) :] == -1).all(), (
                f"replay {number}"
            )


def run_way(me: Rank, way: str) -> None:
    group = dist.group.WORLD
    options: dict[str, Any] = {
        "exchange": way,
        "timeout": 20.0,
        "num_topk": TOPK,
        "max_tokens": 1000,
    }
    expected = way
    if way == "deep_ep":
        comm = _exchange.Exchange(group, 20.0).nccl_comm()
        if comm == 0:
            raise Unsupported("the group has no NCCL communicator")
        options.update(exchange="nccl", comm=ElasticBuffer(group, comm))
        expected = "nccl"
    placement = make_placement(me.size)
    try:
        planner = lplb.Planner(
            placement,
            group=group,
            num_layers=2,
            quotas=True,
            keep_history=True,
            backend="cuda",
            **options,
        )
    except RuntimeError as error:
        if "cannot be used" in str(error):
            raise Unsupported(str(error)) from error
        raise
    other = None
    if not me.shares_device:
        other = lplb.Planner(
            placement,
            group=group,
            num_layers=2,
            num_topk=TOPK,
            max_tokens=1000,
            exchange="collective",
        )
    rounds = check_batches(me, planner, other)
    found = planner.exchange_stats()
    stats = planner.stats()
    assert stats is not None and (stats.lost, stats.degraded) == (0, 0), stats
    if me.rank == 0:
        print(f"  {way}: {found}", flush=True)
    if way == "auto":
        assert found.way != "collective" or found.reason, found
    else:
        assert found.way == expected, found
    if found.way != "collective":
        assert (found.rounds, found.complete, found.last_missing) == (rounds, rounds, -1), found
        assert found.bytes > 0
    # Another group beside the first one.
    second = lplb.Planner(
        placement, group=group, max_redundants=8 * me.size, backend="cuda", **options
    )
    # A collective in a graph has the size of its time.
    check_graph(me, second, replays=found.way != "collective")
    for one in (second, planner, other):
        if one is not None:
            one.close()


class StaleModel:
    """The CPU's planner with staleness; each rank can draw the others' tokens."""

    def __init__(self, me: Rank, placement: lplb.Placement, **options: Any) -> None:
        self.me = me
        self.planner = lplb.Planner(placement, rank=me.rank, backend="cpu", **options)
        self.last: list[Any] = [None] * self.planner.num_layers

    def run_quotas(self, tokens: list[NDArray[np.int64]], layer: int) -> tuple[Any, Any]:
        placement = self.planner.placement(layer)
        found = self.planner.run_quotas(
            tokens[self.me.rank], layer=layer, all_counts=self.last[layer]
        )
        self.last[layer] = np.stack(
            [placement.pack(lplb.count(ids, self.me.num_experts)) for ids in tokens]
        )
        return found


def check_stale_graph(me: Rank, planner: lplb.Planner, model: StaleModel) -> None:
    """A captured batch, replayed with other tokens, and eager ones between."""
    batch = torch.full((900, TOPK), -1, dtype=torch.int64, device="cuda")
    out = torch.empty_like(batch)
    planner.join()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        planner.run(batch, out)
        planner.join()
    for number in range(30):
        tokens = me.tokens(number)
        own = tokens[me.rank]
        batch.fill_(-1)
        batch[: len(own)].copy_(torch.from_numpy(own))
        if number % 5 == 4:
            planner.run(batch, out)
            planner.join()
        else:
            graph.replay()
        want, _ = model.run_quotas(tokens, 0)
        got = out.cpu().numpy()
        assert (got[: len(own)] == want).all() and (got[len(own) :] == -1).all(), f"replay {number}"


def check_stale(me: Rank, way: str) -> None:
    options: dict[str, Any] = {
        "staleness": 1,
        "num_layers": 2,
        "num_topk": TOPK,
        "max_tokens": 1000,
        "max_redundants": 8 * me.size,
    }
    placement = make_placement(me.size)
    model = StaleModel(me, placement, **options)
    planner = lplb.Planner(
        placement,
        group=dist.group.WORLD,
        exchange=way,
        timeout=20.0,
        quotas=True,
        backend="cuda",
        **options,
    )
    found = planner.exchange_stats()
    if me.shares_device and found.way == "collective":
        raise Unsupported(found.reason)
    for batch in range(40):
        if batch == 20:
            for one in (planner, model.planner):
                one.update_placement([make_placement(me.size, 1)] * 2)
        tokens = me.tokens(batch)
        got, tables = planner.run_quotas(on_gpu(tokens[me.rank]), layer=batch % 2)
        want, quotas = model.run_quotas(tokens, batch % 2)
        assert (got.cpu().numpy() == want).all(), f"{way}, batch {batch}"
        for name in ("quota_end", "source_prefix", "alloc", "solved"):
            assert getattr(tables, name).tolist() == getattr(quotas, name).tolist(), name
    # Without waiting in between: the ranks drift apart as far as the rounds allow.
    ids = on_gpu(tokens[me.rank])
    for batch in range(200):
        planner.run(ids, layer=batch % 2)
    for layer in range(2):
        model.run_quotas(tokens, layer)
        want, _ = model.run_quotas(tokens, layer)
        assert (planner.run(ids, layer=layer).cpu().numpy() == want).all(), layer
    check_stale_graph(me, planner, model)
    stats = planner.stats()
    assert stats is not None and (stats.unplanned, stats.lost, stats.degraded) == (4, 0, 0), stats
    found = planner.exchange_stats()
    if me.rank == 0:
        print(f"  stale, {way}: {found}", flush=True)
    planner.run(ids)
    planner.close()


def run_stale(me: Rank) -> None:
    for way in ("auto",) if me.shares_device else ("auto", "collective"):
        check_stale(me, way)


def start_with_deadline(me: Rank) -> tuple[lplb.Planner, torch.Tensor, NDArray[np.int64]]:
    """A planner that does not wait for long, a batch, and what that is mapped to."""
    planner = lplb.Planner(
        make_placement(me.size),
        group=dist.group.WORLD,
        timeout=DEADLINE,
        backend="cuda",
        num_topk=TOPK,
        max_tokens=1000,
    )
    if planner.exchange_stats().way == "collective":
        raise Unsupported(planner.exchange_stats().reason)
    tokens = me.tokens(1)
    want, _ = me.reference(planner.placement(), tokens)
    return planner, on_gpu(tokens[me.rank]), want


def run_late(me: Rank) -> None:
    planner, ids, want = start_with_deadline(me)
    for batch in range(10):
        dist.barrier()
        if batch == 4 and me.rank == 1:
            time.sleep(6 * DEADLINE)
        got = planner.run(ids).cpu().numpy()
        stats = planner.stats()
        assert stats is not None
        if batch == 4:
            assert stats.lost == (0 if me.rank == 1 else 1), (batch, planner.exchange_stats())
        else:
            assert (got == want).all(), f"batch {batch}"
    found = planner.exchange_stats()
    if me.rank != 1:
        assert (found.timed_out, found.complete, found.last_missing) == (1, 9, 1), found
    planner.close()


def run_killed(me: Rank) -> None:
    planner, ids, want = start_with_deadline(me)
    for _ in range(10):
        dist.barrier()
        assert (planner.run(ids).cpu().numpy() == want).all()
    dist.barrier()
    if me.rank == me.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)
    tokens = ids.cpu().numpy()
    started = time.monotonic()
    for _ in range(5):
        mapped = planner.run(ids).cpu().numpy()
        live = tokens >= 0
        assert (planner.placement().physical_to_logical[mapped[live]] == tokens[live]).all()
        assert (mapped[~live] == -1).all()
    assert time.monotonic() - started < 5
    found = planner.exchange_stats()
    stats = planner.stats()
    assert (found.timed_out, found.last_missing) == (5, me.size - 1), found
    assert stats is not None and (stats.solved, stats.lost) == (10, 5), stats
    # Without close(): no rank is there to wait for.


kept: list[Any] = []  # until Python ends


def run_dropped(me: Rank) -> None:
    ids = on_gpu(me.tokens(1)[me.rank])
    tried = 0
    for way in ("auto", "nccl", "symmetric_memory"):
        for keeps in (False, True):
            try:
                planner = lplb.Planner(
                    make_placement(me.size),
                    group=dist.group.WORLD,
                    exchange=way,
                    backend="cuda",
                    num_topk=TOPK,
                    max_tokens=1000,
                )
            except RuntimeError as error:
                if "cannot be used" not in str(error):
                    raise
                break
            planner.run(ids)
            tried += 1
            if keeps:
                kept.append(planner)
            del planner
    assert tried > 0
    if me.rank == 1:
        time.sleep(3)


class Unsupported(Exception):
    pass


def run_rank(scenario: str, me: Rank, folder: str) -> int:
    torch.cuda.set_device(me.device)
    torch.zeros(1, device="cuda")
    # Where a process dies NCCL would end the others.
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
        else:
            run_way(me, scenario)
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
    os._exit(status)  # the others may have ended


def run_scenario(scenario: str, devices: list[int]) -> str:
    """The line that tells how it went."""
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
