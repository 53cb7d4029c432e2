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
from lplb.convert.values import Counts, as_array, counts, integer, rounding_note, slot_map

# One rank's window, one rank's last pass, and the window that `save_load_window` saves, which is
# summed over the ranks.
WINDOW, ONE_PASS, GLOBAL = "expert_load_window", "expert_load_pass", "global_expert_load_window"
KEYS = (WINDOW, ONE_PASS, GLOBAL)
_MAP, _OLDEST = "physical_to_logical_map", "expert_load_window_step"


def _key(content: Any) -> str:
    return next(key for key in KEYS if key in content)


def _window(path: PathLike, content: Any) -> Any:
    """The window [steps, layers, slots] of one rank, with its oldest step first."""
    key = _key(content)
    window = as_array(path, key, content[key])
    if key != WINDOW and window.ndim == 2:
        window = window[np.newaxis]
    if window.ndim != 3 or 0 in window.shape:
        expected = "[layers, slots]" if key == ONE_PASS else "[steps, layers, slots]"
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
    notes: list[str] = []
    slots = None
    for path, content in files:
        windows.append(_window(path, content))
        if windows[-1].shape != windows[0].shape:
            expected = f"{list(windows[0].shape)} as in {files[0][0]}"
            fail_shape(path, WINDOW, windows[-1], expected)
        if note := rounding_note(path, _key(content), content[_key(content)]):
            notes.append(note)
        if _MAP not in content and GLOBAL in content:
            continue  # its counts are of logical experts
        if _MAP not in content:
            fail(path, _MAP, "is missing, expected [layers, slots]")
        here = slot_map(path, _MAP, content[_MAP])
        if GLOBAL in content and windows[0].shape[2] == int(here.max()) + 1:
            continue
        if here.shape != windows[0].shape[1:]:
            fail_shape(path, _MAP, here, f"{list(windows[0].shape[1:])} as the loads")
        if slots is not None and not np.array_equal(slots, here):
            problem = f"differs from that of {files[0][0]}, expected dumps of one moment"
            fail(path, _MAP, problem)
        slots = here

    steps, layers, counted = windows[0].shape

    def read() -> Iterator[Counts]:
        for step in range(steps):
            ranks = zip(files, windows)
            key = f"{WINDOW}[{step}]"
            yield np.stack([counts(path, key, window[step]) for (path, _), window in ranks])

    oldest = {content.get(_OLDEST) for _, content in files}
    if steps > 1 and oldest == {None}:
        order = "so the order of the steps is that of the circular window, not of time"
        notes.append(f"{files[0][0]}: has no {_OLDEST}, {order}")
    elif len(oldest) > 1:
        listed = ", ".join(str(content.get(_OLDEST)) for _, content in files)
        same = "so a step may add up tokens of different steps; sums over all steps are right"
        notes.append(f"{files[0][0]}: ranks have {_OLDEST} {listed}, {same}")
    return Recording(
        files[0][0],
        read,
        len(files),
        tuple(range(layers)),
        counted,
        physical_to_logical=slots,
        notes=notes,
    )
