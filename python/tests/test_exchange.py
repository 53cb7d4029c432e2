# SPDX-License-Identifier: MIT
"""How ranks agree on a transport: processes over gloo, stand-ins for the GPU and DeepEP."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import cuda_missing
from optional import torch
from ranks import make_placement, run_ranks, world
from stand_ins import (
    Buffer,
    BufferWithoutGroup,
    ElasticBuffer,
    EPBuffer,
    FakeGpuPlanner,
    FakeGroup,
    SymmetricMemory,
    paths_of,
    pretend_a_gpu,
    pretend_symmetric_memory,
    start,
)

import lplb
from lplb import _exchange, _peers

LACK = "no peer access"


def make(size: int, **options: Any) -> Any:
    return lplb.Planner(make_placement(size), group=world(), num_layers=2, **options)


def channels(planner: lplb.Planner) -> list[Any]:
    """What the stand-in for each layer's planner was given."""
    planners: Any = paths_of(planner).gpu.planners
    return [gpu.channel for gpu in planners]


def tells(rank: int, size: int, folder: str) -> None:
    exchange = _exchange.Exchange(world(), 5.0)
    told = exchange.tell(["x" * rank, "é" if rank == 1 else "", "same"])
    assert told == [["x" * g, "é" if g == 1 else "", "same"] for g in range(size)]
    assert exchange.all_gather_bytes(b"\0" * rank) == [b"\0" * g for g in range(size)]
    assert exchange.nccl_comm() == 0


