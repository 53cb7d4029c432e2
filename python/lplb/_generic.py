# SPDX-License-Identifier: MIT
"""Planner.run() on arrays that are not PyTorch's: NumPy, CuPy, and what has their interfaces."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lplb import _lplb
from lplb._arrays import describe, kind_of
from lplb._batch import WIDTH, check_layer, shape_of, valid_on_host
from lplb._gpu import NO_COUNTER, GpuPath
from lplb._paths import Paths
from lplb._results import Quotas


def check_ids(name: str, value: Any) -> int:
    """Returns the bytes of an id."""
    width = WIDTH.get(str(value.dtype))
    if width is None:
        raise TypeError(f"{name}: has dtype {value.dtype}, expected int32, int64 or uint32")
    return width


def _interface(array: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = array.__cuda_array_interface__
    if not _is_packed(array):
        raise ValueError(
            f"{name}: has strides {list(found['strides'])}, expected contiguous memory, or a view "
            "of a PyTorch or CuPy array"
        )
    return found


def _is_packed(array: Any) -> bool:
    """Whether an array on a GPU is contiguous. Strides of None say so; others rarely do."""
    found = array.__cuda_array_interface__
    flags = getattr(array, "flags", None)
    return found.get("strides") is None or bool(getattr(flags, "c_contiguous", False))


def _check_out(out: Any, topk_idx: Any) -> None:
    if tuple(out.shape) != tuple(topk_idx.shape) or str(out.dtype) != str(topk_idx.dtype):
        raise ValueError(f"out: is {describe(out)}, expected {describe(topk_idx)} like topk_idx")


def run(
    paths: Paths,
    topk_idx: Any,
    out: Any,
    num_valid_tokens: Any,
    layer: int,
    stream: int | None,
    all_counts: Any,
) -> Any:
    check_layer(layer, paths.settings.num_layers)
    if hasattr(topk_idx, "__cuda_array_interface__"):
        return _run_gpu(paths.gpu, topk_idx, out, num_valid_tokens, layer, stream, all_counts)
    ids = _host_ids(topk_idx)
    paths.host.check(ids.size)
    if out is None:
        out = np.empty_like(ids)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out: is {describe(out)}, expected a NumPy array")
    else:
        _check_out(out, ids)
        if not out.flags.writeable:
            raise ValueError("out: is read-only, expected an array that can be written")
    mapped = out if out.flags.c_contiguous else np.empty_like(ids)
    width = check_ids("topk_idx", ids)
    num_tokens, num_topk = shape_of(ids.shape)
    valid = num_tokens
    if num_valid_tokens is not None:
        valid = valid_on_host(num_valid_tokens, num_tokens)
    paths.host.run(
        layer, ids.ctypes.data, width, ids.size, valid * num_topk, mapped.ctypes.data, all_counts
    )
    if mapped is not out:
        out[...] = mapped
    return out


def run_quotas(
    paths: Paths, topk_idx: Any, out: Any, num_valid_tokens: Any, layer: int, all_counts: Any
) -> tuple[Any, Quotas]:
    if hasattr(topk_idx, "__cuda_array_interface__"):
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor or an array on the CPU"
        )
    ids = run(paths, topk_idx, out, num_valid_tokens, layer, None, all_counts)
    return ids, Quotas(*paths.host.quotas(layer))


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
    return np.ascontiguousarray(ids) if not ids.flags.c_contiguous else ids


def _run_gpu(
    gpu: GpuPath,
    topk_idx: Any,
    out: Any,
    num_valid_tokens: Any,
    layer: int,
    stream: int | None,
    all_counts: Any,
) -> Any:
    cupy = sys.modules.get("cupy") if kind_of(topk_idx) == "cupy" else None
    width = check_ids("topk_idx", topk_idx)

    def packed(array: Any) -> Any:
        """A view of a CuPy array is copied, on CuPy's current stream."""
        if cupy is None or stream_given or _is_packed(array):
            return array
        return cupy.ascontiguousarray(array)

    stream_given = stream is not None
    topk_idx = packed(topk_idx)
    if out is None:
        if cupy is None:
            raise TypeError(
                f"out: is None, expected an array on the GPU with a {type(topk_idx).__name__}"
            )
        out = cupy.empty_like(topk_idx, order="C")
    _check_out(out, topk_idx)
    mapped = out
    if cupy is not None and not stream_given and not _is_packed(out):
        mapped = cupy.empty_like(topk_idx)
    if gpu.settings.is_stale_alone:
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor with staleness "
            "on one rank"
        )
    counts = 0
    if gpu.needs_counts:
        shape = gpu.counts.shape(layer, all_counts)
        if all_counts is not None:
            all_counts = packed(all_counts)
            found = _interface(all_counts, "all_counts")
            if found["shape"] != shape:
                raise ValueError(
                    f"all_counts: has shape {list(found['shape'])}, expected {list(shape)}"
                )
            counts = found["data"][0]
    if stream is None:
        stream = cupy.cuda.get_current_stream().ptr if cupy is not None else 0
    index = topk_idx.device.id if cupy is not None else max(gpu.index, 0)
    if gpu.index != index:
        gpu.start(index)
    if gpu.gathers:
        raise TypeError(
            f"topk_idx: is {describe(topk_idx)}, expected a PyTorch tensor if counts travel "
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
    if gpu.needs_counts:
        counts = gpu.counts.on_device(layer, counts, shape[1])
    gpu.plan(
        layer,
        stream,
        _interface(topk_idx, "topk_idx")["data"][0],
        width,
        num_tokens,
        num_topk,
        valid,
        _interface(mapped, "out")["data"][0],
        counts,
        None,
        NO_COUNTER,
    )
    if mapped is not out:
        out[...] = mapped
    return out


def count(paths: Paths, topk_idx: Any, num_valid_tokens: Any, layer: int) -> Any:
    ids = _host_ids(topk_idx)
    num_tokens, num_topk = shape_of(ids.shape)
    if num_valid_tokens is not None:
        valid = valid_on_host(num_valid_tokens, num_tokens)
        ids = ids.reshape(-1)[: valid * num_topk]
    flat = ids.reshape(-1)
    load, _ = _lplb.count_tokens(
        flat.view(np.int32) if flat.dtype == np.uint32 else flat,
        paths.settings.num_logical_experts,
        "cpu",
    )
    placement = paths.placements[check_layer(layer, len(paths.placements))]
    return paths.settings.pack(placement, load)
