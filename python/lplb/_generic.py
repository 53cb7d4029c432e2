# SPDX-License-Identifier: MIT
"""Planner.run() on arrays that are not PyTorch's: NumPy, CuPy, and what has their interfaces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb
from lplb._arrays import check_int, describe, kind_of
from lplb._counts import address_on_device, counts_shape, host_exchange, is_alone, needs_counts
from lplb._results import Quotas

if TYPE_CHECKING:
    from lplb._planner import Planner

WIDTH = {"int32": 4, "uint32": 4, "int64": 8}


def check_ids(name: str, value: Any) -> int:
    """Bytes of an id."""
    width = WIDTH.get(str(value.dtype))
    if width is None:
        raise TypeError(f"{name}: has dtype {value.dtype}, expected int32, int64 or uint32")
    return width


def shape_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(num_tokens, num_topk)."""
    if len(shape) == 2:
        return shape[0], shape[1] or 1
    num_topk = max(shape[-1], 1) if len(shape) > 2 else 1
    entries = 1
    for n in shape:
        entries *= n
    return entries // num_topk, num_topk


def check_valid(num_valid: int, num_tokens: int) -> int:
    """`num_valid` within the batch."""
    if not 0 <= num_valid <= num_tokens:
        raise ValueError(
            f"num_valid_tokens: is {num_valid}, expected 0 to num_tokens ({num_tokens})"
        )
    return num_valid


def check_entries(planner: Planner, num_entries: int) -> None:
    if num_entries > planner._max_entries:
        raise ValueError(
            f"topk_idx: has {num_entries} entries, expected at most "
            f"{planner._max_entries} (max_tokens x num_topk)"
        )


def _interface(array: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = array.__cuda_array_interface__
    if found.get("strides") is not None and not getattr(array.flags, "c_contiguous", False):
        raise ValueError(f"{name}: is not contiguous, expected row-major memory")
    return found


def _check_out(out: Any, topk_idx: Any) -> None:
    if tuple(out.shape) != tuple(topk_idx.shape) or str(out.dtype) != str(topk_idx.dtype):
        raise ValueError(f"out: is {describe(out)}, expected {describe(topk_idx)} like topk_idx")


def run(
    planner: Planner,
    topk_idx: Any,
    out: Any,
    num_valid_tokens: Any,
    layer: int,
    stream: int | None,
    all_counts: Any,
) -> Any:
    layer = planner._layer(layer)
    if hasattr(topk_idx, "__cuda_array_interface__"):
        return _run_gpu(planner, topk_idx, out, num_valid_tokens, layer, stream, all_counts)
    ids = _host_ids(topk_idx)
    if planner._backend == "cuda":
        raise ValueError('topk_idx: is on the CPU, expected a GPU (backend="cuda")')
    if out is None:
        out = np.empty_like(ids)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out: is {describe(out)}, expected a NumPy array")
    else:
        _check_out(out, ids)
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError("out: is not contiguous and writeable")
    width = check_ids("topk_idx", ids)
    num_tokens, num_topk = shape_of(ids.shape)
    check_entries(planner, ids.size)
    valid = num_tokens
    if num_valid_tokens is not None:
        valid = check_valid(int(np.asarray(num_valid_tokens).item()), num_tokens)
    planner._host[layer].run(
        ids.ctypes.data,
        width,
        ids.size,
        valid * num_topk,
        out.ctypes.data,
        planner._remembers,
        host_exchange(planner, layer, all_counts),
    )
    return out


def run_quotas(
    planner: Planner, topk_idx: Any, out: Any, num_valid_tokens: Any, layer: int, all_counts: Any
) -> tuple[Any, Quotas]:
    if hasattr(topk_idx, "__cuda_array_interface__"):
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor or an array on the CPU"
        )
    ids = run(planner, topk_idx, out, num_valid_tokens, layer, None, all_counts)
    return ids, Quotas(*planner._host[layer].quotas(planner.max_replicas))


def _host_ids(topk_idx: Any) -> NDArray[Any]:
    if isinstance(topk_idx, (list, tuple)):
        ids = np.asarray(topk_idx if len(topk_idx) else np.empty((0, 1), np.int64))
    elif isinstance(topk_idx, np.ndarray):
        ids = topk_idx
    elif hasattr(topk_idx, "__dlpack__"):
        ids = np.from_dlpack(topk_idx)
    else:
        raise TypeError(f"topk_idx: is {describe(topk_idx)}, expected an array of ids")
    check_ids("topk_idx", ids)
    if not ids.flags.c_contiguous:
        raise ValueError("topk_idx: is not contiguous, expected row-major memory")
    return ids


def _run_gpu(
    planner: Planner,
    topk_idx: Any,
    out: Any,
    num_valid_tokens: Any,
    layer: int,
    stream: int | None,
    all_counts: Any,
) -> Any:
    cupy = sys.modules.get("cupy") if kind_of(topk_idx) == "cupy" else None
    width = check_ids("topk_idx", topk_idx)
    if out is None:
        if cupy is None:
            raise TypeError(
                f"out: is None, expected an array on the GPU beside a {type(topk_idx).__name__}"
            )
        out = cupy.empty_like(topk_idx)
    _check_out(out, topk_idx)
    if is_alone(planner):
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor with staleness "
            "on one rank"
        )
    counts = 0
    if needs_counts(planner):
        shape = counts_shape(planner, layer, all_counts)
        if all_counts is not None:
            found = _interface(all_counts, "all_counts")
            if found["shape"] != shape:
                raise ValueError(
                    f"all_counts: has shape {list(found['shape'])}, expected {list(shape)}"
                )
            counts = found["data"][0]
    if stream is None:
        stream = cupy.cuda.get_current_stream().ptr if cupy is not None else 0
    index = topk_idx.device.id if cupy is not None else max(planner._gpu_index, 0)
    if planner._gpu_index != index:
        planner._start_gpu(index)
    if planner._gathers:
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor where counts go "
            "by the collective"
        )
    num_tokens, num_topk = shape_of(tuple(topk_idx.shape))
    valid = 0
    if isinstance(num_valid_tokens, (int, np.integer)):
        raise TypeError("num_valid_tokens: is an int, expected an int32 array on the GPU")
    if num_valid_tokens is not None:
        if str(num_valid_tokens.dtype) != "int32":
            raise TypeError(f"num_valid_tokens: has dtype {num_valid_tokens.dtype}, expected int32")
        valid = _interface(num_valid_tokens, "num_valid_tokens")["data"][0]
    if needs_counts(planner):
        counts = address_on_device(planner, layer, counts, shape)
    gpu = planner._gpu[layer]
    ids = _interface(topk_idx, "topk_idx")["data"][0]
    batch = (stream, ids, width, num_tokens, num_topk, valid)
    if planner._remembers:
        gpu.count(*batch, 0, True)
    gpu.run(*batch, _interface(out, "out")["data"][0], counts, 0)
    return out


def count(planner: Planner, topk_idx: Any, num_valid_tokens: Any, layer: int) -> Any:
    ids = _host_ids(topk_idx)
    num_tokens, num_topk = shape_of(ids.shape)
    if num_valid_tokens is not None:
        valid = check_valid(check_int(num_valid_tokens, "num_valid_tokens"), num_tokens)
        ids = ids.reshape(-1)[: valid * num_topk]
    flat = ids.reshape(-1)
    load, _ = _lplb.count_tokens(
        flat.view(np.int32) if flat.dtype == np.uint32 else flat, planner.num_logical_experts, "cpu"
    )
    return planner.placement(layer).pack(load)
