# SPDX-License-Identifier: MIT
"""Makes recordings from what each token chose: counts the experts, finds and drops tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import PathLike, fail
from lplb.convert.recording import Recording
from lplb.convert.values import IntArray

# How many tokens are counted at once; it bounds the memory for their ids.
_CHUNK = 65536
# How many choices are counted at once. A count may be too small by 1 / _COUNTERS of all tokens.
_COUNTERS = 1000

Ids = npt.NDArray[Any]


@dataclass(frozen=True)
class Options:
    """How chosen experts are counted.

    Attributes
    ----------
    num_experts : int, optional
        How many experts the router chooses from, if the file does not say it.
    drop_shared : bool
        Ids from `num_experts` on are left out: shared experts, or the id that stands for padding.
    drop_repeats : bool
        Tokens whose experts in all layers are those of more than a tenth of the tokens are left
        out: padding or warm-up.
    """

    num_experts: int | None = None
    drop_shared: bool = False
    drop_repeats: bool = False


class Repeats:
    """The most frequent choices, in bounded memory (Misra and Gries, 1982)."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[bytes, int] = {}

    @staticmethod
    def rows(ids: IntArray) -> Any:
        """One value for each token of `ids` [tokens, layers, topk], whatever their order is."""
        flat = np.ascontiguousarray(np.sort(ids.astype(np.int32), axis=2).reshape(len(ids), -1))
        return flat.view(np.dtype((np.void, flat.shape[1] * 4)))[:, 0]

    def add(self, ids: IntArray) -> None:
        """Counts the tokens of `ids` [tokens, layers, topk]; those without any expert are none."""
        values, numbers = np.unique(self.rows(ids[(ids >= 0).any(axis=(1, 2))]), return_counts=True)
        self.total += int(numbers.sum())
        for value, number in zip(values, numbers.tolist()):
            key = value.tobytes()
            self._counts[key] = self._counts.get(key, 0) + number
        if len(self._counts) > _COUNTERS:
            less = sorted(self._counts.values(), reverse=True)[_COUNTERS]
            self._counts = {key: n - less for key, n in self._counts.items() if n > less}

    def frequent(self) -> dict[bytes, int]:
        """The choices of more than a tenth of the tokens, and of how many."""
        return {key: n for key, n in self._counts.items() if n * 10 > self.total}


def count_ids(path: PathLike, key: str, ids: IntArray, num_experts: int) -> IntArray:
    """Counts the tokens of each expert in `ids` [num_tokens, num_layers, num_topk]; skips -1.

    Returns
    -------
    array [num_layers, num_experts], int64

    Examples
    --------
    >>> count_ids("a", "", np.array([[[0, 2]], [[2, -1]]]), 3)
    array([[1, 0, 2]])
    """
    if ids.size and not (int(ids.min()) >= -1 and int(ids.max()) < num_experts):
        above = int(ids.max()) >= num_experts
        wrong = int(ids.max()) if above else int(ids.min())
        hint = "; --drop-shared leaves out shared experts and padding" if above else ""
        fail(path, key, f"holds expert {wrong}, expected -1 to {num_experts - 1}{hint}")
    layers = ids.shape[1]
    flat = ids + (np.arange(layers) * num_experts)[np.newaxis, :, np.newaxis]
    tokens = np.bincount(flat[ids >= 0], minlength=layers * num_experts)
    return tokens.astype(np.int64).reshape(layers, num_experts)


def num_twice(ids: IntArray) -> int:
    """How many tokens of `ids` [tokens, layers, topk] have an expert twice in a layer.

    >>> num_twice(np.array([[[0, 2]], [[1, 1]], [[-1, -1]]]))
    1
    """
    ordered = np.sort(ids, axis=2)
    same = (ordered[:, :, 1:] == ordered[:, :, :-1]) & (ordered[:, :, 1:] >= 0)
    return int(same.any(axis=(1, 2)).sum())


def read_choices(
    path: PathLike,
    steps: Callable[[], Iterator[tuple[PathLike, str, Ids]]],
    layers: tuple[int, ...],
    num_sources: int,
    options: Options,
) -> Recording:
    """Makes a recording from chosen experts; -1 stands for no expert.

    Parameters
    ----------
    steps : function
        Returns an iterator over (file, key, ids) of each step, ids [num_sources, tokens,
        num_layers, topk] of integers.
    """
    if options.num_experts is None:
        expected = "expected the number of experts too (--num-experts, or --placement)"
        fail(path, "", f"holds chosen experts: {expected}")
    experts: int = options.num_experts

    def chunks(ids: Ids) -> Iterator[IntArray]:
        for first in range(0, ids.shape[0], _CHUNK):
            chunk = ids[first : first + _CHUNK].astype(np.int64)
            if options.drop_shared:
                chunk[chunk >= experts] = -1
            yield chunk

    width = twice = 0
    repeats = Repeats()
    for file, key, ids in steps():
        for source in ids:
            for chunk in chunks(source):
                count_ids(file, key, chunk, experts)
                width = max(width, int((chunk >= 0).sum(axis=2).max(initial=0)))
                twice += num_twice(chunk)
                repeats.add(chunk)
    dropped = repeats.frequent()

    def read() -> Iterator[IntArray]:
        for file, key, ids in steps():
            load = np.zeros((num_sources, len(layers), experts), np.int64)
            for source, of_source in enumerate(ids):
                for chunk in chunks(of_source):
                    if options.drop_repeats and dropped:
                        rows = Repeats.rows(chunk)
                        frequent = [np.frombuffer(row, rows.dtype)[0] for row in dropped]
                        chunk = chunk[~np.isin(rows, frequent)]
                    load[source] += count_ids(file, key, chunk, experts)
            yield load

    recording = Recording(path, read, num_sources, layers, experts, num_topk=width or None)
    recording.layout_is_named = True
    if twice:
        what = f"{twice} of {repeats.total} tokens choose an expert twice in a layer"
        recording.note(f"{path}: {what}, which no router does: are they padding, or no choices?")
    if dropped:
        tokens = sum(dropped.values())
        share = f"{tokens} of {repeats.total} tokens ({tokens / repeats.total:.0%})"
        what = f"{share} choose the very same experts as one another"
        if len(dropped) > 1:
            what = f"{share} make one of {len(dropped)} choices of experts"
        done = "they are left out"
        hint = "padding or warm-up? --drop-repeats leaves them out, --skip-steps N the first steps"
        recording.note(f"{path}: {what}; {done if options.drop_repeats else hint}")
    return recording
