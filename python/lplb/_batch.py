# SPDX-License-Identifier: MIT
"""The checks of a batch that both paths and both adapters make."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplb._arrays import check_int, describe

#: Bytes of an id, by the name of its type.
WIDTH = {"int32": 4, "uint32": 4, "int64": 8}


def shape_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(num_tokens, num_topk) of a `topk_idx` of this shape."""
    if len(shape) == 2:
        return shape[0], shape[1] or 1
    num_topk = max(shape[-1], 1) if len(shape) > 2 else 1
    entries = 1
    for n in shape:
        entries *= n
    return entries // num_topk, num_topk


def check_valid(num_valid: int, num_tokens: int) -> int:
    """`num_valid`, which must be 0 to num_tokens."""
    if not 0 <= num_valid <= num_tokens:
        raise ValueError(
            f"num_valid_tokens: is {num_valid}, expected 0 to num_tokens ({num_tokens})"
        )
    return num_valid


def valid_on_host(value: Any, num_tokens: int) -> int:
    """How many of `num_tokens` tokens are no padding, from an int, or an array of one integer.

    An int must be 0 to num_tokens. An array is clamped, as the kernels clamp it on a GPU, where
    nobody may wait to check it.
    """
    if isinstance(value, (int, np.integer)) or not hasattr(value, "dtype"):
        return check_valid(check_int(value, "num_valid_tokens"), num_tokens)
    array = np.asarray(value.numpy(force=True) if hasattr(value, "is_cuda") else value)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"num_valid_tokens: is {describe(value)}, expected one integer")
    return min(max(int(array.item()), 0), num_tokens)


def check_layer(layer: int, num_layers: int) -> int:
    """`layer`, which must be 0 to num_layers - 1."""
    if not 0 <= layer < num_layers:
        raise ValueError(f"layer: is {layer}, expected 0 to {num_layers - 1}")
    return layer
