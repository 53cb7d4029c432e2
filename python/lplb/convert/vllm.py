# SPDX-License-Identifier: MIT
"""vLLM's expert load window, saved as docs/convert.md shows: one dict a rank.

vLLM's log lines ("EPLB step: ... balancedness=...") hold a mean and a maximum a step: loads cannot
be had from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail
from lplb.convert.recording import Recording
from lplb.convert.sglang import File
from lplb.convert.values import IntArray, as_array, counts, integer, slot_map

WINDOW, ONE_PASS = "expert_load_window", "expert_load_pass"


def _window(path: PathLike, content: Any) -> Any:
    """The window [steps, layers, slots] of one rank, its oldest step first."""
    key = WINDOW if WINDOW in content else ONE_PASS
    window = as_array(path, key, content[key])
    if key == ONE_PASS and window.ndim == 2:
        window = window[np.newaxis]
    if window.ndim != 3 or 0 in window.shape:
        expected = "[steps, layers, slots]" if key == WINDOW else "[layers, slots]"
        fail(path, key, f"has shape {list(window.shape)}, expected {expected}")
    if "expert_load_window_step" in content:
        oldest = integer(path, content, "expert_load_window_step", 0, window.shape[0])
        return np.roll(window, -oldest, axis=0)
    return window


def read_window(files: Sequence[File]) -> Recording:
    """One dict a rank: `expert_load_window` [steps, L, P] or `expert_load_pass` [L, P], and
    `physical_to_logical_map` [L, P]. Steps are added up over the files by their place."""
    windows: list[Any] = []
    slots = None
    for path, content in files:
        windows.append(_window(path, content))
        if windows[-1].shape != windows[0].shape:
            fail(
                path,
                WINDOW,
                f"has shape {list(windows[-1].shape)}, expected "
                f"{list(windows[0].shape)} as in {files[0][0]}",
            )
        if "physical_to_logical_map" not in content:
            fail(path, "physical_to_logical_map", "is missing, expected [layers, slots]")
        here = slot_map(path, "physical_to_logical_map", content["physical_to_logical_map"])
        if here.shape != windows[0].shape[1:]:
            fail(
                path,
                "physical_to_logical_map",
                f"has shape {list(here.shape)}, expected {list(windows[0].shape[1:])} as the loads",
            )
        if slots is not None and not np.array_equal(slots, here):
            fail(
                path,
                "physical_to_logical_map",
                f"differs from that of {files[0][0]}, expected dumps of one moment",
            )
        slots = here

    steps, layers, counted = windows[0].shape

    def read() -> Iterator[IntArray]:
        for step in range(steps):
            yield np.stack(
                [
                    counts(path, f"{WINDOW}[{step}]", window[step])
                    for (path, _), window in zip(files, windows)
                ]
            )

    notes = (
        []
        if any("expert_load_window_step" in content for _, content in files) or steps == 1
        else [
            f"{files[0][0]}: has no expert_load_window_step, so the order of the steps is that of "
            "the circular window, not of time"
        ]
    )
    return Recording(
        files[0][0],
        read,
        len(files),
        tuple(range(layers)),
        counted,
        physical_to_logical=slots,
        notes=notes,
    )
