# SPDX-License-Identifier: MIT
"""Reads JSON lines: a step's loads, vLLM's statistics, lplb's traces, a token's route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.choices import Ids, Options, read_choices
from lplb.convert.errors import PathLike, fail, fail_shape, shown
from lplb.convert.files import read_json_lines
from lplb.convert.recording import Recording
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, Counts, counts, integer, slot_map

LOADS, ROUTES = "JSON lines of loads", "JSON lines of routes"

_TRACE = "lplb-trace"
_IDS = ("topk_ids", "topk_idx", "expert_ids", "experts", "indices")
_LAYER = ("layer", "layer_id", "layer_idx")
_STEP = ("step", "forward_pass_id", "iteration")


def _first(value: dict[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in value), None)


def _objects(path: PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, value in read_json_lines(path):
        if not isinstance(value, dict):
            fail(path, where, f"is {shown(value)}, expected an object")
        yield where, value


def _is_meta(value: dict[str, Any]) -> bool:
    """Whether a line has no load, but says what the others hold: vLLM's `eplb_load_meta`, `"type":
    "meta"`, or a key `meta`.

    >>> _is_meta({"record_type": "eplb_load_meta"}), _is_meta({"record_type": "eplb_load_stats"})
    (True, False)
    """
    kinds = (value.get("record_type"), value.get("type"))
    return "meta" in value or any(isinstance(kind, str) and "meta" in kind for kind in kinds)


def kind_of(path: PathLike) -> str:
    """LOADS or ROUTES; an error if the first lines are of neither kind."""
    keys = "none"
    for _, value in _objects(path):
        if "load" in value or "expert_load" in value or value.get("format") == _TRACE:
            return LOADS
        if _first(value, _IDS):
            return ROUTES
        keys = ", ".join(value) or "none"
        if not _is_meta(value):
            break
    expected = "load, expert_load (vLLM), topk_ids (a token's route) or the header of an lplb-trace"
    fail(path, "", f"has lines with keys {keys}, expected {expected}")


class _Loads:
    """The header of a file of loads, and its steps."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.num_topk: int | None = None
        self.layers: tuple[int, ...] = ()
        self.experts = 0
        self.sources = 1
        header: dict[str, Any] = {}
        for where, value in _objects(path):
            header = header or value
            if value.get("format") == _TRACE or _is_meta(value):
                continue
            load = self._step(where, value)
            self.sources, num_layers, self.experts = load.shape
            header = {**value, **header}
            break
        else:
            fail(path, "", "has no line with a load")
        if "num_topk" in header:
            self.num_topk = integer(path, header, "num_topk", 1, MAX_EXPERTS)
        if "layers" in header:
            numbers = header["layers"]
            if not isinstance(numbers, list) or len(numbers) != num_layers:
                fail(path, "layers", f"is {shown(numbers)}, expected {num_layers} numbers")
            self.layers = tuple(map(int, numbers))
        else:
            most = 2**31 - 1
            first = integer(path, {"first_layer": 0, **header}, "first_layer", 0, most)
            stride = integer(path, {"layer_stride": 1, **header}, "layer_stride", 1, most)
            self.layers = tuple(range(first, first + num_layers * stride, stride))

    def _step(self, where: str, value: dict[str, Any]) -> Counts:
        """The load [sources, layers, experts] of a line."""
        if "source_load" in value:
            load = counts(self.path, f"{where}, source_load", value["source_load"])
            if load.ndim != 3:
                fail_shape(self.path, f"{where}, source_load", load, "[layers, sources, experts]")
            return load.transpose(1, 0, 2)
        key = "load" if "load" in value else "expert_load"
        if key not in value:
            fail(self.path, where, f"has keys {', '.join(value)}, expected load or expert_load")
        load = counts(self.path, f"{where}, {key}", value[key])
        if load.ndim != 2 or 0 in load.shape:
            fail_shape(self.path, f"{where}, {key}", load, "[layers, experts]")
        if "p2l_map" in value:
            slots = slot_map(self.path, f"{where}, p2l_map", value["p2l_map"])
            if slots.shape != load.shape:
                fail_shape(self.path, f"{where}, p2l_map", slots, f"{list(load.shape)} as {key}")
            logical = np.zeros((len(load), int(slots.max()) + 1), load.dtype)
            np.add.at(logical, (np.arange(len(load))[:, np.newaxis], slots), load)
            load = logical
        return load[np.newaxis]

    def steps(self) -> Iterator[Counts]:
        shape = (self.sources, len(self.layers), self.experts)
        for where, value in _objects(self.path):
            if value.get("format") == _TRACE or _is_meta(value):
                continue
            load = self._step(where, value)
            if load.shape != shape:
                fail_shape(self.path, where, load, f"{list(shape)} as the first step")
            yield load


def read_loads(paths: Sequence[PathLike]) -> Recording:
    """Makes a recording from lines that have the loads of a step each, in the order of time.

    A line has `load` [layers, experts], as lplb's traces and recorded loads have; or `expert_load`
    [layers, slots] and `p2l_map`, as vLLM's offline statistics have. Maps may change between steps.
    """
    files = [_Loads(path) for path in paths]
    one = files[0]
    for other in files[1:]:
        if (other.sources, other.layers, other.experts) != (one.sources, one.layers, one.experts):
            has = f"has {len(other.layers)} layers and {other.experts} experts"
            expected = f"expected {len(one.layers)} and {one.experts} as {one.path}"
            fail(other.path, "", f"{has}, {expected}, with the same layer numbers")

    def read() -> Iterator[Counts]:
        for file in files:
            yield from file.steps()

    return Recording(one.path, read, one.sources, one.layers, one.experts, num_topk=one.num_topk)


class _Route:
    """One line of a route log: which experts a token chose in a layer."""

    def __init__(self, path: PathLike, where: str, value: dict[str, Any]) -> None:
        key = _first(value, _IDS)
        if key is None:
            fail(path, where, f"has keys {', '.join(value)}, expected topk_ids")
        self.ids = value[key]
        good = isinstance(self.ids, list) and self.ids
        if not good or any(type(expert) is not int for expert in self.ids):
            fail(path, f"{where}, {key}", f"is {shown(self.ids)}, expected a list of expert ids")
        layer = _first(value, _LAYER)
        self.layer = integer(path, value, layer, 0, MAX_LAYERS - 1) if layer else 0
        step, token = _first(value, _STEP), value.get("token_idx")
        self.step = integer(path, value, step, 0, 2**62) if step else None
        self.token = token if isinstance(token, int) else None


def _routes(path: PathLike) -> Iterator[tuple[str, _Route]]:
    for where, value in _objects(path):
        if not _is_meta(value):
            yield where, _Route(path, where, value)


def _steps(path: PathLike) -> Iterator[dict[int, list[list[int]]]]:
    """The ids of each layer, step by step. A step ends where its number changes, or where the
    numbers of the tokens of a layer start again."""
    step: dict[int, list[list[int]]] = {}
    last: dict[int, int] = {}
    number = None
    for _, route in _routes(path):
        token = route.token
        again = token is not None and route.layer in last and token <= last[route.layer]
        if step and (route.step != number if route.step is not None else again):
            yield step
            step, last = {}, {}
        number = route.step
        if token is not None:
            last[route.layer] = token
        step.setdefault(route.layer, []).append(route.ids)
    if step:
        yield step


def read_routes(paths: Sequence[PathLike], options: Options) -> Recording:
    """Makes a recording from lines with a token's experts in one layer each.

    A line has `topk_ids`, and perhaps `layer`, `token_idx` and `step`. A first line with `"type":
    "meta"` may have `num_experts`.
    """
    layers: set[int] = set()
    width = 0
    experts = options.num_experts
    for path in paths:
        for where, value in _objects(path):
            if not _is_meta(value):
                route = _Route(path, where, value)
                layers.add(route.layer)
                width = max(width, len(route.ids))
            elif experts is None and "num_experts" in value:
                experts = integer(path, value, "num_experts", 1, MAX_EXPERTS)
    if not layers:
        fail(paths[0], "", "has no line with a route")
    numbers = tuple(sorted(layers))

    def steps() -> Iterator[tuple[PathLike, str, Ids]]:
        for path in paths:
            for number, step in enumerate(_steps(path)):
                tokens = max(map(len, step.values()))
                ids = np.full((1, tokens, len(numbers), width), -1, np.int64)
                for layer, rows in step.items():
                    for token, row in enumerate(rows):
                        ids[0, token, numbers.index(layer), : len(row)] = row
                yield path, f"step {number}", ids

    chosen = Options(experts, options.drop_shared, options.drop_repeats)
    return read_choices(paths[0], steps, numbers, 1, chosen)
