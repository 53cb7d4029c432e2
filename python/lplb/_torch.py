# SPDX-License-Identifier: MIT
"""Planner.run() on PyTorch's tensors, and the operators that torch.compile sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from lplb import _lplb
from lplb._arrays import describe
from lplb._counts import address_on_device, counts_shape, host_exchange, needs_counts
from lplb._generic import check_entries, check_valid, shape_of
from lplb._planner import PLANNERS

if TYPE_CHECKING:
    from lplb._exchange import DeviceRounds
    from lplb._planner import Planner

WIDTH = {torch.int32: 4, torch.uint32: 4, torch.int64: 8}


def current_device() -> int:
    return torch.cuda.current_device()


# The current stream of a GPU as an integer, and the current GPU: without an object a call, where
# PyTorch can (what Triton and Inductor use).
_get_stream: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_get_device: Callable[[], int] = getattr(torch._C, "_cuda_getDevice", torch.cuda.current_device)


def raw_stream(index: int) -> int:
    if _get_stream is not None:
        return _get_stream(index)
    return torch.cuda.current_stream(index).cuda_stream


# What is called for each batch, in eager mode: kept short.


def run(
    planner: Planner,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> Tensor:
    if is_compiling() or type(topk_idx) is not Tensor:
        return _run_traced(planner, topk_idx, out, num_valid_tokens, layer, all_counts)
    width = _check_ids(topk_idx)
    if out is None:
        out = torch.empty_like(topk_idx)
    elif out is not topk_idx:
        _check_out(out, topk_idx)
    _plan_into(planner, topk_idx, width, num_valid_tokens, layer, all_counts, out)
    return out


def _plan_into(
    planner: Planner,
    topk_idx: Tensor,
    width: int,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
    out: Tensor,
    tables: list[Tensor] | None = None,
) -> None:
    """`tables`: where the batch's quotas go, on a GPU."""
    if not 0 <= layer < len(planner._placements):
        planner._layer(layer)
    if not topk_idx.is_cuda:
        _plan_on_host(planner, topk_idx, width, num_valid_tokens, layer, all_counts, out)
        return
    index = topk_idx.get_device()
    if index != planner._gpu_index:
        _start_gpu(planner, index)
    if _get_device() != index:
        with torch.cuda.device(index):
            _plan_into(planner, topk_idx, width, num_valid_tokens, layer, all_counts, out, tables)
        return
    num_tokens, num_topk = shape_of(topk_idx.shape)
    valid = 0
    if num_valid_tokens is not None:
        if isinstance(num_valid_tokens, Tensor):
            valid = _check_valid_tensor(num_valid_tokens, index)
        else:
            rest = check_valid(int(num_valid_tokens), num_tokens)
            out.view(-1)[rest * num_topk :].fill_(-1)
            num_tokens = rest
    gpu = planner._gpu[layer]
    batch = (raw_stream(index), topk_idx.data_ptr(), width, num_tokens, num_topk, valid)
    if planner._gathers:
        plan = _plan_late if planner._staleness else _plan_gathered
        plan(planner, layer, batch, out, tables)
        return
    counts = 0
    if needs_counts(planner):
        counts = _check_counts(planner, layer, all_counts, index)
    if planner._remembers:
        gpu.count(*batch, 0, True)
    gpu.run(*batch, out.data_ptr(), counts, 0)
    if tables is not None:
        _write_quotas(planner, layer, batch[0], counts, tables)


Batch = tuple[int, int, int, int, int, int]


def _plan_gathered(
    planner: Planner, layer: int, batch: Batch, out: Tensor, tables: list[Tensor] | None
) -> None:
    """With a collective between a kernel that counts and one that plans."""
    rounds, gpu = planner._rounds[layer], planner._gpu[layer]
    gpu.count(*batch, rounds.mine.data_ptr(), planner._remembers)
    rounds.gather(planner._placements[layer].packed_size)
    counts = rounds.everyone.data_ptr()
    gpu.run(*batch, out.data_ptr(), counts, 0)
    if tables is not None:
        _write_quotas(planner, layer, batch[0], counts, tables)


