# SPDX-License-Identifier: MIT
"""Planner.run() on PyTorch's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from lplb import _lplb
from lplb._arrays import describe
from lplb._batch import check_layer, shape_of, valid_on_host
from lplb._gpu import NO_COUNTER, Counter, GpuPath
from lplb._paths import Paths
from lplb._results import Quotas
from lplb._torch_memory import tensor_at

WIDTH = {torch.int32: 4, torch.uint32: 4, torch.int64: 8}


def current_device() -> int:
    return torch.cuda.current_device()


def _raw_stream(index: int) -> int:
    return torch.cuda.current_stream(index).cuda_stream


# The current stream of a GPU as an integer, and the current GPU. Triton and Inductor use the same
# functions, which make no object; a PyTorch without them is served too.
raw_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", _raw_stream)
_get_device: Callable[[], int] = getattr(torch._C, "_cuda_getDevice", torch.cuda.current_device)


# These functions run for each batch in eager mode: they are kept short.


def run(
    paths: Paths,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> Tensor:
    if is_compiling() or type(topk_idx) is not Tensor:
        return _run_traced(paths, topk_idx, out, num_valid_tokens, layer, all_counts)
    return run_eager(paths, topk_idx, out, num_valid_tokens, layer, all_counts)


def run_eager(
    paths: Paths,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
    tables: list[Tensor] | None = None,
    counter: Counter = NO_COUNTER,
) -> Tensor:
    """On a GPU the batch's quotas are written to `tables`, and `counter` grows if it is solved."""
    width = check_ids(topk_idx)
    # A view is copied, on the current stream, because the kernel reads and writes whole rows.
    ids = topk_idx if topk_idx.is_contiguous() else topk_idx.contiguous()
    if out is None:
        out = torch.empty_like(ids)
    elif out is not topk_idx:
        check_out(out, topk_idx)
    is_view = not out.is_contiguous()
    mapped = torch.empty_like(out, memory_format=torch.contiguous_format) if is_view else out
    plan_into(paths, ids, width, num_valid_tokens, layer, all_counts, mapped, tables, counter)
    return out.copy_(mapped) if is_view else out


def plan_into(
    paths: Paths,
    topk_idx: Tensor,
    width: int,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
    out: Tensor,
    tables: list[Tensor] | None = None,
    counter: Counter = NO_COUNTER,
) -> None:
    """Like run_eager(), for contiguous tensors."""
    gpu = paths.gpu
    if not 0 <= layer < gpu.num_layers:
        check_layer(layer, gpu.num_layers)
    if not topk_idx.is_cuda:
        _plan_on_host(paths, topk_idx, width, num_valid_tokens, layer, all_counts, out)
        return
    index = topk_idx.get_device()
    if index != gpu.index:
        _start_gpu(gpu, index)
    if _get_device() != index:
        with torch.cuda.device(index):
            plan_into(
                paths, topk_idx, width, num_valid_tokens, layer, all_counts, out, tables, counter
            )
        return
    num_tokens, num_topk = shape_of(topk_idx.shape)
    valid = 0
    if num_valid_tokens is not None:
        if isinstance(num_valid_tokens, Tensor):
            valid = _check_valid_tensor(num_valid_tokens, index)
        else:
            rest = valid_on_host(num_valid_tokens, num_tokens)
            out.view(-1)[rest * num_topk :].fill_(-1)
            num_tokens = rest
    given = 0
    if gpu.needs_counts:
        counts = _check_counts(gpu, layer, all_counts, index)
        given = gpu.counts.on_device(layer, *_counts_at(counts))
    gpu.plan(
        layer,
        raw_stream(index),
        topk_idx.data_ptr(),
        width,
        num_tokens,
        num_topk,
        valid,
        out.data_ptr(),
        given,
        None if tables is None else [table.data_ptr() for table in tables],
        counter,
    )


def run_counted(paths: Paths, topk_idx: Tensor, counter: Tensor, step: int) -> Tensor:
    """run() on a GPU, in one launch, which also adds `step` to `counter` if the batch is solved.

    `counter` is one torch.int32 or torch.int64 on the same GPU.
    """
    grows = (counter.data_ptr(), counter.element_size(), step)
    return run_eager(paths, topk_idx, None, None, 0, None, counter=grows)