def all_can(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    planner = make(size, timeout=0.0005, max_redundants=100)
    assert planner.exchange_stats() == lplb.ExchangeStats()
    found = start(planner)
    assert found == lplb.ExchangeStats("ipc", 4096, "", 20, 19, 1, 0, 0, 1)
    assert planner.exchange_stats(0).complete == 10
    (call,) = FakeGroup.calls
    # Room for the largest placement: 16 experts a rank, of which at most 100 have replicas.
    assert call["max_counts"] == min(16 * size, 100) + size
    assert (call["num_channels"], call["deadline"], call["nccl_comm"]) == (2, 0.0005, 0)
    group = channels(planner)[0][0]
    assert channels(planner) == [(group, 0), (group, 1)]
    planner.close()
    planner.close()
    assert not group.is_open and planner.exchange_stats() == lplb.ExchangeStats()
    with pytest.raises(RuntimeError, match="planner: is closed"):
        start(planner)


def rounds_fail_once(rank: int, size: int, folder: str) -> None:
    """Rank 1 has no memory for the rounds of the collective: all ranks raise, and start again."""
    pretend_a_gpu()
    exchange: Any = _exchange
    failures = ["no room"] if rank == 1 else []

    def device_rounds(*_arguments: Any) -> list[Any]:
        if failures:
            raise MemoryError(failures.pop())
        return []

    exchange.device_rounds = device_rounds
    planner = make(size, transport="collective")
    with pytest.raises((MemoryError, RuntimeError), match="no room"):
        start(planner)
    gpu = paths_of(planner).gpu
    assert (gpu.index, gpu.planners) == (-1, [])
    assert start(planner).transport == "collective"
    assert gpu.index == 0


def one_lacks_ipc(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.lacks = {"ipc": LACK} if rank == 1 else {}
    assert start(make(size)).transport == "fabric"


def one_fails_after_the_others(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.fails = {"ipc": "out of memory"} if rank == 1 else {}
    assert start(make(size)).transport == "fabric"


def one_lacks_all(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.lacks = dict.fromkeys(("ipc", "fabric", "nccl"), LACK) if rank == 1 else {}
    planner = make(size)
    found = start(planner)
    assert found == lplb.ExchangeStats(
        "collective", 0, "; ".join(f"{w}: rank 1: {LACK}" for w in ("ipc", "fabric", "nccl"))
    )
    assert channels(planner) == [None, None]
    planner.close()


def one_has_no_gpu(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu("no driver" if rank == 1 else "")
    assert start(make(size)) == lplb.ExchangeStats("collective", 0, "rank 1: no driver")
    assert not FakeGroup.calls


def the_collective_is_named(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    assert start(make(size, transport="collective")) == lplb.ExchangeStats("collective")
    assert not FakeGroup.calls


def the_library_says_the_same(rank: int, size: int, folder: str) -> None:
    from lplb import _lplb

    exchange = _exchange.Exchange(world(), 5.0)
    with pytest.raises(RuntimeError) as refused:
        _lplb.PeerGroup.connect(rank, size, exchange.all_gather_bytes, 24, 1, 1.0, "auto", 0)
    told = exchange.tell([str(refused.value)])
    assert told == [told[0]] * size and "cuda" in told[0][0]
    exchange.barrier()


def deep_ep_gives_a_communicator(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.lacks = {"ipc": LACK, "fabric": LACK}
    comms: list[Any] = [ElasticBuffer(world(), 77), EPBuffer(world(), 77), 77]
    for buffer in comms:
        FakeGroup.calls.clear()
        group = world() if buffer == 77 else None
        planner = lplb.Planner(make_placement(size), group=group, comm=buffer)
        assert planner.group is world() and planner.rank == rank
        assert start(planner).transport == "nccl"
        assert [call["nccl_comm"] for call in FakeGroup.calls] == [77] * 3
    gone = EPBuffer(world(), 77)
    gone.destroy()
    lazy = ElasticBuffer(world(), 0)
    FakeGroup.lacks["nccl"] = "no communicator"
    comms = [gone, lazy, Buffer(world())]
    for buffer in comms:
        FakeGroup.calls.clear()
        assert start(lplb.Planner(make_placement(size), comm=buffer)).transport == "collective"
        assert [call["nccl_comm"] for call in FakeGroup.calls] == [0] * 3
    # NVSHMEM is tried if DeepEP has started it.
    FakeGroup.calls.clear()
    first = Buffer(world(), num_rdma_bytes=1 << 20, low_latency_mode=True)
    assert start(lplb.Planner(make_placement(size), comm=first)).transport == "nvshmem"
    assert len(FakeGroup.calls) == 4


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    "function",
    [
        tells,
        all_can,
        rounds_fail_once,
        one_lacks_ipc,
        one_fails_after_the_others,
        one_lacks_all,
        one_has_no_gpu,
        the_collective_is_named,
        deep_ep_gives_a_communicator,
    ],
)
def test_all_ranks_take_the_same_transport(
    function: Callable[..., None], size: int, tmp_path: pathlib.Path
) -> None:
    assert run_ranks(function, size, tmp_path) == [""] * size


@pytest.mark.skipif(not cuda_missing(), reason="there is a GPU")
def test_without_a_gpu_all_are_told(tmp_path: pathlib.Path) -> None:
    assert run_ranks(the_library_says_the_same, 2, tmp_path) == [""] * 2


def one_lacks_what_is_named(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.lacks = {"ipc": LACK} if rank == 1 else {}
    start(make(size, transport="ipc"))


def one_fails_in_what_is_named(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGroup.fails = {"nccl": "ncclMemAlloc: 2"} if rank == 1 else {}
    start(make(size, transport="nccl"))


def one_has_other_limits(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    start(make(size, max_redundants=30 if rank == 1 else 20))


def one_has_another_buffer(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    start(make(size, comm=Buffer(world(), num_rdma_bytes=1 if rank == 1 else 0)))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            one_lacks_what_is_named,
            f'RuntimeError: transport: "ipc" cannot be used: ipc: rank 1: {LACK}',
        ),
        (one_fails_in_what_is_named, 'transport: "nccl" cannot be used: rank 1: ncclMemAlloc: 2'),
        (one_has_other_limits, "ValueError: transport: rank 1 exchanges 2 layers of"),
        (one_has_another_buffer, "ValueError: transport: rank 1 exchanges 2 layers of"),
    ],
)
def test_all_ranks_raise_alike(
    function: Callable[..., None], words: str, size: int, tmp_path: pathlib.Path
) -> None:
    for error in run_ranks(function, size, tmp_path):
        assert words in error


def one_cannot_start(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    FakeGpuPlanner.fails = "no room" if rank == 1 else ""
    start(make(size))


def test_a_planner_that_cannot_start_is_told_to_all(tmp_path: pathlib.Path) -> None:
    errors = run_ranks(one_cannot_start, 4, tmp_path)
    assert "MemoryError: no room" in errors[1]
    for error in errors[:1] + errors[2:]:
        assert "RuntimeError: group: the planner cannot start: rank 1: no room" in error


def one_does_not_close(rank: int, size: int, folder: str) -> None:
    pretend_a_gpu()
    planner = make(size, timeout=0.5)
    start(planner)
    limits: Any = _exchange
    limits.AGREE_SECONDS = 1.0
    if rank == 1:
        del planner  # waits for nobody
        time.sleep(4)
        os._exit(0)
    group = channels(planner)[0][0]
    try:
        planner.close()
    finally:
        assert group.is_open, "the memory of a rank whose peers may write to it"


def test_close_waits_for_the_others_but_not_for_ever(tmp_path: pathlib.Path) -> None:
    errors = run_ranks(one_does_not_close, 2, tmp_path)
    assert "RuntimeError: group: rank 0 did not get word of all ranks within 1 s" in errors[0]
    assert not errors[1]


def symmetric_memory(rank: int, size: int, folder: str) -> None:
    pretend_symmetric_memory(rank, size)
    planner = make(size, transport="symmetric_memory")
    assert start(planner).transport == "symmetric_memory"
    (call,) = FakeGroup.calls
    (kept,) = _peers._kept
    # Each rank's tensor begins at another offset in the memory that it shares.
    want = [0x1000000 * (g + 1) + 256 * (1 + g) for g in range(size)]
    want[rank] = kept.data_ptr()
    assert call["buffers"] == want and kept.numel() % 256 == 0
    planner.close()
    assert not _peers._kept


def one_finds_no_symmetric_memory(rank: int, size: int, folder: str) -> None:
    pretend_symmetric_memory(rank, size)
    SymmetricMemory.fails = "no handle" if rank == 1 else ""
    start(make(size, transport="symmetric_memory"))


@pytest.mark.parametrize("size", [2, 4])
def test_symmetric_memory_is_given_as_pointers(size: int, tmp_path: pathlib.Path) -> None:
    assert run_ranks(symmetric_memory, size, tmp_path) == [""] * size


def test_symmetric_memory_that_one_rank_lacks_is_told_to_all(tmp_path: pathlib.Path) -> None:
    for error in run_ranks(one_finds_no_symmetric_memory, 2, tmp_path):
        assert '"symmetric_memory" cannot be used: rank 1: no handle' in error


@pytest.fixture
def alone(tmp_path: Any) -> Any:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (
            {"transport": "nvlink"},
            ValueError,
            "transport: is 'nvlink', expected one of auto, collective, ipc",
        ),
        ({"transport": "ipc"}, ValueError, 'transport: is "ipc", expected a group of ranks'),
        ({"comm": 77}, ValueError, "comm: is an ncclComm_t, expected a group too"),
        ({"comm": 0}, ValueError, "comm: is 0, expected the address"),
        (
            {"comm": True},
            TypeError,
            "comm: is a bool, expected an ncclComm_t as an int, or a DeepEP buffer",
        ),
        ({"comm": object()}, TypeError, "comm: is an object, expected an ncclComm_t"),
        (
            {"comm": BufferWithoutGroup(77)},
            ValueError,
            "comm: is a BufferWithoutGroup without a `group`",
        ),
    ],
)
def test_bad_arguments_say_what_is_wrong(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    with pytest.raises(kind) as raised:
        lplb.Planner(placement, rank=0, **options)
    assert words in str(raised.value)


def test_a_buffer_with_a_communicator_of_mpi(alone: Any) -> None:
    class Intracomm:
        """An mpi4py.MPI.Comm, which DeepEP V1 keeps as its group if it is made with comm=."""

        rank, size = 0, 1

    buffer: Any = BufferWithoutGroup(None)
    buffer.group = Intracomm()
    placement = lplb.Placement([0, 1], num_ranks=1)
    with pytest.raises(TypeError, match="group of type Intracomm, expected the argument group too"):
        lplb.Planner(placement, rank=0, comm=buffer)
    assert lplb.Planner(placement, group=alone, comm=buffer).group is alone


def test_a_group_given_with_a_buffer_must_be_its(alone: Any) -> None:
    class Other:
        def rank(self) -> int:
            return 3

        def size(self) -> int:
            return 8

    buffer: Any = BufferWithoutGroup(None)
    buffer.group = Other()
    placement = lplb.Placement([0, 1], num_ranks=1)
    with pytest.raises(
        ValueError, match="group: is rank 0 of 1, expected that of comm's group: rank 3"
    ):
        lplb.Planner(placement, group=alone, comm=buffer)
    with pytest.raises(
        TypeError, match="group: is Other, expected a torch.distributed.ProcessGroup"
    ):
        lplb.Planner(placement, comm=buffer)
    buffer.group = alone
    planner = lplb.Planner(placement, group=alone, comm=buffer)
    assert planner.run([[0], [1]]).tolist() == [[0], [1]]
    # With same_tokens nothing is exchanged: `comm` and `transport` are ignored.
    assert lplb.Planner(placement, comm=buffer, transport="ipc", same_tokens=True).rank == 0


def test_ids_as_deep_ep_has_them(alone: Any) -> None:
    """deep_ep.topk_idx_t is int64, or int32 by a build option. -1 means no expert."""
    placement = lplb.Placement([0, 1], num_ranks=1)
    planner = lplb.Planner(placement, comm=EPBuffer(alone, 0))
    for topk_idx_t in (torch.int64, torch.int32):
        ids = torch.tensor([[1, -1], [0, 1]], dtype=topk_idx_t)
        mapped = planner.run(ids)
        assert mapped.dtype == topk_idx_t and mapped.tolist() == ids.tolist()
