# SPDX-License-Identifier: MIT
"""What engines_gpu.py runs on a GPU."""

from __future__ import annotations

import ctypes
import glob
import importlib
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import lplb


def check_vllm(rank: int, size: int, _folder: str) -> None:
    """Batches, commits and captured graphs, with vLLM's Triton kernel as its own choice."""
    import vllm_ranks as v
    from vllm_ranks import eplb_state, plugin

    v.start()
    messages = v.Messages()
    commit = eplb_state._commit_eplb_maps
    plugin.install()
    model = v.Model()
    state = v.make_state(v.make_config(1, size), ("main", model))
    model_state = state.model_states["main"]

    def check(batch: int, dtype: Any) -> None:
        for layer in range(v.LAYERS):
            ids = v.draw(100 * batch + 10 * rank + layer, 40 * (rank + 1), dtype)
            model_state.expert_load_pass.zero_()
            slots = model.moe_layers[layer].map(ids)
            v.expect_right(model, layer, ids, slots)
            v.expect_balanced(model, layer, ids, slots)
            want = torch.bincount(slots.flatten(), minlength=12).int()
            want *= model.moe_layers[layer].eplb_state.should_record_tensor  # not in every step
            assert torch.equal(model_state.expert_load_pass[layer], want), "recorded"

    check(0, torch.int32)
    check(1, torch.int64)
    before = model_state.physical_to_logical_map.clone()
    for step in range(12):
        check(2 + step, torch.int32)
        state.step()
    assert not torch.equal(before, model_state.physical_to_logical_map), "vLLM has rearranged"
    print(f"  rank {rank}: batches and vLLM's rearrangement: ok", flush=True)

    ids = v.draw(rank, 30)
    replay, slots = captured(lambda: [layer.map(ids) for layer in model.moe_layers])

    def expect(batch: int, balanced: bool) -> None:
        ids.copy_(v.draw(50 * batch + rank, 30))
        state.prepare_forward(v.Name("main"), 30)
        model_state.expert_load_pass.zero_()
        replay()
        for layer in range(v.LAYERS):
            v.expect_right(model, layer, ids, slots[layer])
            if balanced:
                v.expect_balanced(model, layer, ids, slots[layer])
            want = torch.bincount(slots[layer].flatten(), minlength=12).int()
            want *= model.moe_layers[layer].eplb_state.should_record_tensor
            assert torch.equal(model_state.expert_load_pass[layer], want), "recorded"

    expect(1, True)
    new = torch.roll(model_state.physical_to_logical_map.cpu(), 1, 1)  # vLLM's are there too
    v.move_weights(None, new, model.expert_weights, None, None)
    eplb_state._commit_eplb_maps(model_state, new)
    expect(2, True)
    moved = torch.roll(new, 5, 1)
    v.move_weights(None, moved, model.expert_weights, None, None)
    commit(model_state, moved)  # not through LPLB
    expect(3, False)
    assert bool(plugin._models[0].is_stale)
    stale = v.draw(70 + rank, 30)
    v.expect_right(model, 1, stale, model.moe_layers[1].map(stale))  # vLLM's kernel
    eplb_state._commit_eplb_maps(model_state, moved)
    expect(4, True)
    planner: Any = plugin._models[0].planners[0]
    stats = planner.exchange_stats()
    print(f"  rank {rank}: a captured graph, through commits and a stale map: ok", flush=True)
    print(f"  rank {rank}: {messages.about('layers of')[0]}; {stats}", flush=True)


