# SPDX-License-Identifier: MIT
"""Conversions of plain arrays and tables to traces."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from convert_files import (
    IntArray,
    random_load,
    random_slots,
    read_trace,
    refused,
    scatter,
    trace_load,
)

from lplb import convert

LOAD = random_load(1, 4, 3, 8, 40)
OF_8 = {"topk": True, "num_experts": 8}  # options for arrays of chosen experts


def total(*paths: pathlib.Path, **options: Any) -> IntArray:
    """The tokens of each expert in all steps of a recording."""
    return convert.sum_load(convert.open_recording(paths, **options))


def write(path: pathlib.Path, array: IntArray) -> pathlib.Path:
    """`array` in the kind of file that the suffix names."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, load=array)
    elif path.suffix == ".json":
        path.write_text(json.dumps(array.tolist()))
    elif path.suffix == ".pt":
        torch = pytest.importorskip("torch")
        torch.save(torch.tensor(array), path)
    else:
        pytest.importorskip("safetensors.numpy").save_file({"load": array}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json", ".pt", ".safetensors"])
def test_loads_in_any_kind_of_file(tmp_path: pathlib.Path, suffix: str) -> None:
    path = write(tmp_path / f"load{suffix}", LOAD)
    recording = convert.open_recording([path], num_topk=2)
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), LOAD)
    assert np.array_equal(total(write(tmp_path / f"one{suffix}", LOAD[0])), LOAD[0])


NUMBERS = ["int8", "uint8", "int16", "int32", "uint64", "float32", "float64"]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_loads_of_any_number_type(tmp_path: pathlib.Path, dtype: str) -> None:
    np.save(tmp_path / "load.npy", LOAD.astype(dtype))
    assert np.array_equal(total(tmp_path / "load.npy"), LOAD.sum(axis=0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_torch_types_that_numpy_lacks(tmp_path: pathlib.Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.tensor(LOAD).to(getattr(torch, dtype)), tmp_path / "load.pt")
    assert np.array_equal(total(tmp_path / "load.pt"), LOAD.sum(axis=0))


def test_an_array_among_several_is_named(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", first=LOAD[:1], second=LOAD[1:])
    assert np.array_equal(total(tmp_path / "a.npz", key="second"), LOAD[1:].sum(axis=0))
    with refused("'first', 'second', expected one, or --key"):
        convert.open_recording([tmp_path / "a.npz"])
    with refused(r"expected 'third' \(--key\)"):
        convert.open_recording([tmp_path / "a.npz"], key="third")


def test_slots_are_mapped_by_a_placement(tmp_path: pathlib.Path) -> None:
    slots = random_slots(2, 3, 8, 12)
    np.save(tmp_path / "count.npy", scatter(LOAD, slots, 0))
    np.save(tmp_path / "slots.npy", slots)
    recording = convert.open_recording([tmp_path / "count.npy"], placement=tmp_path / "slots.npy")
    assert recording.num_logical_experts == 8
    assert np.array_equal(convert.sum_load(recording), LOAD.sum(axis=0))
    np.save(tmp_path / "slots.npy", slots[:2])
    with refused("12 slots in 2 layers, expected 12 slots in 1 or 3"):
        convert.open_recording([tmp_path / "count.npy"], placement=tmp_path / "slots.npy")


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint8"])
def test_chosen_experts_are_counted(tmp_path: pathlib.Path, dtype: str) -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 8, (2, 70000, 3, 2))
    if dtype != "uint8":
        ids[0, ::7] = -1
    np.save(tmp_path / "ids.npy", ids.astype(dtype))
    recording = convert.open_recording([tmp_path / "ids.npy"], topk=True, num_experts=8)
    assert recording.num_topk == 2
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    expected = [
        [np.bincount(step[:, layer][step[:, layer] >= 0], minlength=8) for layer in range(3)]
        for step in ids
    ]
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), expected)


