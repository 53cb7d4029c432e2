# SPDX-License-Identifier: MIT
"""Conversions of the dumps of SGLang's recorder, in all its modes, to traces and loads."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from convert_files import (
    IntArray,
    random_load,
    random_slots,
    read_trace,
    refused,
    scatter,
    sglang_records,
    sglang_stat,
    trace_load,
)

from lplb import convert

pytest.importorskip("torch")


def by_rank(seed: int, ranks: int, passes: int, layers: int, experts: int) -> IntArray:
    """Loads [ranks, passes, layers, experts]."""
    seeds = range(seed, seed + ranks)
    return np.stack([random_load(seed, passes, layers, experts, 40) for seed in seeds])


def test_stat_is_written_without_the_padding_of_its_buffer(tmp_path: pathlib.Path) -> None:
    load = random_load(1, 3, 4, 8, 60)
    padded = np.concatenate([load, np.zeros((5, 4, 8), np.int64)])
    recording = convert.open_recording([sglang_stat(tmp_path, padded)], num_topk=1)
    summary = convert.write_trace(recording, tmp_path / "trace.jsonl", name="chat")
    assert (summary.num_steps, summary.num_empty) == (3, 5)
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)
    header, _ = read_trace(tmp_path / "trace.jsonl")
    assert header == {
        "format": "lplb-trace",
        "version": 1,
        "num_layers": 4,
        "num_logical_experts": 8,
        "num_topk": 1,
        "name": "chat",
        "first_layer": 0,
        "layer_stride": 1,
    }
    assert recording.notes == []


def test_a_full_buffer_is_told(tmp_path: pathlib.Path) -> None:
    recording = convert.open_recording([sglang_stat(tmp_path, random_load(1, 3, 4, 8, 60))])
    assert len(recording.notes) == 1
    assert "all 3 steps are filled" in recording.notes[0]


def test_dense_layers_are_left_out_and_others_keep_their_numbers(tmp_path: pathlib.Path) -> None:
    load = random_load(2, 2, 6, 8, 60)
    load[:, [0, 1, 2, 4]] = 0
    recording = convert.open_recording([sglang_stat(tmp_path, load)], num_topk=2)
    summary = convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert (summary.layers, summary.num_layers_left_out) == ((3, 5), 4)
    header, _ = read_trace(tmp_path / "trace.jsonl")
    assert (header["num_layers"], header["first_layer"], header["layer_stride"]) == (2, 3, 2)
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load[:, [3, 5]])


def test_layers_at_unequal_distances_keep_their_numbers(tmp_path: pathlib.Path) -> None:
    load = random_load(2, 2, 6, 8, 60)
    load[:, [0, 3, 4]] = 0
    recording = convert.open_recording([sglang_stat(tmp_path, load)], num_topk=2)
    assert convert.write_trace(recording, tmp_path / "trace.jsonl").layers == (1, 2, 5)
    header, _ = read_trace(tmp_path / "trace.jsonl")
    assert header["layers"] == [1, 2, 5]
    assert "first_layer" not in header


def test_dumps_of_one_server_follow_each_other(tmp_path: pathlib.Path) -> None:
    load = random_load(3, 5, 2, 8, 60)
    sglang_stat(tmp_path, load[:2], moment=1.5)
    sglang_stat(tmp_path, load[2:], moment=2.5)
    convert.write_trace(convert.open_recording([tmp_path], num_topk=2), tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)


def test_per_pass_counts_go_back_to_experts_and_ranks_are_added(tmp_path: pathlib.Path) -> None:
    slots = random_slots(5, 3, 8, 12)
    load = by_rank(5, 4, 6, 3, 8)
    for rank in (2, 0, 3, 1):
        sglang_records(tmp_path, rank, range(10, 16), scatter(load[rank], slots, rank), slots)
    recording = convert.open_recording([tmp_path], num_topk=4)
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load.sum(axis=0))
    assert np.array_equal(convert.sum_load(recording), load.sum(axis=(0, 1)))
    assert np.array_equal(convert.sum_load(recording, last=2), load[:, 4:].sum(axis=(0, 1)))


def test_source_ranks_can_be_told_apart(tmp_path: pathlib.Path) -> None:
    slots = random_slots(6, 2, 8, 8)
    load = by_rank(6, 2, 3, 2, 8)
    files = [
        sglang_records(tmp_path, rank, range(3), scatter(load[rank], slots, rank), slots)
        for rank in range(2)
    ]
    recording = convert.open_recording(files, num_topk=4)
    summary = convert.write_trace(recording, tmp_path / "trace.jsonl", sources=True)
    assert summary.num_sources == 2
    header, steps = read_trace(tmp_path / "trace.jsonl")
    assert header["num_sources"] == 2
    assert np.array_equal([step["source_load"] for step in steps], load.transpose(1, 2, 0, 3))


def test_counts_of_what_ranks_received_are_no_sources(tmp_path: pathlib.Path) -> None:
    slots = random_slots(7, 2, 8, 8)
    received = scatter(random_load(7, 3, 2, 8, 60), slots, 0)
    files = []
    for rank in range(2):
        own = np.zeros_like(received)
        own[..., rank * 4 : rank * 4 + 4] = received[..., rank * 4 : rank * 4 + 4]
        files.append(sglang_records(tmp_path, rank, range(3), own, slots))
    recording = convert.open_recording(files, num_topk=2)
    with refused("what each rank received"):
        convert.write_trace(recording, tmp_path / "trace.jsonl", sources=True)
    assert convert.write_trace(recording, tmp_path / "trace.jsonl").num_sources == 0


def test_passes_that_a_rank_lacks_are_left_out_and_told(tmp_path: pathlib.Path) -> None:
    slots = random_slots(8, 1, 4, 4)
    load = by_rank(8, 2, 4, 1, 4)
    counts = [scatter(load[rank], slots, rank) for rank in range(2)]
    files = [
        sglang_records(tmp_path, 0, [1, 2, 3, 4], counts[0], slots),
        sglang_records(tmp_path, 1, [3, 4, 5, 6], counts[1], slots),
    ]
    recording = convert.open_recording(files, num_topk=2)
    assert recording.notes == ["4 forward passes left out: not every rank has them"]
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load[0][2:] + load[1][:2])


def test_a_number_that_occurs_twice_in_a_file_is_two_passes(tmp_path: pathlib.Path) -> None:
    slots = random_slots(9, 1, 4, 4)
    load = by_rank(9, 2, 3, 1, 4)
    files = [
        sglang_records(tmp_path, rank, [7, 7, 8], scatter(load[rank], slots, rank), slots)
        for rank in range(2)
    ]
    convert.write_trace(convert.open_recording(files, num_topk=2), tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load.sum(axis=0))


def test_a_file_given_twice_is_refused(tmp_path: pathlib.Path) -> None:
    slots = random_slots(9, 1, 4, 4)
    path = sglang_records(tmp_path, 0, [7, 8], scatter(by_rank(9, 1, 2, 1, 4)[0], slots, 0), slots)
    with refused(r"forward_pass_id is 7, .* each pass once"):
        convert.open_recording([path, path], num_topk=2)


def test_per_token_tells_how_many_experts_a_token_has(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(10)
    slots = random_slots(10, 2, 6, 8)
    topk = np.full((3, 2, 5, 8), -1)
    for step, layer, token in np.ndindex(3, 2, 5):
        experts = rng.permutation(6)[:3]
        topk[step, layer, token, :3] = [np.flatnonzero(slots[layer] == e)[-1] for e in experts]
    topk[0, :, 4] = -1  # a padded row
    count = np.zeros((3, 2, 8), np.int64)
    for step, layer in np.ndindex(3, 2):
        ids = topk[step, layer]
        count[step, layer] = np.bincount(ids[ids >= 0], minlength=8)
    path = sglang_records(tmp_path, 0, range(3), count, slots, topk)
    recording = convert.open_recording([path])
    assert recording.num_topk == 3
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    expected = np.zeros((3, 2, 6), np.int64)
    for step, layer, slot in np.ndindex(count.shape):
        expected[step, layer, slots[layer, slot]] += count[step, layer, slot]
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), expected)
    with refused("has 3 experts a token, expected 4"):
        convert.open_recording([path], num_topk=4)


def test_tokens_that_every_rank_counted_are_divided(tmp_path: pathlib.Path) -> None:
    slots = random_slots(11, 2, 4, 6)
    load = random_load(11, 3, 2, 4, 20)
    files = [
        sglang_records(tmp_path, rank, range(3), scatter(load, slots, 0), slots)
        for rank in range(4)
    ]
    recording = convert.open_recording(files, num_topk=2, copies=4)
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)
    recording = convert.open_recording(files, num_topk=2, copies=8)
    with refused("expected a multiple of 8"):
        convert.write_trace(recording, tmp_path / "trace.jsonl")


def test_a_missing_rank_is_told(tmp_path: pathlib.Path) -> None:
    slots = random_slots(12, 1, 4, 4)
    count = scatter(random_load(12, 2, 1, 4, 8), slots, 0)
    files = [sglang_records(tmp_path, rank, range(2), count, slots) for rank in (0, 2)]
    notes = convert.open_recording(files, num_topk=2).notes
    assert notes == ["files of ranks 0, 2: others are missing, and their tokens are not counted"]