def _plan_on_host(
    paths: Paths,
    topk_idx: Tensor,
    width: int,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
    out: Tensor,
) -> None:
    num_tokens, num_topk = shape_of(topk_idx.shape)
    num_entries = num_tokens * num_topk
    paths.host.check(num_entries)
    valid = num_tokens
    if num_valid_tokens is not None:
        valid = valid_on_host(num_valid_tokens, num_tokens)
    paths.host.run(
        layer, topk_idx.data_ptr(), width, num_entries, valid * num_topk, out.data_ptr(), all_counts
    )


def check_ids(topk_idx: Tensor, name: str = "topk_idx") -> int:
    """Returns the bytes of an id."""
    width = WIDTH.get(topk_idx.dtype)
    if width is None:
        raise TypeError(
            f"{name}: has dtype {topk_idx.dtype}, expected torch.int32, torch.int64 or torch.uint32"
        )
    if not topk_idx.is_cuda and topk_idx.device.type != "cpu":
        raise ValueError(f"{name}: is on {topk_idx.device}, expected the CPU or a CUDA device")
    return width


def check_out(out: Tensor, topk_idx: Tensor) -> None:
    if not isinstance(out, Tensor):
        raise TypeError(f"out: is {describe(out)}, expected a tensor")
    if (
        out.dtype != topk_idx.dtype
        or out.shape != topk_idx.shape
        or out.get_device() != topk_idx.get_device()
    ):
        raise ValueError(
            f"out: is {describe(out)} on {out.device}, expected {describe(topk_idx)} on "
            f"{topk_idx.device} like topk_idx"
        )


def _check_valid_tensor(value: Tensor, index: int) -> int:
    if value.dtype != torch.int32 or value.numel() != 1:
        raise TypeError(f"num_valid_tokens: is {describe(value)}, expected one torch.int32")
    if value.get_device() != index:
        raise ValueError(f"num_valid_tokens: is on {value.device}, expected cuda:{index}")
    return value.data_ptr()


def _check_counts(gpu: GpuPath, layer: int, all_counts: Tensor | None, index: int) -> Tensor | None:
    """The counts, contiguous; None: there are none."""
    shape = gpu.counts.shape(layer, all_counts)
    if all_counts is None:
        return None
    if not isinstance(all_counts, Tensor) or all_counts.dtype != torch.int32:
        raise TypeError(
            f"all_counts: is {describe(all_counts)}, expected torch.int32 {list(shape)}"
        )
    if tuple(all_counts.shape) != shape:
        raise ValueError(f"all_counts: has shape {list(all_counts.shape)}, expected {list(shape)}")
    if all_counts.get_device() != index:
        raise ValueError(f"all_counts: is on {all_counts.device}, expected cuda:{index}")
    return all_counts.contiguous()


def _counts_at(counts: Tensor | None) -> tuple[int, int]:
    """The address of the counts, and how many are in a row; 0 and 0 if there are none."""
    return (0, 0) if counts is None else (counts.data_ptr(), counts.shape[1])


def _start_gpu(gpu: GpuPath, index: int) -> None:
    with torch.cuda.device(index):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "topk_idx: is the first batch on a GPU, within a capture; expected one "
                'before it, or backend="cuda"'
            )
        gpu.start(index)


def count(paths: Paths, topk_idx: Tensor, num_valid_tokens: Any, layer: int) -> Tensor:
    placement = paths.placements[check_layer(layer, len(paths.placements))]
    width = check_ids(topk_idx)
    num_tokens, num_topk = shape_of(topk_idx.shape)
    if not topk_idx.is_cuda:
        valid = num_tokens
        if num_valid_tokens is not None:
            valid = valid_on_host(num_valid_tokens, num_tokens)
        flat = topk_idx.reshape(-1)[: valid * num_topk]
        ids = (flat.view(torch.int32) if flat.dtype == torch.uint32 else flat).numpy()
        load, _ = _lplb.count_tokens(ids, placement.num_logical_experts, "cpu")
        return torch.from_numpy(paths.settings.pack(placement, load))
    index = topk_idx.get_device()
    if index != paths.gpu.index:
        _start_gpu(paths.gpu, index)
    valid = 0
    if isinstance(num_valid_tokens, Tensor):
        valid = _check_valid_tensor(num_valid_tokens, index)
    elif num_valid_tokens is not None:
        num_tokens = valid_on_host(num_valid_tokens, num_tokens)
    topk_idx = topk_idx.contiguous()
    size = paths.settings.packed_size(placement)
    packed = torch.empty(size, dtype=torch.int32, device=topk_idx.device)
    with torch.cuda.device(index):
        paths.gpu.count(
            layer,
            raw_stream(index),
            topk_idx.data_ptr(),
            width,
            num_tokens,
            num_topk,
            valid,
            packed.data_ptr(),
        )
    return packed