def test_chosen_slots_are_mapped_by_a_placement(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([[[0, 3]], [[2, 1]]]))
    np.save(tmp_path / "slots.npy", np.array([0, 1, 2, 0]))
    load = total(tmp_path / "ids.npy", topk=True, placement=tmp_path / "slots.npy")
    assert load.tolist() == [[2, 1, 1]]


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("with_steps", [False, True])
def test_tables(
    tmp_path: pathlib.Path, lists: bool, with_steps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("lplb.convert.parquet.ROWS", 5)  # so that steps span batches of rows
    load = LOAD if with_steps else LOAD[:1]
    steps, layers, experts = load.shape
    columns: dict[str, Any]
    if lists:
        columns = {
            "step": np.repeat(np.arange(steps), layers),
            "layer": [3, 4, 5] * steps,
            "load": load.reshape(-1, experts).tolist(),
        }
    else:
        step, layer, expert = np.indices(load.shape).reshape(3, -1)
        columns = {"step": 10 * step, "layer": 3 + layer, "expert": expert, "load": load.ravel()}
    if not with_steps:
        del columns["step"]
    parquet.write_table(pa.table(columns), tmp_path / "load.parquet")
    recording = convert.open_recording([tmp_path / "load.parquet"], num_topk=2)
    convert.write_trace(recording, tmp_path / "trace.jsonl")
    assert np.array_equal(trace_load(tmp_path / "trace.jsonl"), load)
    assert read_trace(tmp_path / "trace.jsonl")[0]["first_layer"] == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"layer": [0], "tokens": [1]}, "has columns layer, tokens, expected layer and load"),
        ({"layer": [0, 0], "load": [1, 1], "expert": [9, 3]}, "expected 0 to 3 .num_experts"),
        ({"layer": [0], "load": [1]}, "has no column expert"),
        ({"step": [1, 0], "layer": [0, 0], "expert": [0, 0], "load": [1, 1]}, "step goes back"),
        ({"layer": [0], "expert": [4096], "load": [1]}, "expert holds 4096, expected 0 to 4095"),
        ({"layer": [0], "expert": [0], "load": [-1]}, "load holds -1"),
        ({"layer": [0], "expert": [0], "load": [None]}, "load has an empty value"),
        ({"layer": [0], "expert": ["a"], "load": [1]}, "expert holds .* expected numbers"),
        ({"layer": [], "expert": [], "load": []}, "has no rows"),
    ],
)
def test_tables_that_are_refused(
    tmp_path: pathlib.Path, columns: dict[str, list[Any]], message: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    arrays = {
        name: pa.array(values, pa.string() if values == ["a"] else pa.int64())
        for name, values in columns.items()
    }
    parquet.write_table(pa.table(arrays), tmp_path / "load.parquet")
    with refused(message):
        total(tmp_path / "load.parquet", num_experts=4 if "num_experts" in message else None)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros(4), {}, r"has shape \[4\], expected \[layers, experts\]"),
        (np.array([[np.nan, 2]]), {}, r"holds nan, expected finite counts"),
        (np.array([[0.5, -1]]), {}, r"holds -1.0, expected counts >= 0"),
        (np.array([[True, False]]), {}, r"has dtype bool, expected numbers"),
        (np.array([["a", "b"]]), {}, r"has dtype <U1, expected numbers"),
        (np.array([[2**62, 2**62]]), {}, f"row that sums to {2**63}, expected less than 2"),
        (np.array([[2**63, 0]], np.uint64), {}, f"holds {2**63}, expected counts below 2"),
        (np.zeros((2, 5000)), {}, "has 5000 experts, expected 1 to 4096"),
        (np.zeros((2, 4)), {"num_topk": 5}, "num_topk is 5, expected 1 to 4"),
        (np.array([[[0, 8]]]), OF_8, "holds expert 8, expected -1 to 7"),
        (np.array([[[0, -2]]]), OF_8, "holds expert -2, expected -1 to 7"),
        (np.array([[[0.0]]]), OF_8, "has dtype float64, expected integers"),
        (np.array([[[0, 1]]]), {"topk": True}, "expected the number of experts too"),
        (np.zeros((1, 1, 4)), {"num_topk": 2}, r"has no token in any step \(of 1\)"),
    ],
)
def test_arrays_that_are_refused(
    tmp_path: pathlib.Path, array: IntArray, options: dict[str, Any], message: str
) -> None:
    np.save(tmp_path / "bad.npy", array)
    with refused(message):
        total(tmp_path / "bad.npy", **options)