def check_sglang(rank: int, size: int, _folder: str) -> None:
    """Batches, the manager's rebalances and captured graphs."""
    import sglang_ranks as s
    from sglang_ranks import HookRegistry, plugin
    from vllm_ranks import Messages

    messages = Messages()
    plugin.install()
    HookRegistry.apply_hooks()
    server = s.Rank()

    def check(batch: int) -> None:
        for layer in range(s.LAYERS):
            ids = s.draw(100 * batch + 10 * rank + layer, 20 + 30 * rank)
            slots = server.map(layer, ids)
            server.expect_right(layer, ids, slots)
            server.expect_balanced(layer, ids, slots)
            assert torch.equal(server.map(layer, ids, shared=1), slots)

    manager = server.manager()
    for batch in range(6):
        check(batch)
        manager.on_forward_pass_end()
    print(f"  rank {rank}: batches and SGLang's rebalances: ok", flush=True)

    ids = s.draw(rank, 30)
    replay, slots = captured(lambda: [server.map(i, ids) for i in range(s.LAYERS)])

    def expect(batch: int, balanced: bool) -> None:
        ids.copy_(s.draw(50 * batch + rank, 30))
        replay()
        for layer in range(s.LAYERS):
            server.expect_right(layer, ids, slots[layer])
            if balanced:
                server.expect_balanced(layer, ids, slots[layer])

    expect(1, True)
    metadata = s.expert_location.get_global_expert_location_metadata()
    new = torch.roll(metadata.physical_to_logical_map, 1, 1).clone()
    server.rebalance(new, [0, 1, 2])
    expect(2, True)
    moved = torch.roll(new, 5, 1).clone()
    server.update(moved, [0, 1, 2])  # no new solvers
    expect(3, False)
    server.rebalance(moved, [0])
    expect(4, True)
    print(f"  rank {rank}: a captured graph, through rebalances and a stale map: ok", flush=True)
    print(f"  rank {rank}: {messages.about('layers of')[0]}", flush=True)
    for tokens in (16, 512):
        ids = s.draw(rank, tokens)
        dist.barrier()
        times = []
        for _ in range(30):
            start = time.perf_counter()
            server.map(0, ids)
            times.append(time.perf_counter() - start)
            torch.cuda.synchronize()
        print(f"  rank {rank}: {tokens} tokens: {1e6 * statistics.median(times):.0f} us of host")


