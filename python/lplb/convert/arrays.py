# SPDX-License-Identifier: MIT
"""Reads loads or chosen experts from `.npy`, `.npz`, `.pt`, `.safetensors` and `.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
    names = list(arrays)
    listed = ", ".join(shown(name) for name in names[:20])
    if key is None:
        if len(names) == 1:
            return str(names[0]), arrays[names[0]]
        expected = "expected one, or --key with a name"
        fail(path, "", f"has arrays {listed}, {expected}" if names else "has no array")
    if key not in arrays:
        fail(path, "", f"has arrays {listed or 'none'}, expected {shown(key)} (--key)")
    return key, arrays[key]


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
