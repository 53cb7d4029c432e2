# SPDX-License-Identifier: MIT
"""Checks arrays of a file and turns them into numpy arrays: counts, expert ids, maps of slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import PathLike, fail, fail_shape, need, shown

IntArray = npt.NDArray[np.int64]
Counts = npt.NDArray[Any]  # int64, or float64 if there are fractions


def is_numbered(layers: Sequence[int] | None) -> bool:
    """Whether `layers` are other numbers than 0, 1, ...

    >>> is_numbered((0, 1)), is_numbered((0, 2)), is_numbered(None)
    (False, True, False)
    """
    return layers is not None and list(layers) != list(range(len(layers)))


# The largest sizes in a trace and in a placement file (docs/traces.md, docs/formats.md).
MAX_LAYERS = 1024
MAX_EXPERTS = 4096
MAX_RANKS = 1024
_MAX_SUM = 2**63 - 1


def as_array(path: PathLike, key: str, value: object) -> npt.NDArray[Any]:
    """A tensor, array or nested list as a numpy array on the CPU, without a copy if possible.

    Raises
    ------
    ConvertError
        If the value is no array of numbers, for example a list with rows of unequal length.

    Examples
    --------
    >>> as_array("a.json", "load", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach"):
        torch = need("torch", "torch", path)
        tensor: Any = value.detach().cpu()
        if tensor.dtype in (torch.bfloat16, torch.float16):
            tensor = tensor.to(torch.float64)
        value = tensor.numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        fail(path, key, f"is {shown(value)}, expected rows of equal length")
    if array.dtype.kind not in "iuf" and array.size:
        typed = hasattr(value, "dtype") and array.dtype.kind != "O"
        has = f"has dtype {array.dtype}" if typed else f"holds {shown(value)}"
        fail(path, key, f"{has}, expected numbers")
    return array


# The largest integer up to which a type has all integers.
_EXACT = {"float16": 2**11, "bfloat16": 2**8, "float32": 2**24}


def rounding_note(path: PathLike, key: str, value: Any) -> str | None:
    """A note if `value`, a tensor or an array, has numbers that its type may have rounded.

    >>> rounding_note("a.npy", "load", np.array([2.0**24 + 2], np.float32))
    'a.npy: load is float32 and has counts of 16777216 and more, which are rounded'
    """
    name = str(getattr(value, "dtype", "")).split(".")[-1]
    most = _EXACT.get(name)
    if most is None or not as_array(path, key, value).size:
        return None
    if not float(as_array(path, key, value).max()) >= most:
        return None
    where = f"{path}: {key}" if key else f"{path}:"
    return f"{where} is {name} and has counts of {most} and more, which are rounded"


def whole_numbers(path: PathLike, key: str, value: object, what: str = "numbers") -> IntArray:
    """Whole numbers >= 0 of any shape, as int64; floating-point numbers must be whole.

    >>> whole_numbers("a.npy", "step", np.array([0.0, 1.0]))
    array([0, 1])
    >>> whole_numbers("a.npy", "step", [0.5])
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: a.npy: step holds 0.5, expected whole numbers
    """
    array = as_array(path, key, value)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array != np.floor(array)) | (np.abs(array) > 2**53)
        if bad.any():
            fail(path, key, f"holds {array[bad].flat[0]!s}, expected whole {what}")
    elif array.dtype == np.uint64 and array.size and int(array.max()) > _MAX_SUM:
        fail(path, key, f"holds {int(array.max())}, expected {what} below 2^63")
    if array.size and int(array.min()) < 0:
        fail(path, key, f"holds {int(array.min())}, expected {what} >= 0")
    return array.astype(np.int64, copy=False)


