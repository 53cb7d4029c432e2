# SPDX-License-Identifier: MIT
"""One pass over a recording: its size, and whether its sums are those of forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lplb.convert.errors import ConvertError, fail
from lplb.convert.recording import Recording
from lplb.convert.values import Counts, IntArray


@dataclass
class Survey:
    """What a recording holds, after the steps that are skipped.

    Attributes
    ----------
    num_steps, num_empty : int
        The number of steps, and of those without a token.
    used : array of int
        Indices of the layers that have a token in any step.
    whole : bool
        Whether all counts are whole numbers.
    """

    num_steps: int
    num_empty: int
    used: IntArray
    whole: bool


def chosen_steps(recording: Recording, skip: int) -> Iterator[Counts]:
    """The steps with tokens, without the first `skip` of them."""
    if skip < 0:
        raise ConvertError(f"skip_steps is {skip}, expected 0 or more")
    for step in recording.steps():
        if not step.any():
            continue
        if skip > 0:
            skip -= 1
        else:
            yield step


class _Sums:
    """Which layers do not sum to tokens x top k."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._unlike = 0
        self._first = ""
        self._topk = ""

    def add(self, step: Counts, number: int) -> None:
        total = step.sum(axis=0)
        sums = total.sum(axis=1)
        used = np.flatnonzero(sums)
        if not used.size:
            return
        layers, least, most = self._recording.layers, sums[used].min(), sums[used].max()
        if most > least:
            self._unlike += 1
            low, high = used[sums[used].argmin()], used[sums[used].argmax()]
            first = f"step {number}: {least:g} in layer {layers[low]}, {most:g} in {layers[high]}"
            self._first = self._first or first
        topk = self._recording.num_topk
        if topk is None or most > least or self._topk:
            return
        if most % topk:
            self._topk = f"step {number} sums to {most:g} in each layer, no multiple of {topk}"
        elif int(total.max()) * topk > most:
            tokens = f"an expert {total.max():g} tokens of {most / topk:g}"
            self._topk = f"step {number} gives {tokens}"

    def tell(self, num_steps: int) -> None:
        """Adds what is wrong to the recording's notes."""
        recording = self._recording
        if self._topk:
            expected = "num_topk is the number of experts of a token; is it right?"
            recording.note(f"{recording.path}: {self._topk}; {expected}")
        if not self._unlike or recording.layout_is_named:
            return
        where = f"in {self._unlike} of {num_steps} steps layers do not sum alike ({self._first})"
        text = f"{recording.path}: {where}; in a forward pass each MoE layer has tokens x top k"
        if recording.other_layouts:
            text += ". Tokens may have been dropped or averaged, or the layout is another: --layout"
            text += f" names it ({recording.other_layouts})"
        recording.note(text)


def survey(recording: Recording, skip: int = 0) -> Survey:
    """Reads all steps once; adds notes to the recording about sums that are not as expected.

    Raises
    ------
    ConvertError
        If no step has a token.
    """
    sums = _Sums(recording)
    steps = empty = 0
    used = np.zeros(len(recording.layers), bool)
    whole = True
    for number, step in enumerate(recording.steps()):
        steps += 1
        here = step.any(axis=(0, 2))
        if not here.any():
            empty += 1
            continue
        if number - empty < skip:
            continue
        used |= here
        whole &= step.dtype.kind != "f"
        sums.add(step, number)
    if steps == empty:
        fail(recording.path, "", f"has no token in any step (of {steps}), expected loads")
    if steps - empty <= skip:
        most = f"expected less than {steps - empty}, the number of steps with tokens"
        fail(recording.path, "", f"skip_steps is {skip}, {most}")
    sums.tell(steps - empty - skip)
    return Survey(steps - skip, empty, np.flatnonzero(used), whole)
