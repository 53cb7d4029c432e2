# SPDX-License-Identifier: MIT
"""Stand-ins for a GPU, and for DeepEP's buffers with their public attributes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import lplb
from lplb import _exchange, _lplb, _torch
from lplb._paths import Paths


class FakeGroup:
    """A PeerGroup that connects as the library's does: all ranks decide from what each lacks."""

    #: By transport: what this rank lacks; and what fails on it after the others have connected.
    lacks: dict[str, str] = {}
    fails: dict[str, str] = {}
    #: The arguments of connect() and from_pointers(), call by call.
    calls: list[dict[str, Any]] = []

    def __init__(self) -> None:
        self.bytes = 4096
        self.is_open = self.is_connected = True

    @staticmethod
    def connect(
        rank: int,
        num_ranks: int,
        gather: Callable[[bytes], list[bytes]],
        max_counts: int,
        num_channels: int,
        deadline: float,
        transport: str,
        nccl_comm: int,
    ) -> FakeGroup:
        FakeGroup.calls.append(dict(locals()))
        told = [text.decode() for text in gather(FakeGroup.lacks.get(transport, "").encode())]
        assert len(told) == num_ranks
        for g, text in enumerate(told):
            if text:
                raise RuntimeError(
                    f"the ranks cannot see each other's memory: {transport}: rank {g}: {text}"
                )
        if transport in FakeGroup.fails:
            raise RuntimeError(FakeGroup.fails[transport])
        return FakeGroup()

    @staticmethod
    def from_pointers(
        rank: int, buffers: list[int], max_counts: int, num_channels: int, deadline: float
    ) -> FakeGroup:
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
        self.channel = arguments[-2]  # before the options of copies

    def exchange_stats(self, stream: int) -> dict[str, Any]:
        layer = self.channel[1]
        return {
            "rounds": 10,
            "complete": 10 - layer,
            "timed_out": layer,
            "behind": 0,
            "mismatched": 0,
            "last_missing": 1 if layer == 1 else -1,
        }


def pretend_a_gpu(missing: str = "") -> None:
    """Puts the stand-ins into this process. `missing`: why this rank has no GPU after all."""
    library: Any = _lplb
    library.cuda_info = lambda: {"missing": missing}
    library.PeerGroup = FakeGroup
    library.GpuPlanner = FakeGpuPlanner
    exchange: Any = _exchange
    exchange.device_rounds = lambda exchange, settings, index: []
    for_torch: Any = _torch
    for_torch.raw_stream = lambda index: 0
    cuda: Any = torch.cuda
    cuda.synchronize = lambda device=None: None
    cuda.device = contextlib.nullcontext


class SymmetricMemory:
    """torch.distributed._symmetric_memory: rank g shares memory at 0x1000000 (g + 1)."""

    rank, size, fails = 0, 2, ""
    buffer_size = 1 << 20

    def __init__(self, memory: Any) -> None:
        self.buffer_ptrs = [0x1000000 * (g + 1) for g in range(self.size)]
        self.buffer_ptrs[self.rank] = memory.data_ptr() - 256 * (1 + self.rank)

    @staticmethod
    def allocate(size: int, dtype: Any, device: Any) -> Any:
        return torch.full((size,), 7, dtype=dtype)

    @staticmethod
    def rendezvous(memory: Any, name: str) -> SymmetricMemory:
        if SymmetricMemory.fails:
            raise RuntimeError(SymmetricMemory.fails)
        assert (memory == 0).all(), "peers write from here on"
        return SymmetricMemory(memory)


def pretend_symmetric_memory(rank: int, size: int) -> None:
    from torch.distributed import _symmetric_memory as symmetric

    module: Any = symmetric
    SymmetricMemory.rank, SymmetricMemory.size = rank, size
    module.empty = SymmetricMemory.allocate
    module.is_symm_mem_enabled_for_group = lambda name: True
    module.rendezvous = SymmetricMemory.rendezvous
    cuda: Any = torch.cuda
    cuda.current_device = lambda: 0
    pretend_a_gpu()