def load_history(gpu: GpuPath, layer: int | None) -> Tensor:
    """A copy of one layer's history, [num_logical_experts], or of all: [num_layers, ...]."""
    num_experts = gpu.settings.num_logical_experts
    device = torch.device("cuda", gpu.index)
    chosen = gpu.planners if layer is None else [gpu.planners[layer]]
    rows = [tensor_at(one.history, (num_experts,), "<f8", device) for one in chosen]
    return torch.stack(rows) if layer is None else rows[0].clone()


# Quotas.


def run_quotas(
    paths: Paths,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> tuple[Tensor, Quotas]:
    if is_compiling() or type(topk_idx) is not Tensor:
        arguments = _arguments(paths, topk_idx, num_valid_tokens, layer, all_counts)
        ids, *tables = (
            torch.ops.lplb.plan_quotas(*arguments)
            if not paths.settings.staleness
            else torch.ops.lplb.plan_quotas_stale(*arguments, TURN)
        )
        return (ids if out is None else out.copy_(ids)), Quotas(*tables)
    if not topk_idx.is_cuda:
        out = run_eager(paths, topk_idx, out, num_valid_tokens, layer, all_counts)
        return out, Quotas(*[torch.from_numpy(table) for table in paths.host.quotas(layer)])
    if not paths.settings.keeps_split:
        raise ValueError("quotas: is False, expected Planner(quotas=True)")
    tables = quota_tables(paths, topk_idx)
    out = run_eager(paths, topk_idx, out, num_valid_tokens, layer, all_counts, tables)
    return out, Quotas(*tables)


def quota_tables(paths: Paths, topk_idx: Tensor) -> list[Tensor]:
    """The fields of Quotas, empty, on the device of `topk_idx`."""
    experts, replicas = paths.settings.num_logical_experts, paths.host.max_replicas
    return [
        topk_idx.new_empty((experts, replicas), dtype=torch.int32),
        topk_idx.new_empty((experts,), dtype=torch.int32),
        topk_idx.new_empty((paths.settings.num_ranks, experts), dtype=torch.int32),
        topk_idx.new_empty((experts, replicas), dtype=torch.float32),
        topk_idx.new_empty((1,), dtype=torch.int32),
        topk_idx.new_empty((experts, replicas), dtype=torch.int32),
    ]


# An empty argument that the operators of planners with staleness are declared to write to. Each of
# their calls depends on the previous one: because of it the compiler keeps all calls, in order.
with torch.inference_mode(False):
    TURN = torch.zeros(1, dtype=torch.int32)


# Under torch.compile, and for subclasses of Tensor: the operators of lplb._operators.


def _valid_tensor(num_valid_tokens: Any, topk_idx: Tensor) -> Tensor | None:
    if num_valid_tokens is None or isinstance(num_valid_tokens, Tensor):
        return num_valid_tokens
    return torch.full((1,), num_valid_tokens, dtype=torch.int32, device=topk_idx.device)


Arguments = tuple[Tensor, Tensor | None, Tensor | None, int, int]


def _arguments(
    paths: Paths, topk_idx: Tensor, num_valid_tokens: Any, layer: int, all_counts: Tensor | None
) -> Arguments:
    return topk_idx, _valid_tensor(num_valid_tokens, topk_idx), all_counts, paths.handle, layer


def _run_traced(
    paths: Paths,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> Tensor:
    arguments = _arguments(paths, topk_idx, num_valid_tokens, layer, all_counts)
    ops = torch.ops.lplb
    if out is None:
        ids: Tensor = (
            ops.plan_stale(*arguments, TURN) if paths.settings.staleness else ops.plan(*arguments)
        )
        return ids
    if paths.settings.staleness:
        ops.plan_into_stale(*arguments, out, TURN)
    else:
        ops.plan_into(*arguments, out)
    return out