def test_files_of_one_recording_have_one_shape_and_kind(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", LOAD)
    np.save(tmp_path / "b.npy", LOAD[:, :2])
    with refused(r"b.npy: .* \[4, 1, 2, 8\], expected \[steps, 1, 3, 8\]"):
        convert.open_recording([tmp_path / "a.npy", tmp_path / "b.npy"])
    (tmp_path / "c.json").write_text(json.dumps({"logical_count": LOAD.tolist()}))
    with refused("c.json: is an SGLang dump .* expected an array"):
        convert.open_recording([tmp_path / "a.npy", tmp_path / "c.json"])
    assert np.array_equal(total(tmp_path / "c.json"), LOAD.sum(axis=0))


def test_only_the_last_steps(tmp_path: pathlib.Path) -> None:
    with_empty = np.concatenate([LOAD, np.zeros_like(LOAD[:1])])
    np.save(tmp_path / "a.npy", with_empty)
    recording = convert.open_recording(tmp_path / "a.npy")
    for last in (1, 3, 4, 99):
        assert np.array_equal(convert.sum_load(recording, last), LOAD[-last:].sum(axis=0))
    with refused("last is 0, expected 1 or more steps"):
        convert.sum_load(recording, 0)


def test_a_trace_needs_topk(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "a.npy", LOAD)
    with refused("expected num_topk"):
        convert.write_trace(convert.open_recording([tmp_path / "a.npy"]), tmp_path / "trace.jsonl")
    assert not (tmp_path / "trace.jsonl").exists()


@pytest.mark.parametrize("suffix", [".npz", ".json", ".pt"])
def test_an_array_for_each_layer(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"load{suffix}"
    layers: dict[str, Any] = {f"layer_{number}": LOAD[:, i] for i, number in enumerate((3, 10, 4))}
    if suffix == ".npz":
        np.savez(path, **layers)
    elif suffix == ".json":
        path.write_text(json.dumps({name: array.tolist() for name, array in layers.items()}))
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.tensor(array) for name, array in layers.items()}, path)
    recording = convert.open_recording(path, num_topk=2)
    assert recording.layers == (3, 4, 10)
    assert np.array_equal([step[0] for step in recording.steps()], LOAD[:, [0, 2, 1]])
    assert np.array_equal(
        total(path, key="layer_4", layout="steps_experts"), LOAD[:, 2].sum(0)[None]
    )


def test_an_array_for_each_layer_under_numbers(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "load.pt"
    torch.save({0: torch.tensor(LOAD[0, 0]), 2: torch.tensor(LOAD[0, 1])}, path)
    assert convert.open_recording(path).layers == (0, 2)
    assert np.array_equal(total(path), LOAD[0, :2])
    assert np.array_equal(total(path, key="2", layout="experts"), LOAD[0, 1:2])
    # These may be steps or layers.
    torch.save({0: torch.tensor(LOAD[0]), 2: torch.tensor(LOAD[1])}, path)
    with refused("has arrays '0', '2', expected one, or --key"):
        convert.open_recording(path)
    torch.save({"layer.0": torch.ones(4), "layer.1": torch.ones(5)}, path)
    with refused(r"layer 1 has shape \[5\], expected \[4\] as layer 0"):
        convert.open_recording(path)
    np.savez(tmp_path / "a.npz", layer_0=LOAD[0, 0], layer_1=LOAD[0, 0])
    np.savez(tmp_path / "b.npz", layer_0=LOAD[0, 0], layer_2=LOAD[0, 0])
    with refused("b.npz: has other layers than .*a.npz, expected the same"):
        convert.open_recording([tmp_path / "a.npz", tmp_path / "b.npz"])


def test_chosen_experts_of_each_layer(tmp_path: pathlib.Path) -> None:
    ids = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[0, 1], [2, 3]]])  # tokens, layers, topk
    np.savez(tmp_path / "ids.npz", layer_1=ids[:, 0], layer_5=ids[:, 1])
    recording = convert.open_recording(tmp_path / "ids.npz", topk=True, num_experts=8)
    assert recording.layers == (1, 5)
    assert convert.sum_load(recording).tolist() == [
        [2, 2, 0, 0, 1, 1, 0, 0],
        [0, 0, 2, 2, 0, 0, 1, 1],
    ]
