# SPDX-License-Identifier: MIT
"""The errors. Each message names the file, the key, the value found and what was expected."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

PathLike = str | os.PathLike[str]

_MAX_VALUE = 120
_MAX_MESSAGE = 1000


class ConvertError(ValueError):
    """A file that cannot be converted, or an option that does not fit it.

    The message is one line with the file, the key or array in it, the value found and what was
    expected.
    """


class OutputError(OSError):
    """A file that cannot be written. The message is one line with the file and the reason."""


def shown(value: object) -> str:
    """`value` on one line, cut to 120 characters.

    >>> shown("two\\nlines")
    "'two\\\\nlines'"
    >>> len(shown("x" * 1000))
    120
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."


def first_line(error: BaseException) -> str:
    """The first line of another library's exception, cut to 200 characters.

    >>> first_line(ValueError("one\\ntwo"))
    'one'
    >>> first_line(EOFError())
    'EOFError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def fail(path: PathLike, key: str, problem: str) -> NoReturn:
    """Raise the `ConvertError` for `key` (may be empty) of the file `path`.

    >>> fail("dump.pt", "records", "is empty, expected a list of records")
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: dump.pt: records is empty, expected a list of records
    """
    where = f"{os.fspath(path)}: {key} " if key else f"{os.fspath(path)}: "
    raise ConvertError(where + " ".join(problem.split())[:_MAX_MESSAGE])


def fail_shape(path: PathLike, key: str, array: Any, expected: str) -> NoReturn:
    """Raise the `ConvertError` for an array that has a wrong shape.

    >>> import numpy as np
    >>> fail_shape("load.npy", "", np.zeros(3), "[layers, experts]")
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: load.npy: has shape [3], expected [layers, experts]
    """
    fail(path, key, f"has shape {list(array.shape)}, expected {expected}")


def need(module: str, package: str, path: PathLike) -> Any:
    """Imports `module`, which is needed to read `path`.

    Raises
    ------
    ConvertError
        If it cannot be imported. The message says which package to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        fail(path, "", f"reading it needs the package {package} ({error}): pip install {package}")
