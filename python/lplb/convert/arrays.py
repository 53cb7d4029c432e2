# SPDX-License-Identifier: MIT
"""Reads loads or chosen experts from `.npy`, `.npz`, `.pt`, `.safetensors` and `.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import ConvertError, PathLike, fail, fail_shape, shown
from lplb.convert.recording import Recording, count_ids
from lplb.convert.values import IntArray, as_array, counts

# How many tokens are counted at once; it bounds the memory for their ids.
_CHUNK = 65536

Named = tuple[PathLike, str, Any]


def pick(path: PathLike, arrays: Any, key: str | None) -> tuple[str, Any]:
    """(name, array) of `key` in the dict `arrays`; of its only array if `key` is None.

    Examples
    --------
    >>> pick("a.npz", {"load": 1}, None)
    ('load', 1)
    >>> pick("a.npz", {"a": 1, "b": 2}, None)
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: a.npz: has arrays 'a', 'b', expected one, or --key with a name
    """
    names = list(arrays)
    listed = ", ".join(shown(name) for name in names[:20])
    if key is None:
        if len(names) == 1:
            return str(names[0]), arrays[names[0]]
        expected = "expected one, or --key with a name"
        fail(path, "", f"has arrays {listed}, {expected}" if names else "has no array")
    if key not in arrays:
        fail(path, "", f"has arrays {listed or 'none'}, expected {shown(key)} (--key)")
    return key, arrays[key]


def read_loads(named: Sequence[Named]) -> Recording:
    """Makes a recording from arrays of loads.

    Parameters
    ----------
    named : sequence of (path, key, array)
        The arrays in the order of time: [layers, experts] holds one step, [steps, layers, experts]
        holds several. All have the same layers and experts.
    """
    arrays: list[npt.NDArray[Any]] = []
    for path, key, value in named:
        array = as_array(path, key, value)
        if array.ndim == 2:
            array = array[np.newaxis]
        if array.ndim != 3 or 0 in array.shape[1:]:
            fail_shape(path, key, array, "[layers, experts] or [steps, layers, experts]")
        arrays.append(array)
        _, layers, experts = arrays[0].shape
        if array.shape[1:] != (layers, experts):
            fail_shape(path, key, array, f"[steps, {layers}, {experts}] as in {named[0][0]}")

    def read() -> Iterator[IntArray]:
        for (path, key, _), array in zip(named, arrays):
            for step in range(array.shape[0]):
                yield counts(path, f"{key}[{step}]", array[step])[np.newaxis]

    return Recording(named[0][0], read, 1, tuple(range(layers)), experts)


def read_ids(named: Sequence[Named], num_experts: int) -> Recording:
    """Makes a recording from arrays of chosen experts; -1 stands for no expert.

    Parameters
    ----------
    named : sequence of (path, key, array)
        The arrays in the order of time: [tokens, layers, topk] holds one step, [steps, tokens,
        layers, topk] holds several.
    num_experts : int
        How many experts the router chooses from.
    """
    arrays: list[npt.NDArray[Any]] = []
    for path, key, value in named:
        array = as_array(path, key, value)
        if array.ndim == 3:
            array = array[np.newaxis]
        if array.ndim != 4 or 0 in array.shape[2:]:
            expected = "[tokens, layers, topk] or [steps, tokens, layers, topk]"
            fail_shape(path, key, array, expected)
        if array.dtype.kind not in "iu":
            fail(path, key, f"has dtype {array.dtype}, expected integers")
        arrays.append(array)
        _, _, layers, num_topk = arrays[0].shape
        if array.shape[2:] != (layers, num_topk):
            has = f"has {array.shape[2]} layers and top {array.shape[3]}"
            fail(path, key, f"{has}, expected {layers} and top {num_topk} as in {named[0][0]}")

    def read() -> Iterator[IntArray]:
        for (path, key, _), array in zip(named, arrays):
            for step in range(array.shape[0]):
                load = np.zeros((layers, num_experts), np.int64)
                for first in range(0, array.shape[1], _CHUNK):
                    ids = array[step, first : first + _CHUNK].astype(np.int64)
                    load += count_ids(path, key, ids, num_experts)
                yield load[np.newaxis]

    return Recording(named[0][0], read, 1, tuple(range(layers)), num_experts, num_topk=num_topk)


def same_kind(kinds: Sequence[str], paths: Sequence[PathLike]) -> str:
    """The kind that all files have; an error if there are two kinds.

    >>> same_kind(["array", "array"], ["a", "b"])
    'array'
    """
    for kind, path in zip(kinds, paths):
        if kind != kinds[0]:
            raise ConvertError(f"{path}: is {kind}, expected {kinds[0]} as {paths[0]}")
    return kinds[0]