def memory(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(shape, dtype)
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class PlanningGpuPlanner:
    """A GpuPlanner without a channel that plans at once, in the host's memory.

    With staleness `all_counts` are the counts of the previous batch, this rank's too, as in the
    kernel.
    """

    #: What was called, in order.
    calls: list[str] = []
    #: Whether the last batch was given counts.
    was_given = False

    def __init__(
        self,
        placement: lplb.Placement,
        rank: int,
        num_members: int,
        max_tokens: int,
        num_topk: int,
        solver: str,
        max_steps: int,
        max_redundants: int,
        staleness: int,
        *_rest: Any,
    ) -> None:
        assert _rest[-2:] == (None, None), "a channel, or dynamic slots"
        self.planner = lplb.Planner(
            placement, rank=rank, max_redundants=max_redundants, staleness=staleness, backend="cpu"
        )
        self.is_stale = staleness != 0
        self.last: tuple[lplb.Placement, NDArray[Any]] | None = None  # with its counts
        self.tables: Any = None

    def run(
        self,
        stream: int,
        topk_idx: int,
        id_bytes: int,
        num_tokens: int,
        num_topk: int,
        num_valid_tokens: int,
        physical_idx: int,
        all_counts: int,
        packed: int,
        *counter: int,
    ) -> None:
        PlanningGpuPlanner.calls.append("run")
        ids = memory(topk_idx, (num_tokens, num_topk), np.int64)
        mine = self.planner.count(ids)
        PlanningGpuPlanner.was_given = all_counts != 0
        shape = (self.planner.num_ranks, len(mine))
        rows: Any = memory(all_counts, shape, np.int32) if all_counts else None
        if self.is_stale and self.last is not None:
            if self.last[0] != self.planner.placement():
                rows = None  # in these tests another placement has another layout
            elif rows is not None:
                assert (rows[self.planner.rank] == self.last[1]).all()
        mapped, self.tables = self.planner.run_quotas(ids, all_counts=rows)
        memory(physical_idx, ids.shape, np.int64)[...] = mapped
        self.last = self.planner.placement(), mine
        if packed:
            memory(packed, mine.shape, np.int32)[...] = mine

    def count(
        self,
        stream: int,
        topk_idx: int,
        id_bytes: int,
        num_tokens: int,
        num_topk: int,
        num_valid_tokens: int,
        packed: int,
        remember: bool,
    ) -> None:
        PlanningGpuPlanner.calls.append("count")
        if packed:
            mine = self.planner.count(memory(topk_idx, (num_tokens, num_topk), np.int64))
            memory(packed, mine.shape, np.int32)[...] = mine

    def quotas(self, stream: int, all_counts: int, max_replicas: int, *tables: int) -> None:
        PlanningGpuPlanner.calls.append("quotas")
        for address, table in zip(tables, self.tables, strict=True):
            memory(address, table.shape, table.dtype)[...] = table

    def update_placement(self, stream: int, placement: lplb.Placement) -> None:
        self.planner.update_placement(placement)


class Tensor:
    """A torch.Tensor of int64 that says it is on a GPU."""

    is_cuda = True
    dtype = torch.int64

    def __init__(self, ids: Any) -> None:
        self.held = torch.as_tensor(ids).contiguous()
        self.shape = self.held.shape
        self.data_ptr = self.held.data_ptr

    def get_device(self) -> int:
        return 0


class Counts(torch.Tensor):
    """Counts that say they are on a GPU."""

    def get_device(self) -> int:
        return 0


def pretend_a_gpu_that_plans() -> None:
    """As pretend_a_gpu(), with planners that plan, and counts that travel by the collective."""
    pretend_a_gpu()
    library: Any = _lplb
    library.GpuPlanner = PlanningGpuPlanner
    for_torch: Any = _torch
    for_torch._get_device = lambda: 0
    exchange: Any = _exchange
    exchange.device_rounds = lambda exchange, settings, index: [
        _exchange.DeviceRounds(exchange, settings.max_counts, torch.device("cpu"))
        for _ in range(settings.num_layers)
    ]
    cuda: Any = torch.cuda
    cuda.is_current_stream_capturing = lambda: False


def plan_on_gpu(
    planner: Any,
    ids: NDArray[np.int64],
    layer: int = 0,
    with_quotas: bool = False,
    all_counts: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], list[Any]]:
    """Calls run(), or run_quotas(), with ids that are said to be on a GPU."""
    out: Any = Tensor(np.full_like(ids, -7))
    paths = paths_of(planner)
    tables = _torch.quota_tables(paths, out.held) if with_quotas else None
    batch: Any = Tensor(ids)
    counts = None if all_counts is None else torch.from_numpy(all_counts).int().as_subclass(Counts)
    _torch.plan_into(paths, batch, 8, None, layer, counts, out, tables)
    return out.held.numpy(), tables or []


def paths_of(planner: lplb.Planner) -> Paths:
    """What the adapters of `planner` get."""
    return planner._paths


def start(planner: lplb.Planner) -> lplb.ExchangeStats:
    """Does what the first batch on a GPU does."""
    paths_of(planner).gpu.start(0)
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
