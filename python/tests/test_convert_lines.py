# SPDX-License-Identifier: MIT
"""Recordings in JSON lines, CSV and Parquet: loads a step, routes a token, lplb's own files."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from convert_files import random_load, random_slots, refused, scatter, trace_load

from lplb import convert

LOAD = random_load(1, 4, 3, 8, 40)


def write_lines(path: pathlib.Path, *values: object) -> pathlib.Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_vllm_s_offline_statistics(tmp_path: pathlib.Path) -> None:
    slots = [random_slots(step, 3, 8, 10) for step in range(4)]  # the maps change
    steps = [
        {
            "record_type": "eplb_load_stats",
            "version": 1,
            "step": step,
            "expert_load": scatter(LOAD[step : step + 1], slots[step], 0)[0].tolist(),
            "p2l_map": slots[step].tolist(),
        }
        for step in range(4)
    ]
    meta = {"record_type": "eplb_load_meta", "version": 1, "num_ranks": 2, "num_layers": 3}
    for lines in ([meta, *steps], steps, [{"type": "meta"}, *steps], [{"meta": {}}, *steps]):
        path = write_lines(tmp_path / "stats.jsonl", *lines)
        assert np.array_equal(np.concatenate(list(convert.open_recording(path).steps())), LOAD)
    steps[2]["p2l_map"] = slots[2][:, :9].tolist()
    with refused("line 3, p2l_map"):
        convert.sum_load(convert.open_recording(write_lines(path, *steps)))


def test_saved_windows_of_vllm(tmp_path: pathlib.Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    slots = random_slots(1, 3, 8, 10)
    path = tmp_path / "global_expert_load_window_i0.safetensors"
    key = "global_expert_load_window"
    save_file({key: scatter(LOAD, slots, 0), "physical_to_logical_map": slots}, path)
    assert np.array_equal(convert.sum_load(convert.open_recording(path)), LOAD.sum(axis=0))
    save_file({key: LOAD[0]}, path)
    assert np.array_equal(convert.sum_load(convert.open_recording(path)), LOAD[0])
    save_file({key: LOAD, "physical_to_logical_map": slots}, path)  # of logical experts already
    assert np.array_equal(convert.sum_load(convert.open_recording(path)), LOAD.sum(axis=0))


def test_windows_of_ranks_at_different_steps_get_a_note(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    files = []
    for rank in range(2):
        content: dict[str, Any] = {"expert_load_window": torch.tensor(LOAD)}
        content["physical_to_logical_map"] = torch.arange(8).tile(3, 1)
        content["expert_load_window_step"] = 2 + rank
        files.append(tmp_path / f"rank{rank}.pt")
        torch.save(content, files[-1])
    (note,) = convert.open_recording(files).notes
    assert "ranks have expert_load_window_step 2, 3, so a step may add up" in note


def test_lplb_s_own_traces_and_loads(tmp_path: pathlib.Path) -> None:
    recorded = [
        {"step": i, "domain": "a", "num_tokens": 20, "num_topk": 2, "first_layer": 1}
        | {"load": step.tolist()}
        for i, step in enumerate(LOAD)
    ]
    path = write_lines(tmp_path / "x.load.jsonl", *recorded)
    recording = convert.open_recording(path)
    assert (recording.layers, recording.num_topk) == ((1, 2, 3), 2)
    convert.write_trace(recording, tmp_path / "t.jsonl")
    assert np.array_equal(trace_load(tmp_path / "t.jsonl"), LOAD)
    again = convert.open_recording(tmp_path / "t.jsonl")
    assert (again.layers, again.num_topk) == ((1, 2, 3), 2)
    assert np.array_equal(convert.write_load(again, tmp_path / "l.json"), LOAD.sum(axis=0))
    load = convert.sum_load(convert.open_recording(tmp_path / "l.json"))
    assert np.array_equal(load, LOAD.sum(axis=0))
    with refused("physical_to_logical is a placement, expected loads"):
        (tmp_path / "p.json").write_text('{"physical_to_logical": [0], "num_ranks": 1}')
        convert.open_recording(tmp_path / "p.json")


def route(token: int, layer: int, ids: list[int], **more: object) -> dict[str, object]:
    weights = [0.5] * len(ids)
    return {"type": "route", "req_id": "r1", "token_idx": token, "layer": layer} | {
        "topk_ids": ids,
        "topk_weights": weights,
        **more,
    }


def test_routes_a_token(tmp_path: pathlib.Path) -> None:
    meta = {"type": "meta", "layers_logged": [3, 5], "top_k": 2}
    steps = [[route(t, layer, [t, 3]) for layer in (3, 5) for t in range(2)] for _ in range(2)]
    path = write_lines(tmp_path / "r.jsonl", meta, *steps[0], *steps[1])
    recording = convert.open_recording(path, num_experts=6)
    assert (recording.layers, recording.num_topk) == ((3, 5), 2)
    assert [step[0, 0].tolist() for step in recording.steps()] == [[1, 1, 0, 2, 0, 0]] * 2
    path = write_lines(path, {**meta, "num_experts": 6}, *steps[0])
    assert convert.open_recording(path).num_logical_experts == 6
    with refused("expected the number of experts too"):
        convert.open_recording(write_lines(path, meta, *steps[0]))
    numbered = [route(0, 0, [1], step=step) for step in (0, 0, 1)]
    recording = convert.open_recording(write_lines(path, *numbered), num_experts=2)
    assert [int(step.sum()) for step in recording.steps()] == [2, 1]
    with refused("line 1, topk_ids is 'x', expected a list of expert ids"):
        convert.open_recording(write_lines(path, {"topk_ids": "x"}), num_experts=2)


def test_repeats_are_told_and_left_out(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    ids = np.argsort(rng.random((90, 2, 16)), axis=2)[:, :, :4]
    padded = np.concatenate([np.tile([[0, 1, 2, 3]], (30, 2, 1)), ids, ids[:1][:, :, ::-1]])
    np.save(tmp_path / "i.npy", padded)
    options: dict[str, Any] = {"topk": True, "num_experts": 16}
    recording = convert.open_recording(tmp_path / "i.npy", **options)
    (note,) = recording.notes
    assert "30 of 121 tokens (25%) choose the very same experts as one another" in note
    dropped = convert.open_recording(tmp_path / "i.npy", drop_repeats=True, **options)
    assert "they are left out" in dropped.notes[0]
    less = convert.sum_load(recording) - convert.sum_load(dropped)
    assert less.tolist() == [[30] * 4 + [0] * 12] * 2
    np.save(tmp_path / "i.npy", ids)
    assert convert.open_recording(tmp_path / "i.npy", **options).notes == []


def test_shared_experts_are_left_out(tmp_path: pathlib.Path) -> None:
    ids = np.array([[[0, 2, 4]], [[1, 2, 5]]])
    np.save(tmp_path / "i.npy", ids)
    with refused("holds expert 5, expected -1 to 3; --drop-shared leaves out shared experts"):
        convert.open_recording(tmp_path / "i.npy", topk=True, num_experts=4)
    recording = convert.open_recording(
        tmp_path / "i.npy", topk=True, num_experts=4, drop_shared=True
    )
    assert recording.num_topk == 2
    assert convert.sum_load(recording).tolist() == [[1, 1, 2, 0]]


def test_steps_are_skipped(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([np.zeros_like(LOAD[:1]), LOAD]))
    recording = convert.open_recording(tmp_path / "a.npy", num_topk=1)
    summary = convert.write_trace(recording, tmp_path / "t.jsonl", skip_steps=3)
    assert (summary.num_steps, summary.num_empty) == (1, 1)
    assert np.array_equal(trace_load(tmp_path / "t.jsonl"), LOAD[3:])
    assert np.array_equal(convert.sum_load(recording, 9, 2), LOAD[2:].sum(axis=0))
    with refused("skip_steps is 4, expected less than 4"):
        convert.sum_load(recording, skip_steps=4)


def csv_of(path: pathlib.Path, load: Any, first_layer: int = 3) -> pathlib.Path:
    rows = [
        f"{layer},{e},{n}\n"
        for layer, row in enumerate(load, first_layer)
        for e, n in enumerate(row)
        if n
    ]
    path.write_text("\ufefflayer_id,expert_id,count\n" + "".join(rows))
    return path


def test_csv_files_of_the_ranks_are_added_up(tmp_path: pathlib.Path) -> None:
    files = [csv_of(tmp_path / f"rank{rank}.csv", LOAD[rank]) for rank in range(2)]
    recording = convert.open_recording(files, num_experts=8)
    assert (recording.layers, recording.num_sources) == ((3, 4, 5), 2)
    assert np.array_equal(convert.sum_load(recording), LOAD[:2].sum(axis=0))
    (tmp_path / "s.csv").write_text("step,layer,expert,load\n0,0,0,2\n0,0,1,0.5\n4,0,1,3\n")
    steps = [step.tolist() for step in convert.open_recording(tmp_path / "s.csv").steps()]
    assert steps == [[[[2.0, 0.5]]], [[[0.0, 3.0]]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has columns a, b, expected layer, expert and load"),
        ("", "has columns none"),
        ("layer,expert,load\n", "has no rows"),
        ("layer,expert,load\n0,0,x\n", "line 2, load is 'x', expected a number"),
        ("layer,expert,load\n0,0\n", "line 2 has 2 values, expected 3"),
        ("layer,expert,load\n0,0.5,1\n", "expert holds 0.5, expected whole"),
        ("layer,expert,load\n0,0,-1\n", "load holds -1, expected counts >= 0"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: pathlib.Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with refused(f"a.csv: {message}"):
        convert.open_recording(tmp_path / "a.csv")


def test_parquet_tables_of_choices(tmp_path: pathlib.Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = np.argsort(np.random.default_rng(1).random((20, 2, 8)), axis=2)[:, :, :2]
    files = []
    for layer in range(2):
        indices = pa.array(ids[:, layer].tolist(), pa.list_(pa.int16()))
        files.append(tmp_path / f"layer_0{layer + 2}.parquet")
        parquet.write_table(pa.table({"scores": [[0.5, 0.3]] * 20, "indices": indices}), files[-1])
    for topk in (True, False):
        recording = convert.open_recording(files[::-1], num_experts=8, topk=topk)
        assert (recording.layers, recording.num_topk) == ((2, 3), 2)
        expected = [np.bincount(ids[:, layer].ravel(), minlength=8) for layer in range(2)]
        assert np.array_equal(convert.sum_load(recording), expected)
    with refused("is layer 2 as .*layer_02.parquet, expected names with the layer's number"):
        convert.open_recording([files[0], files[0]], num_experts=8)


def test_a_bom_is_read_and_a_pipe_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[[[1, 2]]]")
    assert convert.sum_load(convert.open_recording(tmp_path / "a.json")).tolist() == [[1, 2]]
    os.mkfifo(tmp_path / "pipe.json")
    with refused("pipe.json: is a pipe, expected a file"):
        convert.open_recording(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"a": 1}], "has lines with keys a, expected load"),
        ([3], "line 1 is 3, expected an object"),
        ([{"load": [[1, 2]]}, {"load": [[1]]}], "line 2 has shape"),
        ([{"load": [1, 2]}], r"line 1, load has shape \[2\], expected \[layers, experts\]"),
        ([{"load": [[1]]}, {"x": 1}], "line 2 has keys x, expected load"),
    ],
)
def test_lines_that_are_refused(tmp_path: pathlib.Path, lines: list[Any], message: str) -> None:
    path = write_lines(tmp_path / "a.jsonl", *lines)
    with refused(f"a.jsonl: {message}"):
        convert.sum_load(convert.open_recording(path))
    path.write_text('{"load": [[1]]}\n{')
    with refused("a.jsonl: line 2 is no JSON"):
        convert.sum_load(convert.open_recording(path))
