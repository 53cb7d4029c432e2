# SPDX-License-Identifier: MIT
"""Plain arrays: loads or chosen experts in `.npy`, `.npz`, `.pt`, `.safetensors`, `.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import ConvertError, PathLike, fail, shown
from lplb.convert.recording import Recording, count_ids
from lplb.convert.values import IntArray, as_array, counts

# Tokens of a routing that are held at a time.
_CHUNK = 65536

Named = tuple[PathLike, str, Any]


def pick(path: PathLike, arrays: Any, key: str | None) -> tuple[str, Any]:
    """The array named `key` among `arrays` (a dict), or the only one; (name, array).

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
        fail(
            path,
            "",
            f"has arrays {listed}, expected one, or --key with a name" if names else "has no array",
        )
    if key not in arrays:
        fail(path, "", f"has arrays {listed or 'none'}, expected {shown(key)} (--key)")
    return key, arrays[key]


def read_loads(named: Sequence[Named]) -> Recording:
    """Loads: [layers, experts] is a step, [steps, layers, experts] are several.

    Parameters
    ----------
    named : sequence of (path, key, array)
        Files one after the other; all of the same layers and experts.
    """
    arrays: list[npt.NDArray[Any]] = []
    for path, key, value in named:
        array = as_array(path, key, value)
        if array.ndim == 2:
            array = array[np.newaxis]
        if array.ndim != 3 or 0 in array.shape[1:]:
            fail(
                path,
                key,
                f"has shape {list(array.shape)}, expected [layers, experts] or "
                "[steps, layers, experts]",
            )
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            fail(
                path,
                key,
                f"has shape {list(array.shape)}, expected [steps, "
                f"{arrays[0].shape[1]}, {arrays[0].shape[2]}] as in {named[0][0]}",
            )
        arrays.append(array)

    def read() -> Iterator[IntArray]:
        for (path, key, _), array in zip(named, arrays):
            for step in range(array.shape[0]):
                yield counts(path, f"{key}[{step}]", array[step])[np.newaxis]

    return Recording(named[0][0], read, 1, tuple(range(arrays[0].shape[1])), arrays[0].shape[2])


def read_ids(named: Sequence[Named], num_experts: int) -> Recording:
    """Chosen experts, -1 for none: [tokens, layers, topk] is a step, [steps, tokens, layers, topk]
    are several. `num_experts`: how many there are to choose from."""
    arrays: list[npt.NDArray[Any]] = []
    for path, key, value in named:
        array = as_array(path, key, value)
        if array.ndim == 3:
            array = array[np.newaxis]
        if array.ndim != 4 or 0 in array.shape[2:]:
            fail(
                path,
                key,
                f"has shape {list(array.shape)}, expected [tokens, layers, topk] or "
                "[steps, tokens, layers, topk]",
            )
        if array.dtype.kind not in "iu":
            fail(path, key, f"has dtype {array.dtype}, expected integers")
        if arrays and array.shape[2:] != arrays[0].shape[2:]:
            fail(
                path,
                key,
                f"has {array.shape[2]} layers and top {array.shape[3]}, expected "
                f"{arrays[0].shape[2]} and top {arrays[0].shape[3]} as in {named[0][0]}",
            )
        arrays.append(array)
    _, _, layers, num_topk = arrays[0].shape

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
    """The kind that all files share.

    >>> same_kind(["array", "array"], ["a", "b"])
    'array'
    """
    for kind, path in zip(kinds, paths):
        if kind != kinds[0]:
            raise ConvertError(f"{path}: is {kind}, expected {kinds[0]} as {paths[0]}")
    return kinds[0]
