# SPDX-License-Identifier: MIT
"""What can only be tested on a GPU: streams, captured graphs, no waiting, no allocation."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import cuda_missing, draw

import lplb

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(cuda_missing()), reason=cuda_missing() or "GPU"),
]


def on_gpu(num_tokens: int, seed: int, dtype: Any = np.int64) -> Any:
    return torch.from_numpy(draw(num_tokens, 8, 64, seed, dtype)).cuda()


def test_backends_are_equal(cube: lplb.Placement) -> None:
    for seed in range(20):
        ids = draw(1 + 300 * seed, 8, 64, seed)
        cpu = lplb.Planner(cube, same_tokens=True)
        gpu = lplb.Planner(cube, same_tokens=True, backend="cuda", checks=True)
        want = cpu.run(ids)
        assert gpu.run(torch.from_numpy(ids).cuda()).tolist() == want.tolist()
        a, b = cpu.stats(), gpu.stats()
        assert a is not None and b is not None
        assert (a.solved, a.optimal, a.last_max_load) == (b.solved, b.optimal, b.last_max_load)
        assert b.check_failures == 0


def test_a_captured_graph_replays_and_survives_a_placement(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True, keep_history=True, quotas=True, backend="cuda")
    batch = on_gpu(256, 1)
    out = torch.empty_like(batch)
    valid = torch.tensor([256], dtype=torch.int32, device="cuda")
    planner.run(batch, out, valid)
    planner.run_quotas(batch, out, valid)
    planner.clear_history()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ids = planner.run(batch, None, valid)
        _, quotas = planner.run_quotas(batch, out, valid)
    other = lplb.Placement(np.roll(cube.physical_to_logical.reshape(8, 10), 1, 0).reshape(-1), 8)
    counts = np.zeros(64)
    for seed, placement in ((2, cube), (3, other), (4, cube)):
        planner.update_placement(placement)
        fresh = draw(256, 8, 64, seed)
        batch.copy_(torch.from_numpy(fresh))
        valid.fill_(200)
        graph.replay()
        want = lplb.Planner(placement, same_tokens=True)
        expected, tables = want.run_quotas(fresh, num_valid_tokens=200)
        assert ids.tolist() == expected.tolist() == out.tolist()
        assert quotas.quota_end.tolist() == tables.quota_end.tolist()
        counts += 2 * lplb.count(fresh[:200], 64)
    assert planner.load_history(0).tolist() == counts.tolist()


def test_the_first_batch_must_not_be_captured(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    batch = on_gpu(8, 1)
    with (
        pytest.raises(RuntimeError, match="within a capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        planner.run(batch)


def test_run_neither_waits_nor_allocates(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True, keep_history=True, backend="cuda")
    batch = on_gpu(4096, 1, np.int32)
    out = torch.empty_like(batch)
    planner.run(batch, out)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        planner.run(batch, out)
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
        planner.run(batch)
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before + 1
        planner.load_history()
        planner.stats(wait=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_streams_are_pytorchs(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    batch = on_gpu(512, 1)
    want = planner.run(batch)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        delayed = torch.zeros_like(batch)
        torch.cuda._sleep(20_000_000)
        delayed.copy_(batch)
        got = planner.run(delayed)
    stream.synchronize()
    assert (got == want).all()


@pytest.fixture
def alone(tmp_path: Any) -> Any:
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


TRANSPORTS = ["auto", "collective", "ipc", "fabric", "nccl", "symmetric_memory"]


def make_alone(
    group: Any, transport: str, placement: lplb.Placement | None = None, **options: Any
) -> lplb.Planner:
    """A planner in a group of one rank. Skips the test if the machine lacks the transport."""
    try:
        return lplb.Planner(
            placement or lplb.Placement(np.arange(64), 1),
            group=group,
            transport=transport,  # type: ignore[arg-type]
            backend="cuda",
            **options,
        )
    except RuntimeError as error:
        if "cannot be used" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_group_of_one_exchanges(alone: Any, transport: str) -> None:
    planner = make_alone(alone, transport, keep_history=True, quotas=True, num_layers=2)
    batch = on_gpu(64, 1)
    assert (planner.run(batch) == batch).all()
    planner.update_placement([planner.placement()] * 2)
    ids, quotas = planner.run_quotas(batch, layer=1)
    assert (ids == batch).all() and quotas.solved.item() == 1
    assert planner.load_history().sum().item() == 2 * (batch >= 0).sum().item()
    stats, found = planner.stats(), planner.exchange_stats()
    assert stats is not None and (stats.degraded, stats.lost) == (0, 0)
    assert found.transport == transport or transport == "auto"
    assert found.bytes > 0
    if found.transport != "collective":
        assert (found.rounds, found.complete, found.last_missing) == (2, 2, -1)
        assert planner.exchange_stats(1).rounds == 1
    planner.close()
    with pytest.raises(RuntimeError, match="planner: is closed"):
        planner.run(batch)
    # A planner that is dropped waits for nobody, and another one can follow.
    for _ in range(2):
        assert (make_alone(alone, transport).run(batch) == batch).all()


@pytest.mark.parametrize("staleness", [0, 1])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_exchange_within_the_kernel_is_one_launch(
    alone: Any, transport: str, staleness: int
) -> None:
    if torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("a device without clusters plans by three kernels")
    planner = make_alone(alone, transport, staleness=staleness)
    batch = on_gpu(512, 1)
    out = torch.empty_like(batch)
    planner.run(batch, out)
    planner.join()
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph(keep_graph=True)
    except TypeError:
        pytest.skip("this PyTorch does not show graphs")
    with torch.cuda.graph(graph):
        planner.run(batch, out)
        planner.join()
    nodes = ctypes.c_size_t()
    raw = ctypes.c_void_p(graph.raw_cuda_graph())
    assert ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(raw, None, ctypes.byref(nodes)) == 0
    if planner.exchange_stats().transport == "collective":
        assert nodes.value > 1
    else:
        assert nodes.value == 1
    del graph
    planner.close()


def tables_of(quotas: lplb.Quotas) -> list[Any]:
    return [table.tolist() for table in quotas]


def test_staleness_equals_the_cpu(cube: lplb.Placement) -> None:
    cpu = lplb.Planner(cube, rank=3, staleness=1, max_redundants=32, backend="cpu")
    gpu = lplb.Planner(
        cube,
        rank=3,
        staleness=1,
        max_redundants=32,
        backend="cuda",
        quotas=True,
        checks=True,
        keep_history=True,
    )
    last: Any = None
    for seed in range(12):
        if seed == 5:
            for planner in (cpu, gpu):
                planner.update_placement(lplb.Placement(np.arange(96) % 64, 8))
        if seed == 8:
            last = None
        ranks = [draw((1 + 300 * seed + 50 * r) % 2500, 8, 64, 100 * seed + r) for r in range(8)]
        want, tables = cpu.run_quotas(ranks[3], all_counts=last)
        rows = None if last is None else torch.from_numpy(last).int().cuda()
        got, quotas = gpu.run_quotas(torch.from_numpy(ranks[3]).cuda(), all_counts=rows)
        assert got.tolist() == want.tolist(), f"batch {seed}"
        assert tables_of(quotas) == tables_of(tables), f"batch {seed}"
        last = np.stack([gpu.placement().pack(lplb.count(ids, 64)) for ids in ranks])
    a, b = cpu.stats(), gpu.stats()
    assert a is not None and b is not None
    assert (a.solved, a.unplanned, a.last_max_load) == (b.solved, b.unplanned, b.last_max_load)
    assert (b.unplanned, b.degraded, b.check_failures) == (3, 0, 0)


def test_a_stale_batch_is_captured(cube: lplb.Placement) -> None:
    cpu = lplb.Planner(cube, rank=2, staleness=1, backend="cpu")
    gpu = lplb.Planner(cube, rank=2, staleness=1, backend="cuda")
    batch, rows = (
        on_gpu(256, 1),
        torch.zeros((8, cube.packed_size), dtype=torch.int32, device="cuda"),
    )
    out = torch.empty_like(batch)
    cpu.run(batch.cpu().numpy())
    gpu.run(batch, out, all_counts=rows)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gpu.run(batch, out, all_counts=rows)
    last = [batch.cpu().numpy(), *(draw(256, 8, 64, r) for r in range(7))]
    for seed in range(2, 6):
        counts = np.stack([cube.pack(lplb.count(ids, 64)) for ids in last])
        counts[[0, 2]] = counts[[2, 0]]  # this rank's tokens are the first in `last`
        rows.copy_(torch.from_numpy(counts))
        last = [draw(256, 8, 64, 10 * seed + r) for r in range(8)]
        batch.copy_(torch.from_numpy(last[0]))
        graph.replay()
        assert out.tolist() == cpu.run(last[0], all_counts=counts).tolist(), f"replay {seed}"


@pytest.mark.parametrize("transport", [*TRANSPORTS, "no group"])
def test_staleness_on_one_rank(alone: Any, transport: str) -> None:
    placement = lplb.Placement(np.arange(80) % 64, 1)
    options: dict[str, Any] = {"staleness": 1, "max_redundants": 32}
    cpu = lplb.Planner(placement, backend="cpu", **options)
    options.update(quotas=True, keep_history=True)
    gpu = (
        lplb.Planner(placement, backend="cuda", **options)
        if transport == "no group"
        else make_alone(alone, transport, placement, **options)
    )
    for seed in range(6):
        if seed == 3:
            for planner in (cpu, gpu):
                planner.update_placement(lplb.Placement(np.arange(96) % 64, 1))
        ids = draw(10 + 300 * seed, 8, 64, seed)
        want, tables = cpu.run_quotas(ids)
        got, quotas = gpu.run_quotas(torch.from_numpy(ids).cuda())
        assert got.tolist() == want.tolist(), f"batch {seed}"
        assert tables_of(quotas) == tables_of(tables), f"batch {seed}"
    batch = on_gpu(256, 1)
    out = torch.empty_like(batch)
    if gpu.exchange_stats().transport == "collective":
        with (
            pytest.raises(RuntimeError, match="expected Planner.join"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            gpu.run(batch, out)
    gpu.join()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gpu.run(batch, out)
        gpu.join()
    for seed in range(6, 12):
        ids = draw(256, 8, 64, seed)
        batch.copy_(torch.from_numpy(ids))
        if seed % 3 == 0:
            out.copy_(gpu.run(batch))
            gpu.join()
        else:
            graph.replay()
        assert out.tolist() == cpu.run(ids).tolist(), f"batch {seed}"
    a, b = cpu.stats(), gpu.stats()
    assert a is not None and b is not None
    assert (a.solved, a.unplanned) == (b.solved, b.unplanned) == (10, 2)
    gpu.run(batch)
    gpu.close()  # with counts under way


@pytest.mark.parametrize(
    "scenario", ["ipc", "auto", "stale", "copies", "late", "dropped", "killed"]
)
def test_two_processes_on_one_gpu(scenario: str) -> None:
    script = pathlib.Path(__file__).with_name("multi_gpu.py")
    done = subprocess.run(
        [sys.executable, script, "--devices", "0,0", scenario], capture_output=True, text=True
    )
    if f"\nskipped {scenario}" in "\n" + done.stdout:
        pytest.skip(done.stdout)
    assert f"\npassed {scenario}" in "\n" + done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_cupy_arrays(cube: lplb.Placement) -> None:
    cupy = pytest.importorskip("cupy")
    ids = draw(300, 8, 64, 1, np.int32)
    planner = lplb.Planner(cube, same_tokens=True, keep_history=True)
    got = planner.run(cupy.asarray(ids))
    assert isinstance(got, cupy.ndarray)
    want = lplb.Planner(cube, same_tokens=True).run(ids)
    assert got.get().tolist() == want.tolist()
    assert planner.load_history(0).tolist() == lplb.count(ids, 64).tolist()
    with pytest.raises(TypeError, match="expected a PyTorch tensor"):
        planner.run_quotas(cupy.asarray(ids))
    with pytest.raises(TypeError, match="num_valid_tokens"):
        planner.run(cupy.asarray(ids), num_valid_tokens=3)


def test_where_things_are_is_checked(cube: lplb.Placement) -> None:
    batch = on_gpu(8, 1)
    with pytest.raises(ValueError, match="expected the CPU"):
        lplb.Planner(cube, same_tokens=True, backend="cpu").run(batch)
    with pytest.raises(ValueError, match="expected a GPU"):
        lplb.Planner(cube, same_tokens=True, backend="cuda").run(batch.cpu())
    with pytest.raises(ValueError, match="expected a GPU"):
        lplb.Planner(cube, same_tokens=True, backend="cuda").run(batch.cpu().numpy())
    planner = lplb.Planner(cube, rank=0)
    with pytest.raises(ValueError, match="all_counts: is None"):
        planner.run(batch)
    with pytest.raises(TypeError, match="all_counts: is torch.int64"):
        planner.run(batch, all_counts=torch.zeros(8, cube.packed_size, device="cuda").long())
    with pytest.raises(ValueError, match="num_valid_tokens: is on cpu"):
        lplb.Planner(cube, same_tokens=True).run(batch, None, torch.zeros(1, dtype=torch.int32))
    with pytest.raises(ValueError, match="quotas: is False"):
        planner.run_quotas(batch)


def test_dynamic_slots_are_equal() -> None:
    homes = lplb.Placement(np.arange(64), num_ranks=8)
    options: dict[str, Any] = {"same_tokens": True, "dynamic_slots": 1, "copy_target": 1.02}
    cpu = lplb.Planner(homes, **options)
    gpu = lplb.Planner(homes, backend="cuda", quotas=True, **options)
    assert (gpu.slot_experts() == -1).all()
    copies = 0
    for seed in range(8):
        ids = draw(1 + 500 * seed, 8, 64, seed)
        want, tables = cpu.run_quotas(ids)
        got, theirs = gpu.run_quotas(torch.from_numpy(ids).cuda())
        assert got.tolist() == want.tolist()
        assert tables_of(theirs) == tables_of(tables)
        a, b = cpu.copies(), gpu.copies()
        assert b.slot_expert.is_cuda
        assert b.slot_expert.tolist() == a.slot_expert.tolist()
        assert b.slot_source.tolist() == a.slot_source.tolist()
        assert b.is_new.tolist() == a.is_new.astype(int).tolist()
        assert b.redundancy_mapping().tolist() == a.redundancy_mapping().tolist()
        assert b.experts_to_copy(8).tolist() == a.experts_to_copy(8).tolist()
        copies += int((a.slot_expert >= 0).sum())
    assert copies > 8
    stats = gpu.stats()
    assert stats is not None and stats.copies == copies


def test_dynamic_slots_in_a_captured_graph() -> None:
    homes = lplb.Placement(np.arange(64), num_ranks=8)
    options: dict[str, Any] = {"same_tokens": True, "dynamic_slots": 2}
    cpu = lplb.Planner(homes, **options)
    gpu = lplb.Planner(homes, backend="cuda", **options)
    batch = on_gpu(300, 1)
    gpu.run(batch)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mapped = gpu.run(batch)
        slots = gpu.slot_experts().clone()
    for seed in range(2, 6):
        fresh = draw(300, 8, 64, seed)
        batch.copy_(torch.from_numpy(fresh))
        graph.replay()
        assert mapped.tolist() == cpu.run(fresh).tolist()
        assert slots.tolist() == cpu.slot_experts().tolist()
