# SPDX-License-Identifier: MIT
"""Arrays of other layouts than [steps, layers, experts], and sums that are not as expected."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from convert_files import random_load, refused, trace_load

from lplb import convert

# [layers, ranks, local experts]: 24 tokens in each layer.
BY_RANK = random_load(1, 1, 6, 16, 24).reshape(6, 4, 4)
IDS = np.argsort(np.random.default_rng(1).random((40, 3, 8)), axis=2)[:, :, :2]


def opened(path: pathlib.Path, array: Any, **options: Any) -> convert.Recording:
    """A recording of `array`, which is saved as `path`."""
    np.save(path, array)
    return convert.open_recording(path, **options)


def test_what_is_surely_no_load_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npy"
    with refused("layers_ranks_local"):
        opened(path, BY_RANK)
    with refused("chosen experts .--topk, or --layout tokens_layers_topk"):
        opened(path, IDS)
    with refused("holds only 0 and 1"):
        opened(path, np.tile(np.eye(4, dtype=int), (2, 3, 2)))
    named = opened(path, BY_RANK, layout="steps_layers_experts")
    assert np.array_equal(convert.sum_load(named), BY_RANK.sum(axis=0))
    assert named.notes == []


def test_sums_that_differ_get_a_note(tmp_path: pathlib.Path) -> None:
    load = random_load(1, 5, 3, 8, 24)
    load[2, 1, 0] += 3
    recording = opened(tmp_path / "a.npy", load, num_topk=1)
    convert.write_trace(recording, tmp_path / "t.jsonl")
    assert np.array_equal(trace_load(tmp_path / "t.jsonl"), load)
    (note,) = recording.notes
    assert "in 1 of 5 steps layers do not sum alike (step 2: 24 in layer 0, 27 in 1)" in note
    assert "layers_ranks_local" in note
    named = opened(tmp_path / "a.npy", load, layout="steps_layers_experts")
    convert.sum_load(named)
    assert named.notes == []


@pytest.mark.parametrize(
    ("layout", "axes", "shape"),
    [
        ("steps_layers_experts", (0, 2, 3), (5, 3, 8)),
        ("layers_experts_steps", (2, 3, 0), (5, 3, 8)),
        ("steps_ranks_layers_experts", (0, 1, 2, 3), (5, 3, 8)),
        ("rank_layer_expert", (1, 2, 3), (1, 3, 8)),
        ("layers_ranks_experts", (2, 1, 3), (1, 3, 8)),
    ],
)
def test_any_order_of_axes(
    tmp_path: pathlib.Path, layout: str, axes: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    whole = np.random.default_rng(1).integers(0, 9, (5, 2, 3, 8))  # steps, ranks, layers, experts
    absent = tuple(axis for axis in range(4) if axis not in axes)
    kept = sorted(axes)
    array = whole.sum(axis=absent).transpose([kept.index(axis) for axis in axes])
    recording = opened(tmp_path / "a.npy", array, layout=layout)
    steps = np.stack(list(recording.steps()))
    assert recording.num_sources == (2 if "rank" in layout else 1)
    assert steps.sum(axis=1).shape == shape
    expected = whole.sum(axis=1) if 0 in axes else whole.sum(axis=(0, 1))[np.newaxis]
    assert np.array_equal(steps.sum(axis=1), expected)


def test_local_experts_become_those_of_the_model(tmp_path: pathlib.Path) -> None:
    recording = opened(tmp_path / "a.npy", BY_RANK, layout="layers_ranks_local")
    assert np.array_equal(convert.sum_load(recording), BY_RANK.reshape(6, 16))
    by_step = np.stack([BY_RANK, 2 * BY_RANK]).transpose(0, 2, 1, 3)
    recording = opened(tmp_path / "a.npy", by_step, layout="steps_ranks_layers_local")
    assert np.array_equal(convert.sum_load(recording), 3 * BY_RANK.reshape(6, 16))


def test_a_key_that_names_the_layout_is_obeyed(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    load = random_load(1, 4, 3, 8, 24)
    content = {"logical_count": torch.tensor(load), "logical_count_layout": "rank_layer_expert"}
    torch.save(content, tmp_path / "a.pt")
    recording = convert.open_recording(tmp_path / "a.pt", num_topk=2)
    assert recording.num_sources == 4
    summary = convert.write_trace(recording, tmp_path / "t.jsonl", sources=True)
    assert (summary.num_steps, summary.num_sources) == (1, 4)
    torch.save({**content, "logical_count_layout": "x"}, tmp_path / "a.pt")
    with refused("logical_count_layout is 'x', expected the array's axes"):
        convert.open_recording(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("steps_layers", "layout is 'steps_layers', expected the array's axes"),
        ("layers_layers_experts", "expected the array's axes"),
        ("layers_local", "expected the array's axes"),
        ("steps_layers_topk", "expected the array's axes"),
        ("layers_experts", r"has shape \[6, 4, 4\], expected 2 axes, layers_experts"),
    ],
)
def test_layouts_that_are_refused(tmp_path: pathlib.Path, layout: str, message: str) -> None:
    with refused(message):
        opened(tmp_path / "a.npy", BY_RANK, layout=layout)


def test_num_topk_that_does_not_fit_the_sums(tmp_path: pathlib.Path) -> None:
    load = np.full((2, 3, 8), 5)
    for num_topk, message in ((3, "sums to 40 in each layer, no multiple of 3"), (8, "")):
        recording = opened(tmp_path / "a.npy", load, num_topk=num_topk)
        convert.write_trace(recording, tmp_path / "t.jsonl")
        assert [message in note for note in recording.notes] == ([True] if message else [])
    load[:, :, 0], load[:, :, 1] = 9, 1
    recording = opened(tmp_path / "a.npy", load, num_topk=5)
    convert.sum_load(recording)
    assert "gives an expert 9 tokens of 8" in recording.notes[0]
    with refused("step 0, layer 0, expert 0 has 9 tokens, expected at most the step's 8"):
        convert.write_trace(recording, tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_placements_are_no_loads(tmp_path: pathlib.Path) -> None:
    slots = np.array([[0, 1, 2, 3, 0, 1]] * 3)  # all rows sum alike
    with refused(r"\[3, 6\] has all numbers from 0 to 3 in each row.*may be a placement"):
        opened(tmp_path / "a.npy", slots)
    assert opened(tmp_path / "a.npy", slots, layout="layers_experts").notes == []
    slots[1] = [0, 1, 2, 2, 0, 1]
    assert opened(tmp_path / "a.npy", slots).num_logical_experts == 6


def test_choices_with_padding_are_no_loads(tmp_path: pathlib.Path) -> None:
    ids = IDS.copy()
    ids[30:] = 0
    with refused("has in no row a number twice.*--topk"):
        opened(tmp_path / "a.npy", ids)
    ids[30:] = -1
    with refused(r"\[40, 3, 2\] holds -1, expected loads; it may be chosen experts"):
        opened(tmp_path / "a.npy", ids)


def test_an_expert_twice_in_a_row_of_choices(tmp_path: pathlib.Path) -> None:
    ids = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 3]], [[0, 2], [-1, -1]]])
    recording = opened(tmp_path / "a.npy", ids, topk=True, num_experts=4)
    assert "1 of 3 tokens choose an expert twice in a layer" in recording.notes[0]


def test_fractions_and_rounded_types(tmp_path: pathlib.Path) -> None:
    load = random_load(1, 1, 3, 8, 24)[0] / 8
    recording = opened(tmp_path / "a.npy", load, num_topk=1)
    assert np.allclose(convert.write_load(recording, tmp_path / "l.json"), load)
    assert "lplb solve needs whole counts" in recording.notes[-1]
    with refused("holds fractions, expected whole counts in a trace"):
        convert.write_trace(recording, tmp_path / "t.jsonl")
    big = np.full((1, 2, 4), 2.0**24, np.float32)
    assert "is float32 and has counts of 16777216" in opened(tmp_path / "b.npy", big).notes[0]
    assert opened(tmp_path / "b.npy", big - 1).notes == []
