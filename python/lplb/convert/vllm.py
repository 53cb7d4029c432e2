# SPDX-License-Identifier: MIT
"""Reads vLLM's expert load window: one dict a rank, which the recipe in docs/convert.md saves.

vLLM's log lines ("EPLB step: ... balancedness=...") hold only the mean and the maximum of a step,
so loads cannot be read from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, fail_shape
from lplb.convert.recording import Recording
from lplb.convert.sglang import File
from lplb.convert.values import IntArray, as_array, counts, integer, slot_map

WINDOW, ONE_PASS = "expert_load_window", "expert_load_pass"
_MAP, _OLDEST = "physical_to_logical_map", "expert_load_window_step"


def _window(path: PathLike, content: Any) -> Any:
    """The window [steps, layers, slots] of one rank, with its oldest step first."""
    key = WINDOW if WINDOW in content else ONE_PASS
    window = as_array(path, key, content[key])
    if key == ONE_PASS and window.ndim == 2:
        window = window[np.newaxis]
    if window.ndim != 3 or 0 in window.shape:
        expected = "[steps, layers, slots]" if key == WINDOW else "[layers, slots]"
        fail_shape(path, key, window, expected)
    if _OLDEST in content:
        oldest = integer(path, content, _OLDEST, 0, window.shape[0])
        return np.roll(window, -oldest, axis=0)
    return window


def read_window(files: Sequence[File]) -> Recording:
    """Makes a recording from one dict a rank.

    Each holds `expert_load_window` [steps, layers, slots] or `expert_load_pass` [layers, slots],
    and `physical_to_logical_map` [layers, slots]. Step i of the recording is step i of all files.
    """
    windows: list[Any] = []
    slots = None
    for path, content in files:
        windows.append(_window(path, content))
        if windows[-1].shape != windows[0].shape:
            expected = f"{list(windows[0].shape)} as in {files[0][0]}"
            fail_shape(path, WINDOW, windows[-1], expected)
        if _MAP not in content:
            fail(path, _MAP, "is missing, expected [layers, slots]")
        here = slot_map(path, _MAP, content[_MAP])
        if here.shape != windows[0].shape[1:]:
            fail_shape(path, _MAP, here, f"{list(windows[0].shape[1:])} as the loads")
        if slots is not None and not np.array_equal(slots, here):
            problem = f"differs from that of {files[0][0]}, expected dumps of one moment"
            fail(path, _MAP, problem)
        slots = here

    steps, layers, counted = windows[0].shape

    def read() -> Iterator[IntArray]:
        for step in range(steps):
            ranks = zip(files, windows)
            key = f"{WINDOW}[{step}]"
            yield np.stack([counts(path, key, window[step]) for (path, _), window in ranks])

    notes: list[str] = []
    if steps > 1 and not any(_OLDEST in content for _, content in files):
        order = "so the order of the steps is that of the circular window, not of time"
        notes.append(f"{files[0][0]}: has no {_OLDEST}, {order}")
    return Recording(
        files[0][0],
        read,
        len(files),
        tuple(range(layers)),
        counted,
        physical_to_logical=slots,
        notes=notes,
    )
