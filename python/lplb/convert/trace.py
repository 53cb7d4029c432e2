# SPDX-License-Identifier: MIT
"""Writes a recording as a trace for `lplb simulate` or as a load file for `lplb place`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import numpy as np

from lplb.convert.errors import ConvertError, PathLike, fail
from lplb.convert.files import output
from lplb.convert.recording import Recording
from lplb.convert.survey import chosen_steps, survey
from lplb.convert.values import Counts, is_numbered


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
    """

    num_steps: int
    num_empty: int
    layers: tuple[int, ...]
    num_layers_left_out: int
    num_logical_experts: int
    num_topk: int
    num_sources: int


def _total(step: Counts) -> Counts:
    total: Counts = step.sum(axis=0)
    return total


def _numbering(layers: tuple[int, ...]) -> dict[str, object]:
    """The header keys that number `layers`.

    >>> _numbering((3, 5, 7)), _numbering((3, 4, 9))
    ({'first_layer': 3, 'layer_stride': 2}, {'layers': [3, 4, 9]})
    """
    strides = set(np.diff(layers).tolist())
    if len(strides) > 1:
        return {"layers": list(layers)}
    return {"first_layer": layers[0], "layer_stride": strides.pop() if strides else 1}


def _check_tokens(recording: Recording, number: int, layers: tuple[int, ...], load: Counts) -> None:
    """Refuses a step that `lplb simulate` refuses: a token goes to an expert at most once."""
    topk = recording.num_topk or 1
    tokens = -(-int(load.sum(axis=1).max()) // topk)
    if int(load.max()) > tokens:
        layer, expert = np.unravel_index(load.argmax(), load.shape)
        where = f"step {number}, layer {layers[layer]}, expert {expert}"
        problem = (
            f"has {load.max()} tokens, expected at most the step's {tokens}, of {topk} experts"
        )
        hint = "is num_topk right, is the layout another, or are tokens padding (--drop-repeats)?"
        fail(recording.path, where, f"{problem} each; {hint}")


def write_trace(
    recording: Recording,
    path: PathLike,
    *,
    name: str | None = None,
    sources: bool = False,
    skip_steps: int = 0,
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
    skip_steps : int
        How many steps with tokens are left out at the beginning.

    Raises
    ------
    ConvertError
        If the recording has no token, or has fractions, or does not say how many experts a token
        has; with `sources`, also if it has no counts of each rank.
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
    found = survey(recording, skip_steps)
    if not found.whole:
        expected = "expected whole counts in a trace; the command load takes fractions"
        fail(recording.path, "", f"holds fractions, {expected}")
    layers = tuple(recording.layers[i] for i in found.used)
    header: dict[str, object] = {
        "format": "lplb-trace",
        "version": 1,
        "num_layers": len(layers),
        "num_logical_experts": recording.num_logical_experts,
        "num_topk": recording.num_topk,
    }
    if name is not None:
        header["name"] = name
    header.update(_numbering(layers))
    if sources:
        header["num_sources"] = recording.num_sources
    with output(path) as file:
        file.write(json.dumps(header) + "\n")
        for number, step in enumerate(chosen_steps(recording, skip_steps)):
            kept = step[:, found.used]
            total = _total(kept)
            _check_tokens(recording, number, layers, total)
            line = {"load": total.tolist()}
            if sources:
                line["source_load"] = kept.transpose(1, 0, 2).tolist()
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return Summary(
        found.num_steps - found.num_empty,
        found.num_empty,
        layers,
        len(recording.layers) - len(layers),
        recording.num_logical_experts,
        recording.num_topk,
        recording.num_sources if sources else 0,
    )


def sum_load(recording: Recording, last: int | None = None, skip_steps: int = 0) -> Counts:
    """Tokens of each expert over all steps with tokens, but for the first `skip_steps`, or over the
    `last` of them.

    Returns
    -------
    array [num_layers, num_logical_experts], int64; float64 if there are fractions
        One row for every layer of the recording, also for layers without tokens. A placement made
        from it therefore has as many rows as the engine expects.
    """
    if last is not None and last < 1:
        raise ConvertError(f"last is {last}, expected 1 or more steps")
    found = survey(recording, skip_steps)
    if last is not None:
        skip_steps += max(0, found.num_steps - found.num_empty - last)
    load: Counts = np.zeros((len(recording.layers), recording.num_logical_experts), np.int64)
    for step in chosen_steps(recording, skip_steps):
        load = load + _total(step)
    return load


def write_load(
    recording: Recording, path: PathLike, last: int | None = None, skip_steps: int = 0
) -> Counts:
    """Write `sum_load()` as a load file for `lplb place` (docs/formats.md), and return it.

    The file has the layers' numbers, unless they are 0, 1, ...
    """
    load = sum_load(recording, last, skip_steps)
    if load.dtype.kind == "f":
        reader = "lplb place takes them, lplb solve needs whole counts"
        recording.note(f"{recording.path}: the load has fractions: {reader}")
    rows = ",\n ".join(json.dumps(row) for row in load.tolist())
    layers = f'"layers": {json.dumps(recording.layers)}, ' if is_numbered(recording.layers) else ""
    with output(path) as file:
        file.write(f'{{{layers}"load": [\n {rows}]}}\n')
    return load


def counted(number: int, what: str) -> str:
    """A number and its unit.

    >>> counted(1, "step"), counted(2, "step")
    ('1 step', '2 steps')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def describe(summary: Summary, path: PathLike) -> str:
    """`summary` on one line.

    >>> describe(Summary(9, 1, (3, 4, 5), 0, 64, 6, 0), "a.jsonl")
    'a.jsonl: 9 steps (1 empty one left out), layers 3 to 5, 64 experts, top 6'
    """
    text = f"{os.fspath(path)}: {counted(summary.num_steps, 'step')}"
    if summary.num_empty:
        ones = "ones" if summary.num_empty > 1 else "one"
        text += f" ({summary.num_empty} empty {ones} left out)"
    first, last = summary.layers[0], summary.layers[-1]
    text += f", layer {first}" if first == last else f", layers {first} to {last}"
    if "layers" in _numbering(summary.layers):
        text += " with gaps"
    if summary.num_layers_left_out:
        text += f" ({summary.num_layers_left_out} without tokens left out)"
    text += f", {summary.num_logical_experts} experts, top {summary.num_topk}"
    return text + (f", {summary.num_sources} source ranks" if summary.num_sources else "")