def counts(path: PathLike, key: str, value: object) -> Counts:
    """Token counts: numbers >= 0 whose sums over the last axis stay below 2^63.

    Parameters
    ----------
    value : tensor, array or nested list, any shape
        Integers or finite floating-point numbers.

    Returns
    -------
    array
        int64; or float64 if there are fractions, as moving averages have.

    Examples
    --------
    >>> counts("a.npy", "", np.array([[1.0, 2.0]]))
    array([[1, 2]])
    >>> counts("a.npy", "", np.array([[0.5, 2.0]]))
    array([[0.5, 2. ]])
    >>> counts("a.npy", "load", [[1, -2]])
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: a.npy: load holds -2, expected counts >= 0
    """
    array = as_array(path, key, value)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array > 2**63 / max(array.shape[-1:], default=1))
        if bad.any():
            fail(path, key, f"holds {array[bad].flat[0]!s}, expected finite counts below 2^63")
        if (array != np.floor(array)).any() or (array > 2**53).any():
            if array.min() < 0:
                fail(path, key, f"holds {array.min()!s}, expected counts >= 0")
            return array.astype(np.float64)
    array = whole_numbers(path, key, array, "counts")
    if array.size and int(array.max()) > _MAX_SUM // max(array.shape[-1:], default=1):
        for row in array.reshape(-1, array.shape[-1]):
            total = sum(row.tolist())
            if total > _MAX_SUM:
                fail(path, key, f"has a row that sums to {total}, expected less than 2^63")
    return array


def slot_map(path: PathLike, key: str, value: object) -> IntArray:
    """The logical expert in each slot, [num_layers, num_physical].

    `value` may also be flat, for one layer. Every expert from 0 to the largest id must be in a slot
    of every layer.

    Examples
    --------
    >>> slot_map("p.json", "physical_to_logical_map", [0, 1, 2, 0])
    array([[0, 1, 2, 0]])
    >>> slot_map("p.json", "physical_to_logical_map", [[0, 1, 2, 0], [0, 1, 1, 0]])
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: p.json: physical_to_logical_map[1] has expert 2 in no slot, \
expected each of 0 to 2
    """
    array = whole_numbers(path, key, value, "expert ids")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or 0 in array.shape:
        fail_shape(path, key, array, "[layers, slots]")
    return _checked_map(path, key, array)


def slot_rows(path: PathLike, key: str, rows: object) -> IntArray:
    """As `slot_map()`, but rows may have different lengths: -1 fills up those that are short.

    >>> slot_rows("p.json", "physical_to_logical", [[0, 1, 2, 0], [2, 1, 0]])
    array([[ 0,  1,  2,  0],
           [ 2,  1,  0, -1]])
    """
    lengths = (
        {len(row) for row in rows if hasattr(row, "__len__")} if isinstance(rows, list) else ()
    )
    if not isinstance(rows, list) or len(lengths) < 2:
        return slot_map(path, key, rows)
    arrays = [whole_numbers(path, f"{key}[{i}]", row, "expert ids") for i, row in enumerate(rows)]
    for i, row in enumerate(arrays):
        if row.ndim != 1 or not row.size:
            fail_shape(path, f"{key}[{i}]", row, "[slots]")
    padded = np.full((len(arrays), max(map(len, arrays))), -1, np.int64)
    for i, row in enumerate(arrays):
        padded[i, : len(row)] = row
    return _checked_map(path, key, padded)


def _checked_map(path: PathLike, key: str, array: IntArray) -> IntArray:
    if array.shape[0] > MAX_LAYERS or array.shape[1] > MAX_EXPERTS:
        fail_shape(path, key, array, f"at most {MAX_LAYERS} layers and {MAX_EXPERTS} slots")
    experts = int(array.max()) + 1
    if experts > array.shape[1]:
        fail(path, key, f"holds expert {experts - 1}, expected 0 to {array.shape[1] - 1}")
    for layer, row in enumerate(array):
        absent = np.flatnonzero(np.bincount(row[row >= 0], minlength=experts) == 0)
        if absent.size:
            problem = f"has expert {absent[0]} in no slot, expected each of 0 to {experts - 1}"
            fail(path, f"{key}[{layer}]", problem)
    return array


def integer(path: PathLike, mapping: dict[Any, Any], key: str, low: int, high: int) -> int:
    """The integer `mapping[key]`, from `low` to `high`.

    >>> integer("meta_info.json", {"num_experts": 64}, "num_experts", 1, 4096)
    64
    """
    if key not in mapping:
        fail(path, key, f"is missing, expected an integer from {low} to {high}")
    value = mapping[key]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        fail(path, key, f"is {shown(value)}, expected an integer from {low} to {high}")
    return value
