# SPDX-License-Identifier: MIT
"""What the axes of an array are: names such as `steps_layers_experts`, and checks of guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lplb.convert.errors import ConvertError, PathLike, fail, fail_shape
from lplb.convert.values import MAX_EXPERTS

Array = npt.NDArray[Any]

# The order in which each kind of array is read.
_LOADS = ("steps", "ranks", "layers", "experts")
_LOCAL = ("steps", "layers", "ranks", "local")
_CHOICES = ("steps", "ranks", "tokens", "layers", "topk")
_AXES = ("steps", "ranks", "layers", "experts", "local", "tokens", "topk")

EXPECTED = (
    "the array's axes in their order, such as steps_layers_experts, ranks_layers_experts, "
    "layers_ranks_local or steps_tokens_layers_topk"
)


@dataclass(frozen=True)
class Layout:
    """The axes of an array, in their order.

    `ranks` are the ranks that counted. `local` are the experts or slots of one rank; rank r has
    those from r * local on. Arrays of chosen experts have `tokens` and `topk`.
    """

    axes: tuple[str, ...]

    @property
    def is_choices(self) -> bool:
        """Whether the array holds chosen experts, not loads."""
        return "topk" in self.axes

    @property
    def name(self) -> str:
        """The name that `parse_layout()` takes."""
        return "_".join(self.axes)

    def arranged(self, path: PathLike, key: str, array: Array) -> Array:
        """A view of `array` as [steps, ranks, layers, experts], [steps, layers, ranks, local] or
        [steps, ranks, tokens, layers, topk]; an axis that it lacks has length 1."""
        if array.ndim != len(self.axes):
            fail_shape(path, key, array, f"{len(self.axes)} axes, {self.name}")
        order = _CHOICES if self.is_choices else _LOCAL if "local" in self.axes else _LOADS
        view = array.transpose([self.axes.index(axis) for axis in order if axis in self.axes])
        return view[tuple(slice(None) if axis in self.axes else np.newaxis for axis in order)]


def parse_layout(text: str) -> Layout:
    """The layout of a name; singular words are taken too.

    >>> parse_layout("rank_layer_expert").name
    'ranks_layers_experts'
    >>> parse_layout("layers_layers")
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: layout is 'layers_layers', expected the array's axes in \
their order, such as steps_layers_experts, ranks_layers_experts, layers_ranks_local or \
steps_tokens_layers_topk
    """
    words = text.split("_")
    axes = tuple(word + "s" if word + "s" in _AXES else word for word in words)
    known = set(axes) <= set(_AXES) and len(set(axes)) == len(axes)
    kinds = ({"experts"}, {"ranks", "local"}, {"tokens", "topk"})
    inner = {"experts", "local", "tokens", "topk"} & set(axes)
    fits = any(kind <= set(axes) and inner <= kind for kind in kinds)
    if not (known and fits):
        raise ConvertError(f"layout is {text!r}, expected {EXPECTED}")
    return Layout(axes)


def usual_layout(ndim: int, choices: bool) -> Layout | None:
    """What an array of `ndim` axes is taken for if nothing says it; None if nothing fits."""
    axes = ("tokens", "layers", "topk") if choices else ("layers", "experts")
    more = ndim - len(axes)
    return Layout(("steps",) * more + axes) if more in (0, 1) else None


def _are_slots(rows: Array) -> bool:
    """Whether each row of `rows` holds all numbers from 0 to the largest, at most twice as many
    entries as these are, as a placement's rows do."""
    if rows.dtype.kind not in "iu" or rows.min() != 0 or not 4 <= rows.shape[1] <= MAX_EXPERTS:
        return False
    experts = int(rows.max()) + 1
    if not rows.shape[1] // 2 <= experts <= rows.shape[1]:
        return False
    return all((np.bincount(row, minlength=experts) > 0).all() for row in rows)


def refuse_other_layouts(path: PathLike, key: str, array: Array) -> None:
    """Raises an error if the array, which would be read as loads, is surely something else.

    `array` is [layers, experts] or [steps, layers, experts]. Sums that differ between the layers
    of a step are no proof, because tokens may be dropped; a recording gets a note for them.
    """
    if array.dtype.kind not in "iuf" or not array.any():
        return
    rows = array.reshape(-1, array.shape[-1])
    shape = list(array.shape)
    named = f"--layout {'steps_' * (array.ndim == 3)}layers_experts says that they are loads"
    parts = np.array_split(rows, 1 + rows.size // 2**20)
    if all(((part == 0) | (part == 1)).all() for part in parts):
        which = "a placement, which the command placement reads, or a mask"
        fail(path, key, f"{shape} holds only 0 and 1, expected loads; it may be {which}; {named}")
    if _are_slots(rows):
        problem = f"{shape} has all numbers from 0 to {rows.max()} in each row, expected loads"
        which = "a placement, which the command placement reads"
        fail(path, key, f"{problem}; it may be {which}; {named}")
    tokens = "tokens_layers_topk" if array.ndim == 3 else "tokens_topk"
    choices = f"expected loads; it may be chosen experts (--topk, or --layout {tokens})"
    if rows.dtype.kind == "i" and rows.min() == -1:
        fail(path, key, f"{shape} holds -1, {choices}")
    sums = rows.sum(axis=1, dtype=np.float64).reshape(array.shape[:-1])
    # Layers without a token are dense.
    if ((sums == sums.max(axis=-1, keepdims=True)) | (sums == 0)).all():
        return
    # A row of one number is padding.
    ids = rows[(rows != rows[:, :1]).any(axis=1)]
    may_be_ids = len(ids) >= 20 and shape[-1] <= 32 and rows.max() < 4096
    if may_be_ids and (np.diff(np.sort(ids, axis=1), axis=1) != 0).all():
        problem = f"{shape} has in no row a number twice, and its layers do not sum alike"
        fail(path, key, f"{problem}, {choices}; {named}")
    totals = sums.sum(axis=-1)
    if array.ndim == 3 and len(totals) > 1 and (totals == totals[0]).all():
        which = "[layers, ranks, local experts] (--layout layers_ranks_local)"
        problem = f"{shape} has the same sum {totals[0]:.0f} in each entry of its first axis, but"
        problem += f" not in each row ({sums[0, 0]:.0f}, {sums[0, 1]:.0f} ...)"
        fail(path, key, f"{problem}; it may be {which}; {named}")


def other_layouts(ndim: int) -> str:
    """What an array of loads whose layers do not sum alike may be instead."""
    if ndim == 2:
        return "steps_experts, experts_layers, or chosen experts, tokens_topk"
    return "layers_ranks_local, layers_ranks_experts, or chosen experts, tokens_layers_topk"
