# SPDX-License-Identifier: MIT
"""Conversions of vLLM's load window and TensorRT-LLM's statistics to traces."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from convert_files import (
    random_load,
    random_slots,
    read_trace,
    refused,
    scatter,
    trace_load,
    trtllm_statistics,
    vllm_window,
)

from lplb import convert

torch = pytest.importorskip("torch")


def test_vllm_windows_of_all_ranks_are_added_in_the_order_of_time(tmp_path: pathlib.Path) -> None:
    slots = random_slots(1, 2, 6, 8)
    load = np.stack([random_load(rank, 5, 2, 6, 30) for rank in range(2)])
    files = []
    for rank in range(2):
        window = np.roll(scatter(load[rank], slots, rank), 3, axis=0)
        files.append(vllm_window(tmp_path, rank, window, slots, expert_load_window_step=3))
    recording = convert.open_recording(files, num_topk=2)
    assert recording.notes == []
    convert.write_trace(recording, tmp_path / "trace.jsonl", sources=True)
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load.sum(axis=0))
    _, steps = read_trace(tmp_path / "trace.jsonl")
    assert np.array_equal([step["source_load"] for step in steps], load.transpose(1, 2, 0, 3))


def test_vllm_window_that_is_not_full_yet(tmp_path: pathlib.Path) -> None:
    slots = random_slots(2, 2, 6, 8)
    load = random_load(2, 3, 2, 6, 30)
    window = np.concatenate([scatter(load, slots, 0), np.zeros((4, 2, 8), np.int64)])
    path = vllm_window(tmp_path, 0, window, slots, expert_load_window_step=3)
    convert.write_trace(convert.open_recording([path], num_topk=2), tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)


def test_vllm_single_pass_and_unknown_order(tmp_path: pathlib.Path) -> None:
    slots = random_slots(3, 2, 6, 8)
    load = random_load(3, 2, 2, 6, 30)
    path = tmp_path / "pass.pt"
    counts = torch.tensor(scatter(load[0], slots, 0))
    content = {"expert_load_pass": counts, "physical_to_logical_map": torch.tensor(slots)}
    torch.save(content, path)
    recording = convert.open_recording([path], num_topk=2)
    assert np.array_equal(convert.sum_load(recording), load[0])
    path = vllm_window(tmp_path, 0, scatter(load, slots, 0), slots)
    assert "order of the steps" in convert.open_recording([path]).notes[0]


MAP, OLDEST = "physical_to_logical_map", "expert_load_window_step"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({MAP: np.zeros((2, 7), np.int64)}, r"has shape \[2, 7\], expected \[2, 8\]"),
        ({OLDEST: 9}, "expert_load_window_step is 9, expected an integer from 0 to 3"),
        ({"expert_load_window": np.zeros((3, 8), np.int64)}, r"expected \[steps, layers, slots\]"),
        ({MAP: np.full((2, 8), 1)}, "has expert 0 in no slot"),
    ],
)
def test_vllm_files_that_contradict_themselves(
    tmp_path: pathlib.Path, change: dict[str, object], message: str
) -> None:
    slots = random_slots(4, 2, 6, 8)
    content: dict[str, object] = {
        "expert_load_window": scatter(random_load(4, 3, 2, 6, 30), slots, 0),
        MAP: slots,
        **change,
    }
    for key, value in content.items():
        content[key] = torch.tensor(value) if isinstance(value, np.ndarray) else value
    path = tmp_path / "bad.pt"
    torch.save(content, path)
    with refused(message):
        convert.open_recording([path], num_topk=2)


def test_vllm_ranks_must_have_one_placement(tmp_path: pathlib.Path) -> None:
    files = []
    for rank in range(2):
        slots = random_slots(rank, 2, 6, 8)
        window = scatter(random_load(4, 3, 2, 6, 30), slots, 0)
        files.append(vllm_window(tmp_path, rank, window, slots))
    with refused("eplb_rank1.pt: .* expected dumps of one moment"):
        convert.open_recording(files)


def test_trtllm_statistics_of_all_ranks(tmp_path: pathlib.Path) -> None:
    counts = np.stack([random_load(rank, 3, 4, 8, 48) for rank in range(2)])
    folder = trtllm_statistics(tmp_path / "statistics", counts, [99, 100, 101], [3, 4, 5, 6], 2)
    recording = convert.open_recording([folder])
    assert recording.notes == []
    convert.write_trace(recording, tmp_path / "trace.jsonl", sources=True)
    header, steps = read_trace(tmp_path / "trace.jsonl")
    assert (header["num_topk"], header["first_layer"], header["num_sources"]) == (2, 3, 2)
    assert np.array_equal([step["load"] for step in steps], counts.sum(axis=0))
    assert np.array_equal([step["source_load"] for step in steps], counts.transpose(1, 2, 0, 3))


def test_trtllm_counts_slots_with_its_balancer_on(tmp_path: pathlib.Path) -> None:
    slots = random_slots(5, 2, 6, 8)
    load = random_load(5, 3, 2, 6, 30)
    counts = scatter(load, slots, 0)[np.newaxis]
    folder = trtllm_statistics(tmp_path / "statistics", counts, [7, 8, 9], [3, 4], 2)
    # The YAML in use has one layer more than the recording; layers are found by their numbers.
    more = convert.Placement(np.concatenate([random_slots(6, 1, 6, 8), slots]), layers=(2, 3, 4))
    convert.write_placement(more, tmp_path / "balancer.yaml", "trtllm")
    recording = convert.open_recording([folder], placement=tmp_path / "balancer.yaml")
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)


def test_trtllm_iterations_that_a_rank_lacks(tmp_path: pathlib.Path) -> None:
    counts = np.stack([random_load(rank, 3, 2, 8, 48) for rank in range(2)])
    folder = trtllm_statistics(tmp_path / "statistics", counts, [1, 2, 3], [0, 1], 6)
    other = trtllm_statistics(tmp_path / "other", counts, [2, 3, 4], [0, 1], 6)
    (other / "rank1.safetensors").replace(folder / "rank1.safetensors")
    (folder / "rank1_raw.safetensors").write_bytes(b"not read")
    recording = convert.open_recording([folder])
    assert recording.notes == ["2 iterations left out: not every rank has them"]
    expected = counts[0][1:].sum(axis=0) + counts[1][:2].sum(axis=0)
    assert np.array_equal(convert.sum_load(recording), expected)


TOP_2: dict[str, object] = {"num_experts_per_token": 2}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"num_experts": 8}, "num_experts_per_token is missing"),
        (TOP_2 | {"num_experts": 9}, r"has shape \[8\], expected \[9\]"),
        (TOP_2 | {"num_experts": "8"}, "num_experts is '8', expected an integer"),
        ([], "expected an object"),
    ],
)
def test_trtllm_meta_information_is_checked(
    tmp_path: pathlib.Path, meta: object, message: str
) -> None:
    counts = random_load(1, 2, 2, 8, 16)[np.newaxis]
    folder = trtllm_statistics(tmp_path / "s", counts, [1, 2], [0, 1], 2)
    (folder / "meta_info.json").write_text(json.dumps(meta))
    with refused(message):
        convert.sum_load(convert.open_recording([folder]))


def test_the_file_of_one_trtllm_rank_is_refused(tmp_path: pathlib.Path) -> None:
    folder = trtllm_statistics(tmp_path / "s", random_load(1, 1, 1, 8, 16)[np.newaxis], [1], [0], 2)
    with refused("expected their folder"):
        convert.open_recording([folder / "rank0.safetensors"])