def captured(step: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Captures `step` after two runs of it. Returns what replays it, and its results' memory."""
    cuda: Any = torch.cuda
    stream = cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay, results


def check_time(_rank: int, _size: int, _folder: str) -> None:
    """58 layers of 256 experts and 32 replicas on 8 ranks that have the same tokens."""
    import vllm_ranks as v
    from vllm_ranks import base_router, plugin

    v.EXPERTS, v.TOPK, layers = 256, 8, 58
    v.start()
    group = types.SimpleNamespace(device_group=types.SimpleNamespace(size=lambda: 8))
    v.parallel_state.get_ep_group = lambda: group
    theirs = base_router.eplb_map_to_physical_and_record
    plugin.install()
    ours = base_router.eplb_map_to_physical_and_record
    model = v.Model(redundants=32, max_tokens=4096, layers=layers)
    state = v.make_state(v.make_config(8, 1), ("main", model))
    print("  us a layer, median: host, and in a captured graph of 58 layers")
    for tokens in (1, 128, 4096):
        ids = v.draw(1, tokens)
        state.prepare_forward(v.Name("main"), tokens)
        for name, function in (("LPLB", ours), ("vLLM", theirs)):
            base_router.eplb_map_to_physical_and_record = function

            def step(ids: Any = ids) -> list[Any]:
                return [layer.map(ids) for layer in model.moe_layers]

            step()
            host = []
            for _ in range(15):
                torch.cuda.synchronize()
                start = time.perf_counter()
                step()
                host.append((time.perf_counter() - start) / layers)
            replay, _ = captured(step)
            device = []
            for _ in range(30):
                start = time.perf_counter()
                replay()
                device.append((time.perf_counter() - start) / layers)
            figures = [1e6 * statistics.median(each) for each in (host, device)]
            print(f"  {tokens:5} tokens  {name}  {figures[0]:7.1f}  {figures[1]:7.1f}", flush=True)


def check_deep_ep_v1(rank: int, size: int, folder: str) -> None:
    start_nccl(rank, size, folder)
    group: Any = dist.group.WORLD
    buffer = attempt("V1 Buffer", lambda: deep_ep().Buffer(group, 1 << 28, explicitly_destroy=True))
    if buffer is not None:
        use_buffer("V1", buffer)


def check_deep_ep_v2(rank: int, size: int, folder: str) -> None:
    start_nccl(rank, size, folder)
    symbol = "ncclCommQueryProperties"
    if not hasattr(ctypes.CDLL("libnccl.so.2"), symbol):  # the process would end
        version = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
        print(f"  V2 ElasticBuffer: does not start: NCCL {version} has no {symbol}", flush=True)
        return
    options: dict[str, Any] = {"num_bytes": 1 << 28, "explicitly_destroy": True}
    buffer = attempt(
        "V2 ElasticBuffer", lambda: deep_ep().ElasticBuffer(dist.group.WORLD, **options)
    )
    if buffer is not None:
        use_buffer("V2", buffer)


def check_deep_ep_mpi(rank: int, size: int, folder: str) -> None:
    """Its `group` is not one of PyTorch's: LPLB says so, and takes one that is given."""
    start_nccl(rank, size, folder)
    buffer = attempt("V1 Buffer with comm=", make_by_mpi)
    if buffer is None:
        return
    try:
        lplb.Planner(placement(), comm=buffer)
    except TypeError as error:
        print(f"  lplb.Planner(comm=V1 of MPI): {error}")
        assert "expected the argument group too" in str(error)
    else:
        raise AssertionError("an MPI communicator was taken for a group")
    use_buffer("V1 of MPI, with group=", buffer, dist.group.WORLD)


def start_nccl(rank: int, size: int, folder: str) -> None:
    dist.init_process_group(
        "nccl", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    dist.all_reduce(torch.ones(1, device="cuda"))  # NCCL makes its communicator now


def attempt(what: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, or None and a line with the reason: DeepEP's, not LPLB's."""
    try:
        made = make()
    except BaseException as error:
        print(f"  {what}: does not start: {type(error).__name__}: {str(error).strip()[:600]}")
        return None
    print(f"  {what}: starts", flush=True)
    return made


def deep_ep() -> Any:
    """NOTE: made for another PyTorch, of which one symbol may be missing: it is looked up late."""
    sites = [path for path in sys.path if path.endswith("site-packages")]
    for site in sites:
        for library in ("nvshmem/lib/libnvshmem_host.so.3", "nccl/lib/libnccl.so.2"):
            for path in glob.glob(f"{site}/nvidia/{library}"):
                ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    os.environ.setdefault("EP_SUPPRESS_NCCL_CHECK", "1")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_LAZY)
    try:
        found: Any = importlib.import_module("deep_ep")
    finally:
        sys.setdlopenflags(flags)
    print(f"  deep_ep {found.__version__} is imported", flush=True)
    return found


def make_by_mpi() -> Any:
    mpi: Any = importlib.import_module("mpi4py.MPI")
    return deep_ep().Buffer(None, 1 << 28, explicitly_destroy=True, comm=mpi.COMM_WORLD)


def placement() -> lplb.Placement:
    if dist.get_world_size() == 1:
        return lplb.Placement([0, 1, 2, 3], 1)
    return lplb.Placement([0, 1, 2, 2, 3, 0], 2)


def use_buffer(name: str, buffer: Any, group: Any = None) -> None:
    """The planner with a real buffer, and the original interface with it, which needs two ranks."""
    ids = torch.randint(0, 4, (64, 2), device="cuda")
    planner = lplb.Planner(placement(), comm=buffer, group=group)
    slots = planner.run(ids)
    held = torch.from_numpy(planner.placement().physical_to_logical).cuda()
    assert torch.equal(held[slots].long(), ids)
    print(f"  LPLB with {name}: comm=: ok", flush=True)
    if dist.get_world_size() > 1:
        print(f"  {planner.exchange_stats()}", flush=True)
    planner.close()
    make: Any = lplb.Planner
    original = make(torch.tensor([[1], [0]]), 6, 4, ep_size=2)
    if dist.get_world_size() == 1:
        try:
            original.init_from_deep_ep(buffer)
        except ValueError as error:
            print(f"  init_from_deep_ep({name}): {error}")
            return
        raise AssertionError("a group of one rank was taken for one of two")
    original.init_from_deep_ep(buffer)
    assert original.deep_ep_initialized
    counter = torch.zeros(1, dtype=torch.int64, device="cuda")
    assert original.run(ids, counter).shape == ids.shape
    print(f"  init_from_deep_ep({name}): ok", flush=True)