def _plan_late(
    planner: Planner, layer: int, batch: Batch, out: Tensor, tables: list[Tensor] | None
) -> None:
    """With staleness: the plan by the rows of the batch before, then a collective beside the stream."""
    rounds, gpu = planner._rounds[layer], planner._gpu[layer]
    rounds.join()
    counts = rounds.everyone.data_ptr()
    if planner._remembers:
        gpu.count(*batch, 0, True)
    gpu.run(*batch, out.data_ptr(), counts, rounds.mine.data_ptr())
    if tables is not None:  # which reads the rows
        _write_quotas(planner, layer, batch[0], counts, tables)
    rounds.start(planner._placements[layer].packed_size)


def _write_quotas(
    planner: Planner, layer: int, stream: int, counts: int, tables: list[Tensor]
) -> None:
    planner._gpu[layer].quotas(
        stream, counts, planner.max_replicas, *(t.data_ptr() for t in tables)
    )


def _plan_on_host(
    planner: Planner,
    topk_idx: Tensor,
    width: int,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
    out: Tensor,
) -> None:
    if planner._backend == "cuda":
        raise ValueError('topk_idx: is on the CPU, expected a GPU (backend="cuda")')
    num_tokens, num_topk = shape_of(topk_idx.shape)
    check_entries(planner, num_tokens * num_topk)
    valid = num_tokens
    if num_valid_tokens is not None:
        valid = check_valid(int(num_valid_tokens), num_tokens)
    planner._host[layer].run(
        topk_idx.data_ptr(),
        width,
        num_tokens * num_topk,
        valid * num_topk,
        out.data_ptr(),
        planner._remembers,
        host_exchange(planner, layer, all_counts),
    )


def _check_ids(topk_idx: Tensor, name: str = "topk_idx") -> int:
    """Bytes of an id."""
    width = WIDTH.get(topk_idx.dtype)
    if width is None:
        raise TypeError(
            f"{name}: has dtype {topk_idx.dtype}, expected torch.int32, torch.int64 or torch.uint32"
        )
    if not topk_idx.is_contiguous():
        raise ValueError(f"{name}: is not contiguous, expected row-major memory")
    if not topk_idx.is_cuda and topk_idx.device.type != "cpu":
        raise ValueError(f"{name}: is on {topk_idx.device}, expected the CPU or a CUDA device")
    return width


def _check_out(out: Tensor, topk_idx: Tensor) -> None:
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
    if not out.is_contiguous():
        raise ValueError("out: is not contiguous, expected row-major memory")


def _check_valid_tensor(value: Tensor, index: int) -> int:
    if value.dtype != torch.int32 or value.numel() != 1:
        raise TypeError(f"num_valid_tokens: is {describe(value)}, expected one torch.int32")
    if value.get_device() != index:
        raise ValueError(f"num_valid_tokens: is on {value.device}, expected cuda:{index}")
    return value.data_ptr()


def _check_counts(planner: Planner, layer: int, all_counts: Tensor | None, index: int) -> int:
    shape = counts_shape(planner, layer, all_counts)
    if all_counts is None:
        return address_on_device(planner, layer, 0, shape)
    if not isinstance(all_counts, Tensor) or all_counts.dtype != torch.int32:
        raise TypeError(
            f"all_counts: is {describe(all_counts)}, expected torch.int32 {list(shape)}"
        )
    if tuple(all_counts.shape) != shape or not all_counts.is_contiguous():
        raise ValueError(
            f"all_counts: is {describe(all_counts)}, expected contiguous {list(shape)}"
        )
    if all_counts.get_device() != index:
        raise ValueError(f"all_counts: is on {all_counts.device}, expected cuda:{index}")
    return address_on_device(planner, layer, all_counts.data_ptr(), shape)


def _start_gpu(planner: Planner, index: int) -> None:
    with torch.cuda.device(index):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "topk_idx: is the first batch on a GPU, within a capture; expected one "
                'before it, or backend="cuda"'
            )
        planner._start_gpu(index)


