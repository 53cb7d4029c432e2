# SPDX-License-Identifier: MIT
"""Arrays of one kind in, arrays of that kind out: NumPy, PyTorch, CuPy, and DLPack."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def kind_of(value: Any) -> str:
    """ "torch", "cupy" or "numpy", by the package that the array comes from."""
    package = type(value).__module__.split(".", 1)[0]
    if package in ("torch", "cupy"):
        return package
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    return "numpy"


def describe(value: Any) -> str:
    """An array as error messages show it."""
    shape = getattr(value, "shape", None)
    if shape is None:
        name = type(value).__name__
        return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
    return f"{getattr(value, 'dtype', '?')} {list(shape)}"


def _to_host(value: Any) -> Any:
    kind = kind_of(value)
    if kind == "torch":
        if value.is_floating_point() and value.element_size() < 4:
            value = (
                value.double()
            )  # NumPy has no bfloat16 and no float8; float64 holds them exactly
        return value.numpy(force=True)
    if kind == "cupy":
        return value.get()
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return value


def to_numpy(
    value: Any, name: str, dtype: Any, shape: tuple[int | str, ...] | None = None
) -> NDArray[Any]:
    """`value` as a contiguous array of `dtype` in the host's memory. Views are copied.

    If `dtype` is an integer, any integers that fit are taken; otherwise any real numbers. A name in
    `shape` takes any length. An array on a GPU is copied, which waits for it.
    """
    wanted = np.dtype(dtype)
    try:
        array = np.asarray(_to_host(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: is {describe(value)}, expected an array of {wanted}") from error
    allowed = "iu" if wanted.kind in "iu" else "iuf"
    if array.size == 0 and array.dtype.kind == "f" and not hasattr(value, "dtype"):
        array = array.astype(wanted)
    if array.dtype.kind == "b" and wanted == np.uint8:
        array = array.astype(np.uint8)
    if array.dtype.kind not in allowed:
        raise TypeError(
            f"{name}: has dtype {array.dtype}, expected "
            f"{'integers' if allowed == 'iu' else 'numbers'}"
        )
    if shape is not None and (
        array.ndim != len(shape)
        or any(
            isinstance(want, int) and got != want
            for got, want in zip(array.shape, shape, strict=True)
        )
    ):
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name}: has shape {list(array.shape)}, expected [{expected}]")
    if wanted.kind in "iu" and array.dtype != wanted and array.size:
        limits = np.iinfo(wanted)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"{name}: has {low if low < limits.min else high}, expected "
                f"{limits.min} to {limits.max}"
            )
    return np.ascontiguousarray(array, dtype=wanted)


def like(reference: Any, array: NDArray[Any]) -> Any:
    """`array` as the same kind as `reference`, on the same device."""
    kind = kind_of(reference)
    if kind == "torch":
        import torch

        return torch.from_numpy(array).to(reference.device)
    if kind == "cupy":
        return sys.modules["cupy"].asarray(array)
    return array


def check_int(value: Any, name: str, least: int | None = None) -> int:
    """`value` as an int. NumPy's integers are taken, bools and floats are not."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: is {value!r}, expected an integer")
    if least is not None and value < least:
        raise ValueError(f"{name}: is {value}, expected at least {least}")
    return int(value)


def check_text(value: Any, name: str) -> str:
    """`value`, which must be a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: is {value!r}, expected a str")
    return value


def check_number(value: Any, name: str) -> float:
    """`value` as a float. Integers and NumPy's numbers are taken, bools are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: is {value!r}, expected a number")
    return float(value)


def check_bool(value: Any, name: str) -> bool:
    """`value` as a bool. NumPy's are taken, integers are not."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: is {value!r}, expected True or False")
    return bool(value)


def check_list(value: Any, name: str) -> Sequence[Any]:
    """`value`, which must be a sequence, such as a list, but no str."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: is {describe(value)}, expected a list")
    return value
