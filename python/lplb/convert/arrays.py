# SPDX-License-Identifier: MIT
"""Reads loads or chosen experts from `.npy`, `.npz`, `.pt`, `.safetensors` and `.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.choices import Options, read_choices
from lplb.convert.errors import ConvertError, PathLike, fail, fail_shape, shown
from lplb.convert.layout import Layout, other_layouts, refuse_other_layouts, usual_layout
from lplb.convert.recording import Recording
from lplb.convert.values import Counts, as_array, counts, rounding_note

Named = tuple[PathLike, str, Any]


def pick(path: PathLike, arrays: Any, key: str | None) -> tuple[str, Any]:
    """(name, array) of `key` in the dict `arrays`; of its only array if `key` is None.

    Examples
    --------
    >>> pick("a.npz", {"load": 1}, None)
    ('load', 1)
    >>> pick("a.npz", {"a": 1, "b": 2}, None)
    Traceback (most recent call last):
      ...
    lplb.convert.errors.ConvertError: a.npz: has arrays 'a', 'b', expected one, or --key with a name
    """
    named = {str(name): array for name, array in arrays.items()}
    listed = ", ".join(shown(name) for name in list(named)[:20])
    if key is None:
        if len(named) == 1:
            return next(iter(named.items()))
        expected = "expected one, or --key with a name"
        fail(path, "", f"has arrays {listed}, {expected}" if named else "has no array")
    if key not in named:
        fail(path, "", f"has arrays {listed or 'none'}, expected {shown(key)} (--key)")
    return key, named[key]


def by_layer(arrays: Any) -> dict[int, Any] | None:
    """The array of each layer, if `arrays` is a dict of such: under names such as `layer_3`, or a
    flat array under a number. None if it is anything else.

    >>> by_layer({1: [4, 0], 0: [1, 3]})
    {0: [1, 3], 1: [4, 0]}
    >>> by_layer({"load": [1, 3], "map": [4, 0]}) is None
    True
    """
    if not isinstance(arrays, dict):
        return None
    names = [re.fullmatch(r"(\D*)(\d{1,9})(\D*)", str(name)) for name in arrays]
    found = {int(name[2]): value for name, value in zip(names, arrays.values()) if name}
    around = {(name[1], name[3]) for name in names if name}
    if len(found) != len(arrays) or len(found) < 2 or len(around) != 1:
        return None
    words = "".join(around.pop())
    flat = all(np.ndim(value) == 1 for value in found.values())
    if "layer" not in words.lower() and (words or not flat):
        return None
    return dict(sorted(found.items()))


def stack_layers(path: PathLike, arrays: dict[int, Any]) -> Any:
    """One array of those of the layers; the layers are its last axis but one."""
    rows = [as_array(path, f"layer {layer}", value) for layer, value in arrays.items()]
    for layer, row in zip(arrays, rows):
        if row.shape != rows[0].shape or not row.ndim:
            expected = f"{list(rows[0].shape)} as layer {min(arrays)}" if row.ndim else "[experts]"
            fail_shape(path, f"layer {layer}", row, expected)
    return np.stack(rows, axis=-2)


def _arranged(named: Named, layout: Layout | None, choices: bool, axes: str) -> tuple[Any, Any]:
    """(array, its view by `layout`, or by what the number of its axes usually means).

    `axes` is what is expected of an array with another number of axes.
    """
    path, key, value = named
    array = as_array(path, key, value)
    here = layout or usual_layout(array.ndim, choices=choices)
    if here is None:
        fail_shape(path, key, array, axes)
    return array, here.arranged(path, key, array)


def read_loads(
    named: Sequence[Named], layout: Layout | None = None, *, known: bool = False
) -> Recording:
    """Makes a recording from arrays of loads.

    Parameters
    ----------
    named : sequence of (path, key, array)
        The arrays in the order of time, all with the same layers and experts.
    layout : Layout, optional
        What the axes are. If it is not given, [layers, experts] holds one step and [steps, layers,
        experts] several, and an array that is surely something else is refused.
    known : bool
        True if the file's format says that these are loads. Then nothing is refused.
    """
    views: list[Any] = []
    notes: list[str] = []
    for path, key, value in named:
        axes = "[layers, experts] or [steps, layers, experts], or --layout with its axes"
        array, view = _arranged((path, key, value), layout, False, axes)
        if 0 in view.shape[1:]:
            fail_shape(path, key, array, "at least one layer and one expert")
        if layout is None and not known:
            refuse_other_layouts(path, key, array)
        note = rounding_note(path, key, value)
        notes += [note] if note else []
        views.append(view)
        if view.shape[1:] != views[0].shape[1:]:
            rest = ", ".join(map(str, views[0].shape[1:]))
            fail_shape(path, key, view, f"[steps, {rest}] as in {named[0][0]}")
    local = layout is not None and "local" in layout.axes
    if local:
        _, layers, ranks, width = views[0].shape
        sources, experts = 1, ranks * width
    else:
        _, sources, layers, experts = views[0].shape

    def read() -> Iterator[Counts]:
        for (path, key, _), view in zip(named, views):
            for step in range(view.shape[0]):
                load = counts(path, f"{key}[{step}]" if key else f"step {step}", view[step])
                yield load.reshape(1, layers, experts) if local else load

    recording = Recording(named[0][0], read, sources, tuple(range(layers)), experts, notes=notes)
    recording.layout_is_named = layout is not None
    if not known:
        recording.other_layouts = other_layouts(as_array(*named[0]).ndim)
    return recording


def read_ids(named: Sequence[Named], layout: Layout | None, options: Options) -> Recording:
    """Makes a recording from arrays of chosen experts; -1 stands for no expert.

    Parameters
    ----------
    named : sequence of (path, key, array)
        The arrays in the order of time.
    layout : Layout, optional
        What the axes are; if not given, [tokens, layers, topk] holds one step, and [steps, tokens,
        layers, topk] several.
    """
    views: list[Any] = []
    for path, key, value in named:
        axes = "[tokens, layers, topk] or [steps, tokens, layers, topk], or --layout"
        array, view = _arranged((path, key, value), layout, True, axes)
        if 0 in view.shape[3:]:
            fail_shape(path, key, array, "at least one layer and one expert a token")
        if array.dtype.kind not in "iu":
            fail(path, key, f"has dtype {array.dtype}, expected integers")
        views.append(view)
        sources, _, layers, num_topk = views[0].shape[1:]
        if (view.shape[1], *view.shape[3:]) != (sources, layers, num_topk):
            has = f"has {view.shape[3]} layers and top {view.shape[4]}"
            fail(path, key, f"{has}, expected {layers} and top {num_topk} as in {named[0][0]}")

    def steps() -> Iterator[tuple[PathLike, str, Any]]:
        for (path, key, _), view in zip(named, views):
            for step in view:
                yield path, key, step

    recording = read_choices(named[0][0], steps, tuple(range(layers)), sources, options)
    if recording.num_topk is not None and not options.drop_shared:
        recording.num_topk = num_topk
    return recording


def same_kind(kinds: Sequence[str], paths: Sequence[PathLike]) -> str:
    """The kind that all files have; an error if there are two kinds.

    >>> same_kind(["array", "array"], ["a", "b"])
    'array'
    """
    for kind, path in zip(kinds, paths):
        if kind != kinds[0]:
            raise ConvertError(f"{path}: is {kind}, expected {kinds[0]} as {paths[0]}")
    return kinds[0]
