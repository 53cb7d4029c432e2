# SPDX-License-Identifier: MIT
"""What multi_gpu.py runs in each rank, a process with a GPU."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ranks import denser_placement, make_placement
from stand_ins import ElasticBuffer

import lplb
from lplb import _exchange

DEADLINE = 0.25  # seconds that a batch waits for ranks that are late or gone
TOPK = 4


class Unsupported(Exception):
    """The machine or a library lacks what a scenario needs."""


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
        """The tokens of every rank: each rank can draw those of the others."""
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
        """What the CPU's planner gives for this rank: ids, and quotas."""
        counts = np.stack([placement.pack(lplb.count(ids, self.num_experts)) for ids in tokens])
        planner = lplb.Planner(placement, rank=self.rank, backend="cpu")
        return planner.run_quotas(tokens[self.rank], all_counts=counts)


def on_gpu(ids: NDArray[np.int64], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.from_numpy(ids).to("cuda", dtype)


def check_batches(me: Rank, planner: lplb.Planner, other: lplb.Planner | None) -> int:
    """Runs batches of two layers; returns how many. `other` plans them by the collective."""
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
    # The host does not wait in between, so the ranks drift apart as far as the rounds allow.
    for batch in range(200):
        planner.run(ids, layer=batch % 2)
    assert (planner.run(ids).cpu().numpy() == want).all()
    return 241


def check_graph(me: Rank, planner: lplb.Planner, replays: bool) -> None:
    """Replays a captured batch with other tokens and other placements."""
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


def run_transport(me: Rank, transport: str) -> None:
    group = dist.group.WORLD
    options: dict[str, Any] = {
        "transport": transport,
        "timeout": 20.0,
        "num_topk": TOPK,
        "max_tokens": 1000,
    }
    expected = transport
    if transport == "deep_ep":
        comm = _exchange.Exchange(group, 20.0).nccl_comm()
        if comm == 0:
            raise Unsupported("the group has no NCCL communicator")
        options.update(transport="nccl", comm=ElasticBuffer(group, comm))
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
            transport="collective",
        )
    rounds = check_batches(me, planner, other)
    found = planner.exchange_stats()
    stats = planner.stats()
    assert stats is not None and (stats.lost, stats.degraded) == (0, 0), stats
    if me.rank == 0:
        print(f"  {transport}: {found}", flush=True)
    if transport == "auto":
        assert found.transport != "collective" or found.reason, found
    else:
        assert found.transport == expected, found
    if found.transport != "collective":
        assert (found.rounds, found.complete, found.last_missing) == (rounds, rounds, -1), found
        assert found.bytes > 0
    # A second planner uses the same group at the same time.
    second = lplb.Planner(
        placement, group=group, max_redundants=8 * me.size, backend="cuda", **options
    )
    # A captured collective keeps the size that it had at capture.
    check_graph(me, second, replays=found.transport != "collective")
    for one in (second, planner, other):
        if one is not None:
            one.close()


class StaleModel:
    """The CPU's planner with staleness. Each rank can draw the others' tokens."""

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
    """Replays a captured batch with other tokens, and runs eager batches in between."""
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


def check_stale(me: Rank, transport: str) -> None:
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
        transport=transport,  # type: ignore[arg-type]
        timeout=20.0,
        quotas=True,
        backend="cuda",
        **options,
    )
    found = planner.exchange_stats()
    if me.shares_device and found.transport == "collective":
        raise Unsupported(found.reason)
    for batch in range(40):
        if batch == 20:
            for one in (planner, model.planner):
                one.update_placement([make_placement(me.size, 1)] * 2)
        tokens = me.tokens(batch)
        got, tables = planner.run_quotas(on_gpu(tokens[me.rank]), layer=batch % 2)
        want, quotas = model.run_quotas(tokens, batch % 2)
        assert (got.cpu().numpy() == want).all(), f"{transport}, batch {batch}"
        for name in ("quota_end", "source_prefix", "alloc", "solved"):
            assert getattr(tables, name).tolist() == getattr(quotas, name).tolist(), name
    # The host does not wait in between, so the ranks drift apart as far as the rounds allow.
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
        print(f"  stale, {transport}: {found}", flush=True)
    planner.run(ids)
    planner.close()


def run_stale(me: Rank) -> None:
    for transport in ("auto",) if me.shares_device else ("auto", "collective"):
        check_stale(me, transport)


def run_moving(me: Rank) -> None:
    """Weights move over NCCL while batches read them; each batch finds what its placement says."""
    if me.shares_device:
        raise Unsupported("NCCL needs a GPU for each rank")
    slots, experts, layers = 6, 4 * me.size, 3
    shared = np.random.default_rng(5)
    whole = [
        torch.arange(experts * 4096, device="cuda", dtype=torch.float32).view(experts, 64, 64),
        torch.arange(experts * 40, device="cuda").to(torch.uint8).view(torch.float8_e4m3fn),
    ]
    whole[1] = whole[1].view(experts, 40)

    def draw() -> lplb.Placement:
        more = shared.integers(0, experts, slots * me.size - experts)
        held = shared.permutation(np.concatenate([np.arange(experts), more]))
        return lplb.Placement(held, me.size, experts)

    def held_by(placement: lplb.Placement) -> list[torch.Tensor]:
        mine = placement.physical_to_logical.reshape(me.size, slots)[me.rank]
        index = torch.from_numpy(mine.astype(np.int64)).cuda()
        return [t.view(torch.uint8)[index].view(t.dtype).contiguous() for t in whole]

    placements = [draw() for _ in range(layers)]
    weights = [held_by(p) for p in placements]
    mover = lplb.WeightMover(weights, placements, group=dist.group.WORLD)
    rebalances = changed = 0
    while rebalances < 40 or mover.status()["pending"]:
        if mover.status()["pending"] == 0:
            mover.start([draw() for _ in range(layers)])
            rebalances += 1
        changed += len(mover.step())
        assert mover.status()["phase"] != "failed", mover.status()
        for layer in range(layers):
            wanted = held_by(mover.placement(layer))
            for mine, tensor in zip(weights[layer], wanted, strict=True):
                assert torch.equal(mine.view(torch.uint8), tensor.view(torch.uint8)), layer
    if me.rank == 0:
        print(f"  {changed} layers of {rebalances} rebalances: {mover.status()}", flush=True)
    mover.close()


def start_with_deadline(me: Rank) -> tuple[lplb.Planner, torch.Tensor, NDArray[np.int64]]:
    """A planner with a short time-out, a batch, and the ids that the batch is mapped to."""
    planner = lplb.Planner(
        make_placement(me.size),
        group=dist.group.WORLD,
        timeout=DEADLINE,
        backend="cuda",
        num_topk=TOPK,
        max_tokens=1000,
    )
    if planner.exchange_stats().transport == "collective":
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
    # No close(): a rank that it would wait for is gone.


kept: list[Any] = []  # holds planners until Python ends


def run_dropped(me: Rank) -> None:
    ids = on_gpu(me.tokens(1)[me.rank])
    tried = 0
    for transport in ("auto", "nccl", "symmetric_memory"):
        for keeps in (False, True):
            try:
                planner = lplb.Planner(
                    make_placement(me.size),
                    group=dist.group.WORLD,
                    transport=transport,
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
