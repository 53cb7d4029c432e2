# SPDX-License-Identifier: MIT
"""What was recorded, whoever recorded it: counts by step, source rank, layer and expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, MAX_RANKS, IntArray


@dataclass
class Recording:
    """Recorded loads, read step by step as often as asked; nothing is kept.

    Attributes
    ----------
    path : path
        The first file, for messages.
    read : function
        Gives an iterator over the steps, each [num_sources, num_layers, counted experts], int64.
    num_sources : int
        Ranks that counts are told apart by, 1 where they are a sum over all.
    layers : tuple of int
        The model's number of each layer.
    counted : int
        Experts that were counted: logical ones, or physical ones where `physical_to_logical` is.
    physical_to_logical : array, optional
        The expert in each slot, [num_layers, counted].
    num_topk : int, optional
        Experts a token is sent to, where the files tell.
    copies : int
        How often each token was counted; every count is divided by it.
    notes : list of str
        What a user should know about how these files were read.
    """

    path: PathLike
    read: Callable[[], Iterator[IntArray]]
    num_sources: int
    layers: tuple[int, ...]
    counted: int
    physical_to_logical: IntArray | None = None
    num_topk: int | None = None
    copies: int = 1
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for what, value, most in (
            ("ranks", self.num_sources, MAX_RANKS),
            ("layers", len(self.layers), MAX_LAYERS),
            ("experts", self.counted, MAX_EXPERTS),
        ):
            if not 1 <= value <= most:
                fail(self.path, "", f"has {value} {what}, expected 1 to {most}")

    @property
    def num_logical_experts(self) -> int:
        """Experts of the model."""
        if self.physical_to_logical is None:
            return self.counted
        return int(self.physical_to_logical.max()) + 1

    def map_with(self, physical_to_logical: IntArray, source: PathLike) -> None:
        """Take `physical_to_logical` [1 or num_layers, counted] of the file `source` as the map."""
        rows, slots = physical_to_logical.shape
        if slots != self.counted or rows not in (1, len(self.layers)):
            fail(
                source,
                "",
                f"places {slots} slots in {rows} layers, expected {self.counted} slots "
                f"in 1 or {len(self.layers)} layers, as {self.path} has counted",
            )
        self.physical_to_logical = np.broadcast_to(physical_to_logical, (len(self.layers), slots))

    def steps(self) -> Iterator[IntArray]:
        """The steps: tokens of each logical expert, [num_sources, num_layers, num_logical].

        With `copies` above 1 ranks cannot be told apart, and the first axis has one entry.
        """
        flat = None
        if self.physical_to_logical is not None:
            offsets = np.arange(len(self.layers)) * self.num_logical_experts
            flat = (self.physical_to_logical + offsets[:, np.newaxis]).reshape(-1)
        shape = (self.num_sources, len(self.layers), self.counted)
        for number, step in enumerate(self.read()):
            if step.shape != shape:
                fail(
                    self.path,
                    f"step {number}",
                    f"has shape {list(step.shape)}, expected {list(shape)}",
                )
            if flat is not None:
                logical = np.zeros(
                    (len(self.layers) * self.num_logical_experts, self.num_sources), np.int64
                )
                np.add.at(logical, flat, step.reshape(self.num_sources, -1).T)
                step = logical.T.reshape(self.num_sources, len(self.layers), -1)
            yield step if self.copies == 1 else self._divided(step, number)

    def _divided(self, step: IntArray, number: int) -> IntArray:
        whole: IntArray = step.sum(axis=0, keepdims=True)
        bad = np.argwhere(whole % self.copies)
        if bad.size:
            _, layer, expert = bad[0]
            fail(
                self.path,
                f"step {number}, layer {self.layers[layer]}, expert {expert}",
                f"has {whole[0, layer, expert]}, expected a multiple of {self.copies} (copies)",
            )
        return whole // self.copies

    def counts_what_ranks_received(self) -> bool:
        """Whether every rank counted its own slots alone: what reached it, not what it sent."""
        if self.num_sources == 1 or self.counted % self.num_sources:
            return False
        own = np.repeat(
            np.eye(self.num_sources, dtype=bool), self.counted // self.num_sources, axis=1
        )[:, np.newaxis, :]
        return not any((step * ~own).any() for step in self.read())


def common_steps(
    path: PathLike, per_rank: list[list[tuple[int, int]]], notes: list[str], what: str
) -> list[tuple[int, int]]:
    """Steps that every rank has, in the first rank's order; `notes` says how many others have not.

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
        raise ConvertError(
            f"{path}: the files have no {what} in common, expected those of ranks "
            "that recorded together"
        )
    if len(every) > len(common):
        notes.append(f"{len(every) - len(common)} {what} left out: not every rank has them")
    return [step for step in per_rank[0] if step in common]


def count_ids(path: PathLike, key: str, ids: IntArray, num_experts: int) -> IntArray:
    """Tokens of each expert: `ids` [num_tokens, num_layers, num_topk], -1 is skipped.

    Returns
    -------
    array [num_layers, num_experts], int64

    Examples
    --------
    >>> count_ids("a", "", np.array([[[0, 2]], [[2, -1]]]), 3)
    array([[1, 0, 2]])
    """
    if ids.size and not (int(ids.min()) >= -1 and int(ids.max()) < num_experts):
        wrong = int(ids.max()) if int(ids.max()) >= num_experts else int(ids.min())
        fail(path, key, f"holds expert {wrong}, expected -1 to {num_experts - 1}")
    layers = ids.shape[1]
    flat = ids + (np.arange(layers) * num_experts)[np.newaxis, :, np.newaxis]
    return (
        np.bincount(flat[ids >= 0], minlength=layers * num_experts)
        .astype(np.int64)
        .reshape(layers, num_experts)
    )
