# SPDX-License-Identifier: MIT
"""A recording of any engine: counts by step, source rank, layer and expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail, fail_shape
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, MAX_RANKS, Counts, IntArray


@dataclass
class Recording:
    """Recorded loads. The files are read again for each pass over the steps; no step is kept.

    Attributes
    ----------
    path : path
        The first file, for messages.
    read : function
        Returns an iterator over the steps, each [num_sources, num_layers, counted]: int64, or
        float64 if it has fractions.
    num_sources : int
        How many ranks have counts of their own; 1 if the counts are sums over all ranks.
    layers : tuple of int
        The model's number of each layer.
    counted : int
        How many experts were counted: physical ones if `physical_to_logical` is given, otherwise
        logical ones.
    physical_to_logical : array, optional
        The logical expert in each slot, [num_layers, counted].
    num_topk : int, optional
        The number of experts of each token, if the files say it.
    copies : int
        How often each token was counted; every count is divided by it.
    layout_is_named : bool
        True if the user or the file says what the axes are. Sums that differ between the layers of
        a step are then taken as they are.
    other_layouts : str
        What the axes may be instead, for the note about such sums; empty if the format is known.
    notes : list of str
        What a user should know about how these files were read. The functions that read all steps
        add to it.
    """

    path: PathLike
    read: Callable[[], Iterator[Counts]]
    num_sources: int
    layers: tuple[int, ...]
    counted: int
    physical_to_logical: IntArray | None = None
    num_topk: int | None = None
    copies: int = 1
    layout_is_named: bool = False
    other_layouts: str = ""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for what, value, most in (
            ("ranks", self.num_sources, MAX_RANKS),
            ("layers", len(self.layers), MAX_LAYERS),
            ("experts", self.counted, MAX_EXPERTS),
        ):
            if not 1 <= value <= most:
                fail(self.path, "", f"has {value} {what}, expected 1 to {most}")

    def note(self, text: str) -> None:
        """Adds `text` to the notes, once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def num_logical_experts(self) -> int:
        """Experts of the model."""
        if self.physical_to_logical is None:
            return self.counted
        return int(self.physical_to_logical.max()) + 1

    def map_with(self, physical_to_logical: IntArray, source: PathLike) -> None:
        """Use `physical_to_logical` [1 or num_layers, counted], read from the file `source`."""
        rows, slots = physical_to_logical.shape
        if (physical_to_logical < 0).any():
            problem = f"has layers with other numbers of slots, expected {self.counted} in each"
            fail(source, "", f"{problem}, as {self.path} has counted")
        if slots != self.counted or rows not in (1, len(self.layers)):
            expected = f"{self.counted} slots in 1 or {len(self.layers)} layers"
            problem = f"places {slots} slots in {rows} layers, expected {expected}"
            fail(source, "", f"{problem}, as {self.path} has counted")
        self.physical_to_logical = np.broadcast_to(physical_to_logical, (len(self.layers), slots))

    def steps(self) -> Iterator[Counts]:
        """The steps: tokens of each logical expert, [num_sources, num_layers, num_logical].

        If `copies` is above 1, the ranks' counts are added up, and the first axis has one entry.
        """
        flat = None
        if self.physical_to_logical is not None:
            offsets = np.arange(len(self.layers)) * self.num_logical_experts
            flat = (self.physical_to_logical + offsets[:, np.newaxis]).reshape(-1)
        shape = (self.num_sources, len(self.layers), self.counted)
        for number, step in enumerate(self.read()):
            if step.shape != shape:
                fail_shape(self.path, f"step {number}", step, f"{list(shape)}")
            if flat is not None:
                rows = len(self.layers) * self.num_logical_experts
                logical = np.zeros((rows, self.num_sources), step.dtype)
                np.add.at(logical, flat, step.reshape(self.num_sources, -1).T)
                step = logical.T.reshape(self.num_sources, len(self.layers), -1)
            yield step if self.copies == 1 else self._divided(step, number)

    def _divided(self, step: Counts, number: int) -> Counts:
        whole: Counts = step.sum(axis=0, keepdims=True)
        if whole.dtype.kind == "f":
            return whole / self.copies
        bad = np.argwhere(whole % self.copies)
        if bad.size:
            _, layer, expert = bad[0]
            where = f"step {number}, layer {self.layers[layer]}, expert {expert}"
            expected = f"expected a multiple of {self.copies} (copies)"
            fail(self.path, where, f"has {whole[0, layer, expert]}, {expected}")
        return whole // self.copies

    def counts_what_ranks_received(self) -> bool:
        """Whether every rank counted only its own slots: what it received, not what it sent."""
        if self.num_sources == 1 or self.counted % self.num_sources:
            return False
        slots = self.counted // self.num_sources
        own = np.repeat(np.eye(self.num_sources, dtype=bool), slots, axis=1)[:, np.newaxis, :]
        return not any((step * ~own).any() for step in self.read())


def common_steps(
    path: PathLike, per_rank: list[list[tuple[int, int]]], notes: list[str], what: str
) -> list[tuple[int, int]]:
    """The steps that every rank has, in the first rank's order.

    If other steps are left out, a note in `notes` says how many.

    Examples
    --------
    >>> notes = []
    >>> common_steps("a", [[(1, 0), (2, 0)], [(2, 0), (3, 0)]], notes, "forward passes")
    [(2, 0)]
    >>> notes
    ['2 forward passes left out: not every rank has them']
    """
    common = set(per_rank[0]).intersection(*per_rank[1:])
    every = set().union(*per_rank)
    if not common:
        expected = "expected those of ranks that recorded together"
        raise ConvertError(f"{path}: the files have no {what} in common, {expected}")
    if len(every) > len(common):
        notes.append(f"{len(every) - len(common)} {what} left out: not every rank has them")
    return [step for step in per_rank[0] if step in common]
