# SPDX-License-Identifier: MIT
"""Writes a recording as a trace for `lplb simulate` or as a load file for `lplb place`."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail
from lplb.convert.files import output
from lplb.convert.recording import Recording
from lplb.convert.values import IntArray


@dataclass
class Summary:
    """What was written.

    Attributes
    ----------
    num_steps : int
        How many steps the trace has.
    num_empty : int
        How many steps without a token were left out.
    layers : tuple of int
        The model's number of each layer in the trace. Layers without a token in any step are left
        out: they are not MoE layers, or were not recorded.
    num_layers_left_out : int
        How many layers were left out.
    num_logical_experts, num_topk, num_sources : int
        The values in the trace's header; `num_sources` is 0 if the trace has no `source_load`.
    numbered : bool
        False if the layers are at unequal distances. The trace then numbers them 0, 1, ...
    """

    num_steps: int
    num_empty: int
    layers: tuple[int, ...]
    num_layers_left_out: int
    num_logical_experts: int
    num_topk: int
    num_sources: int
    numbered: bool


def _total(step: IntArray) -> IntArray:
    total: IntArray = step.sum(axis=0)
    return total


def _survey(recording: Recording) -> tuple[int, int, IntArray]:
    """(number of steps, number of empty steps, indices of the layers with a token in any step)."""
    steps, empty = 0, 0
    used = np.zeros(len(recording.layers), bool)
    for step in recording.steps():
        here = step.any(axis=(0, 2))
        steps += 1
        empty += not here.any()
        used |= here
    if steps == empty:
        fail(recording.path, "", f"has no token in any step (of {steps}), expected loads")
    return steps, empty, np.flatnonzero(used)


def _numbering(layers: tuple[int, ...]) -> dict[str, int] | None:
    """The header keys that number `layers`; None if the layers are at unequal distances.

    >>> _numbering((3, 5, 7)), _numbering((3, 4, 9))
    ({'first_layer': 3, 'layer_stride': 2}, None)
    """
    strides = set(np.diff(layers).tolist())
    if len(strides) > 1:
        return None
    return {"first_layer": layers[0], "layer_stride": strides.pop() if strides else 1}


def write_trace(
    recording: Recording, path: PathLike, *, name: str | None = None, sources: bool = False
) -> Summary:
    """Write the trace that `lplb simulate --trace` replays (docs/traces.md).

    Steps without a token are left out, and so are layers without a token in any step. The recording
    is read twice; one step at a time is in memory.

    Parameters
    ----------
    path : path
        The file to write. "-" is standard output.
    name : str, optional
        The name of the trace in reports; by default the name of the file.
    sources : bool
        Write `source_load` too, the counts of each rank. A replay then says how many tokens stay on
        their rank. Each rank must have counted the tokens that it held, not those it received.

    Raises
    ------
    ConvertError
        If the recording has no token, or does not say how many experts a token has; with `sources`,
        also if it has no counts of each rank.
    OutputError
        If `path` cannot be written.
    """
    if recording.num_topk is None:
        problem = "does not tell how many experts a token is sent to"
        fail(recording.path, "", f"{problem}, expected num_topk (--num-topk)")
    if sources:
        if recording.num_sources == 1 or recording.copies > 1:
            expected = "expected files of several ranks, each with its own tokens"
            fail(recording.path, "", f"does not tell ranks apart, {expected}")
        if recording.counts_what_ranks_received():
            problem = "has what each rank received, expected what each rank held"
            sglang = "SGLang records that unless DeepEP is in low_latency mode"
            fail(recording.path, "", f"{problem} ({sglang})")
    steps, empty, used = _survey(recording)
    layers = tuple(recording.layers[i] for i in used)
    numbering = _numbering(layers)
    header: dict[str, object] = {
        "format": "lplb-trace",
        "version": 1,
        "num_layers": len(layers),
        "num_logical_experts": recording.num_logical_experts,
        "num_topk": recording.num_topk,
    }
    if name is not None:
        header["name"] = name
    if numbering is not None:
        header.update(numbering)
    if sources:
        header["num_sources"] = recording.num_sources
    with output(path) as file:
        file.write(json.dumps(header) + "\n")
        for step in recording.steps():
            if not step.any():
                continue
            kept = step[:, used]
            line = {"load": _total(kept).tolist()}
            if sources:
                line["source_load"] = kept.transpose(1, 0, 2).tolist()
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return Summary(
        steps - empty,
        empty,
        layers,
        len(recording.layers) - len(layers),
        recording.num_logical_experts,
        recording.num_topk,
        recording.num_sources if sources else 0,
        numbering is not None,
    )


def sum_load(recording: Recording, last: int | None = None) -> IntArray:
    """Tokens of each expert over all steps, or over the `last` steps that have a token.

    Returns
    -------
    array [num_layers, num_logical_experts], int64
        One row for every layer of the recording, also for layers without tokens. A placement made
        from it therefore has as many rows as the engine expects.
    """
    if last is not None and last < 1:
        raise ConvertError(f"last is {last}, expected 1 or more steps")
    steps, empty, _ = _survey(recording)
    skip = max(0, steps - empty - last) if last is not None else 0
    load = np.zeros((len(recording.layers), recording.num_logical_experts), np.int64)
    for step in itertools.islice((step for step in recording.steps() if step.any()), skip, None):
        load += _total(step)
    return load


def write_load(recording: Recording, path: PathLike, last: int | None = None) -> IntArray:
    """Write `sum_load()` as a load file for `lplb place` (docs/formats.md), and return it."""
    load = sum_load(recording, last)
    with output(path) as file:
        rows = ",\n ".join(json.dumps(row) for row in load.tolist())
        file.write(f'{{"load": [\n {rows}]}}\n')
    return load


def describe(summary: Summary, path: PathLike) -> str:
    """`summary` on one line.

    >>> describe(Summary(9, 1, (3, 4, 5), 0, 64, 6, 0, True), "a.jsonl")
    'a.jsonl: 9 steps (1 empty one left out), layers 3 to 5, 64 experts, top 6'
    """
    text = f"{os.fspath(path)}: {summary.num_steps} steps"
    if summary.num_empty:
        ones = "ones" if summary.num_empty > 1 else "one"
        text += f" ({summary.num_empty} empty {ones} left out)"
    text += f", layers {summary.layers[0]} to {summary.layers[-1]}"
    if not summary.numbered:
        text += f" with gaps, numbered 0 to {len(summary.layers) - 1}"
    if summary.num_layers_left_out:
        text += f" ({summary.num_layers_left_out} without tokens left out)"
    text += f", {summary.num_logical_experts} experts, top {summary.num_topk}"
    return text + (f", {summary.num_sources} source ranks" if summary.num_sources else "")
