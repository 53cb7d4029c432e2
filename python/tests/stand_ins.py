# SPDX-License-Identifier: MIT
"""In place of what a machine without a GPU lacks, and of DeepEP's buffers: as much as is public."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

import lplb
from lplb import _lplb, _torch


class FakeGroup:
    """A PeerGroup that connects as the library's does: ranks tell what they lack, then decide alike."""

    #: What this rank lacks, by transport; and what fails on it once the others have connected.
    lacks: dict[str, str] = {}
    fails: dict[str, str] = {}
    #: What connect() and from_pointers() were given.
    calls: list[dict[str, Any]] = []

    def __init__(self) -> None:
        self.bytes = 4096
        self.is_open = self.is_connected = True

    @staticmethod
    def connect(rank: int, num_ranks: int, gather: Callable[[bytes], list[bytes]], max_counts: int,
                num_channels: int, deadline: float, transport: str, nccl_comm: int) -> FakeGroup:
        FakeGroup.calls.append(dict(locals()))
        told = [text.decode() for text in gather(FakeGroup.lacks.get(transport, "").encode())]
        assert len(told) == num_ranks
        for g, text in enumerate(told):
            if text:
                raise RuntimeError("the ranks cannot see each other's memory: "
                                   f"{transport}: rank {g}: {text}")
        if transport in FakeGroup.fails:
            raise RuntimeError(FakeGroup.fails[transport])
        return FakeGroup()

    @staticmethod
    def from_pointers(rank: int, buffers: list[int], max_counts: int, num_channels: int,
                      deadline: float) -> FakeGroup:
        FakeGroup.calls.append(dict(locals()))
        return FakeGroup()

    def channel(self, index: int) -> tuple[FakeGroup, int]:
        return self, index

    def disconnect(self) -> None:
        self.is_connected = False

    def close(self) -> None:
        assert not self.is_connected, "freed while a peer may have it mapped"
        self.is_open = False


class FakeGpuPlanner:
    #: Why it cannot be made on this rank.
    fails = ""

    def __init__(self, *arguments: Any) -> None:
        if FakeGpuPlanner.fails:
            raise MemoryError(FakeGpuPlanner.fails)
        self.channel = arguments[-1]

    def exchange_stats(self, stream: int) -> dict[str, Any]:
        layer = self.channel[1]
        return {"rounds": 10, "complete": 10 - layer, "timed_out": layer, "behind": 0, "mismatched": 0,
                "last_missing": 5 if layer == 1 else -1}


def pretend_a_gpu(missing: str = "") -> None:
    """From here on, in this process. `missing`: why there is none on this rank after all."""
    library: Any = _lplb
    library.cuda_info = lambda: {"missing": missing}
    library.PeerGroup = FakeGroup
    library.GpuPlanner = FakeGpuPlanner
    for_torch: Any = _torch
    for_torch.device_rounds = lambda planner, index: []
    for_torch.raw_stream = lambda index: 0
    cuda: Any = torch.cuda
    cuda.synchronize = lambda device=None: None
    cuda.device = contextlib.nullcontext


def start(planner: lplb.Planner) -> lplb.ExchangeStats:
    """As the first batch on a GPU does."""
    planner._start_gpu(0)
    return planner.exchange_stats()


class Handle:
    """deep_ep.utils.comm.NCCLCommHandle."""

    def __init__(self, nccl_comm: int | None) -> None:
        self.nccl_comm = nccl_comm

    def get(self) -> int | None:
        return self.nccl_comm


class Buffer:
    """DeepEP V1."""

    def __init__(self, group: Any, num_rdma_bytes: int = 0, low_latency_mode: bool = False) -> None:
        self.group = group
        self.rank, self.group_size = group.rank(), group.size()
        self.num_nvl_bytes, self.num_rdma_bytes = 1 << 20, num_rdma_bytes
        self.low_latency_mode = low_latency_mode


class ElasticBuffer:
    """DeepEP V2."""

    def __init__(self, group: Any, nccl_comm: int | None) -> None:
        self.group = group
        self.rank_idx, self.num_ranks = group.rank(), group.size()
        self.nccl_comm_handle: Handle | None = Handle(nccl_comm)

    def destroy(self) -> None:
        self.nccl_comm_handle = None


class EPBuffer(ElasticBuffer):
    """DeepEP V2.5."""


class BufferWithoutGroup:
    def __init__(self, nccl_comm: int | None) -> None:
        self.nccl_comm_handle = Handle(nccl_comm)