def device_rounds(planner: Planner, index: int) -> list[DeviceRounds]:
    """A layer's each, with room for the largest placement."""
    from lplb._exchange import DeviceRounds

    replicated = min(planner.num_logical_experts, planner._max_redundants)
    size, device = replicated + planner.num_ranks, torch.device("cuda", index)
    return [DeviceRounds(planner._exchange, size, device) for _ in planner._placements]


def join(planner: Planner) -> None:
    with torch.cuda.device(planner._gpu_index):
        for rounds in planner._rounds:
            rounds.join()


def count(planner: Planner, topk_idx: Tensor, num_valid_tokens: Any, layer: int) -> Tensor:
    layer = planner._layer(layer)
    width = _check_ids(topk_idx)
    num_tokens, num_topk = shape_of(topk_idx.shape)
    if not topk_idx.is_cuda:
        valid = (
            num_tokens
            if num_valid_tokens is None
            else check_valid(int(num_valid_tokens), num_tokens)
        )
        flat = topk_idx.view(-1)[: valid * num_topk]
        ids = (flat.view(torch.int32) if flat.dtype == torch.uint32 else flat).numpy()
        load, _ = _lplb.count_tokens(ids, planner.num_logical_experts, "cpu")
        return torch.from_numpy(planner.placement(layer).pack(load))
    index = topk_idx.get_device()
    if index != planner._gpu_index:
        _start_gpu(planner, index)
    valid = 0
    if isinstance(num_valid_tokens, Tensor):
        valid = _check_valid_tensor(num_valid_tokens, index)
    elif num_valid_tokens is not None:
        num_tokens = check_valid(int(num_valid_tokens), num_tokens)
    packed = torch.empty(
        planner.placement(layer).packed_size, dtype=torch.int32, device=topk_idx.device
    )
    with torch.cuda.device(index):
        planner._gpu[layer].count(
            raw_stream(index),
            topk_idx.data_ptr(),
            width,
            num_tokens,
            num_topk,
            valid,
            packed.data_ptr(),
            False,
        )
    return packed


