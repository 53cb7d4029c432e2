# SPDX-License-Identifier: MIT
"""What goes wrong, and how it is said: the file, the key, the value and what was expected."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

PathLike = str | os.PathLike[str]

_MAX_VALUE = 120
_MAX_MESSAGE = 1000


class ConvertError(ValueError):
    """A file, or a wish about it, that cannot be converted.

    The message is one line: the file, the key or array inside it, the value found and what was
    expected.
    """


class OutputError(OSError):
    """A file that cannot be written. The message is one line with the file and the reason."""


def shown(value: object) -> str:
    """`value` on one line, cut where it is long.

    >>> shown("two\\nlines")
    "'two\\\\nlines'"
    >>> len(shown("x" * 1000))
    120
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."


def first_line(error: BaseException) -> str:
    """What another library's exception says, at most 200 characters of its first line.

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


def need(module: str, package: str, path: PathLike) -> Any:
    """The imported `module`, which reading `path` takes.

    Raises
    ------
    ConvertError
        Where it cannot be imported: the message says which package to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        fail(path, "", f"reading it needs the package {package} ({error}): pip install {package}")
