# SPDX-License-Identifier: MIT
"""Reads files without running code in them, and writes files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import stat
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import ConvertError, OutputError, PathLike, fail, first_line, need, shown

# Older versions can run code of the file in spite of weights_only=True (CVE-2025-32434).
_SAFE_TORCH = (2, 6)


def check_readable(path: PathLike) -> None:
    """Raises `ConvertError` if `path` is no file that can be opened and read twice."""
    try:
        # NOTE: to open a pipe would wait for its writer, perhaps for ever.
        if stat.S_ISFIFO(os.stat(path).st_mode):
            fail(path, "", "is a pipe, expected a file, because it is read more than once")
        with open(path, "rb"):
            pass
    except OSError as error:
        fail(path, "", f"cannot be read: {error.strerror}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {shown(key)} twice")
        result[key] = value
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def read_json(path: PathLike) -> Any:
    """The value in a JSON file. It must be UTF-8, without NaN and without repeated keys."""
    check_readable(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError, OSError) as error:
        fail(path, "", f"is no JSON: {first_line(error)}")


def read_json_lines(path: PathLike) -> Iterator[tuple[str, Any]]:
    """("line 1", its value) and so on for a file of JSON lines. Blank lines are skipped."""
    check_readable(path)
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    value = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
                    yield f"line {number}", value
    except (ValueError, RecursionError, OSError) as error:
        fail(path, f"line {max(number, 1)}", f"is no JSON: {first_line(error)}")


def read_yaml(path: PathLike) -> Any:
    """The value in a YAML file of plain data. Tags that create objects are refused."""
    yaml = need("yaml", "pyyaml", path)
    check_readable(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            return yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except Exception as error:  # yaml.YAMLError, and others for wrong values after tags
        fail(path, "", f"is no plain YAML: {error}")


def read_npy(path: PathLike) -> npt.NDArray[Any]:
    """The array of a `.npy` file, mapped into memory. Pickled objects are refused."""
    check_readable(path)
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except Exception as error:  # numpy raises many types for a damaged header
        reason = first_line(error)
        if "allow_pickle" in reason or "Python objects" in reason:
            reason = "it holds Python objects, or is damaged"
        fail(path, "", f"is no whole .npy file of numbers: {reason}")


def read_npz(path: PathLike) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a `.npz` file, by name. Pickled objects are refused."""
    check_readable(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy, zipfile and zlib raise many types for damage
        fail(path, "", f"is no whole .npz file of numbers: {first_line(error)}")


def read_pt(path: PathLike) -> Any:
    """What `torch.save` wrote, with tensors on the CPU and mapped into memory.

    It is loaded with `weights_only`, so it may hold tensors, numbers, strings, lists and dicts. A
    file that holds anything else is refused, and none of its code runs.
    """
    torch = need("torch", "torch", path)
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _SAFE_TORCH:
        reason = f"torch {torch.__version__}, which can run code in it (CVE-2025-32434)"
        fail(path, "", f"is not loaded by {reason}: expected torch 2.6 or newer")
    check_readable(path)
    try:
        # torch.save wrote no zip archives before version 1.6; such files are read, not mapped.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns before it refuses a file
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        problem = f"holds objects whose loading could run code, or is damaged: {first_line(error)}"
        fail(path, "", f"{problem}; expected tensors, numbers, strings, lists, dicts")
    except Exception as error:  # torch raises many types for a damaged file
        fail(path, "", f"is no whole file of torch.save: {first_line(error)}")


def open_safetensors(path: PathLike) -> Any:
    """An open safetensors file. It has `keys()`; `get_tensor(key)` returns a numpy array."""
    safetensors = need("safetensors", "safetensors", path)
    check_readable(path)
    try:
        return safetensors.safe_open(os.fspath(path), framework="numpy")
    except (OSError, safetensors.SafetensorError) as error:
        fail(path, "", f"is no whole safetensors file: {first_line(error)}")


def read_tensor(path: PathLike, file: Any, key: str) -> npt.NDArray[Any]:
    """The array `key` of `file`, which open_safetensors(path) returned."""
    try:
        array: npt.NDArray[Any] = file.get_tensor(key)
        return array
    except Exception as error:  # for types that numpy lacks, and for damage
        fail(path, key, f"cannot be read as an array of numpy: {first_line(error)}")


@contextlib.contextmanager
def output(path: PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write. It appears under its name only after all is written.

    "-" is standard output. An existing file is replaced and keeps its mode; a symbolic link stays
    a link. A device or a pipe is written to directly.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    if os.fspath(path) == "-":
        try:
            yield sys.stdout if "b" not in mode else sys.stdout.buffer
            sys.stdout.flush()
        except OSError as error:
            raise OutputError(f"standard output: {error.strerror}") from error
        return
    target = os.path.realpath(path)
    encoding = None if "b" in mode else "utf-8"
    temporary = None
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, mode, encoding=encoding) as file:
                yield file
            return
        handle, temporary = tempfile.mkstemp(
            prefix="." + os.path.basename(target) + ".", dir=os.path.dirname(target)
        )
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            permissions = os.stat(target).st_mode & 0o777
        except FileNotFoundError:
            mask = os.umask(0)
            os.umask(mask)
            permissions = 0o666 & ~mask
        os.chmod(temporary, permissions)
        os.replace(temporary, target)
        temporary = None
    except ConvertError:
        raise
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise OutputError(f"{os.fspath(path)}: cannot be written: {reason}") from error
    finally:
        if temporary is not None:
            os.unlink(temporary)