class _DeviceMemory:
    """Memory of a planner, for torch.as_tensor()."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": (size,),
            "typestr": "<f8",
            "version": 3,
        }


def load_history(planner: Planner, layer: int | None) -> Tensor:
    layers = range(planner.num_layers) if layer is None else [planner._layer(layer)]
    device = torch.device("cuda", planner._gpu_index)
    rows = [
        torch.as_tensor(
            _DeviceMemory(planner._gpu[i].history, planner.num_logical_experts), device=device
        )
        for i in layers
    ]
    return torch.stack(rows) if layer is None else rows[0].clone()


# Quotas.


def run_quotas(
    planner: Planner,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    if is_compiling() or type(topk_idx) is not Tensor:
        arguments = _arguments(planner, topk_idx, num_valid_tokens, layer, all_counts)
        ids, *tables = (
            torch.ops.lplb.plan_quotas(*arguments)
            if not planner._staleness
            else torch.ops.lplb.plan_quotas_late(*arguments, _TURN)
        )
        return (ids if out is None else out.copy_(ids)), tables
    width = _check_ids(topk_idx)
    if out is None:
        out = torch.empty_like(topk_idx)
    elif out is not topk_idx:
        _check_out(out, topk_idx)
    if not topk_idx.is_cuda:
        _plan_into(planner, topk_idx, width, num_valid_tokens, layer, all_counts, out)
        return out, [torch.from_numpy(t) for t in planner._host[layer].quotas(planner.max_replicas)]
    if not planner._keeps_split:
        raise ValueError("quotas: is False, expected Planner(quotas=True)")
    tables = _quota_tables(planner, topk_idx)
    _plan_into(planner, topk_idx, width, num_valid_tokens, layer, all_counts, out, tables)
    return out, tables


def _quota_tables(planner: Planner, topk_idx: Tensor) -> list[Tensor]:
    experts, replicas = planner.num_logical_experts, planner.max_replicas
    return [
        topk_idx.new_empty((experts, replicas), dtype=torch.int32),
        topk_idx.new_empty((experts,), dtype=torch.int32),
        topk_idx.new_empty((planner.num_ranks, experts), dtype=torch.int32),
        topk_idx.new_empty((experts, replicas), dtype=torch.float32),
        topk_idx.new_empty((1,), dtype=torch.int32),
    ]


# The operators. A planner is passed by its handle.


def _valid_tensor(num_valid_tokens: Any, topk_idx: Tensor) -> Tensor | None:
    if num_valid_tokens is None or isinstance(num_valid_tokens, Tensor):
        return num_valid_tokens
    return torch.full((1,), num_valid_tokens, dtype=torch.int32, device=topk_idx.device)


Arguments = tuple[Tensor, Tensor | None, Tensor | None, int, int]


def _arguments(
    planner: Planner, topk_idx: Tensor, num_valid_tokens: Any, layer: int, all_counts: Tensor | None
) -> Arguments:
    return topk_idx, _valid_tensor(num_valid_tokens, topk_idx), all_counts, planner._handle, layer


def _run_traced(
    planner: Planner,
    topk_idx: Tensor,
    out: Tensor | None,
    num_valid_tokens: Any,
    layer: int,
    all_counts: Tensor | None,
) -> Tensor:
    arguments = _arguments(planner, topk_idx, num_valid_tokens, layer, all_counts)
    ops = torch.ops.lplb
    if out is None:
        ids: Tensor = (
            ops.plan_late(*arguments, _TURN) if planner._staleness else ops.plan(*arguments)
        )
        return ids
    if planner._staleness:
        ops.plan_into_late(*arguments, out, _TURN)
    else:
        ops.plan_into(*arguments, out)
    return out


def _plan(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> Tensor:
    topk_idx = topk_idx.contiguous()
    width = _check_ids(topk_idx)
    out = torch.empty_like(topk_idx)
    _plan_into(PLANNERS[planner], topk_idx, width, num_valid_tokens, layer, all_counts, out)
    return out


def _plan_to(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
    out: Tensor,
) -> None:
    width = _check_ids(topk_idx)
    _check_out(out, topk_idx)
    _plan_into(PLANNERS[planner], topk_idx, width, num_valid_tokens, layer, all_counts, out)


def _plan_quotas(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> tuple[Tensor, ...]:
    ids, tables = run_quotas(
        PLANNERS[planner], topk_idx.contiguous(), None, num_valid_tokens, layer, all_counts
    )
    return (ids, *tables)


def _fake_plan(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> Tensor:
    return topk_idx.new_empty(topk_idx.shape)


def _fake_plan_into(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
    out: Tensor,
) -> None:
    return None


def _fake_plan_quotas(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> tuple[Tensor, ...]:
    return (topk_idx.new_empty(topk_idx.shape), *_quota_tables(PLANNERS[planner], topk_idx))


# Declared as written to by the operators of planners with staleness, whose calls depend on those
# before: so that the compiler keeps all of them, in order. Nothing is in it.
with torch.inference_mode(False):
    _TURN = torch.zeros(1, dtype=torch.int32)


def _without_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments[:-1])


_make_library: Any = torch.library.Library  # without type annotations
_library: Any = _make_library("lplb", "DEF")


def _define(
    name: str, signature: str, function: Callable[..., Any], fake: Callable[..., Any], *tags: Any
) -> None:
    _library.define(name + signature, tags=(torch.Tag.pt2_compliant_tag, *tags))
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lplb::{name}", fake, lib=_library)


# What they leave under way must not be captured without a join(): not by graphs of the compiler's own.
_LATE_TAGS = [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []
_ARGUMENTS = "Tensor topk_idx, Tensor? num_valid_tokens, Tensor? all_counts, int planner, int layer"
for _name, _more, _result, _function, _fake in (
    ("plan", "", "Tensor", _plan, _fake_plan),
    ("plan_into", ", Tensor(a!) out", "()", _plan_to, _fake_plan_into),
    (
        "plan_quotas",
        "",
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        _plan_quotas,
        _fake_plan_quotas,
    ),
):
    _define(_name, f"({_ARGUMENTS}{_more}) -> {_result}", _function, _fake)
    _define(
        f"{_name}_late",
        f"({_ARGUMENTS}{_more}, Tensor(b!) turn) -> {_result}",
        _without_turn(_function),
        _without_turn(_fake),
        *_LATE_TAGS,
    )
