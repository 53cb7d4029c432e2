# SPDX-License-Identifier: MIT
"""Figures as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The single figures, those of nested mappings too, with dots between their keys. No lists."""
    out: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            out.update({f"{key}.{name}": inner for name, inner in flat(value).items()})
        elif not isinstance(value, list) and key != "name":
            out[key] = value
    return out


def frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas.DataFrame."""
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ImportError("to_frame() needs pandas, which is not installed") from None
    return pandas.DataFrame(list(rows))
