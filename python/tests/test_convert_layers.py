# SPDX-License-Identifier: MIT
"""Layer numbers from one form to another, and what a form cannot hold."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from convert_files import random_load, random_slots, refused, run_lplb, trtllm_statistics

from lplb import convert
from lplb.convert.cli import main

SLOTS = random_slots(1, 3, 10, 16)
NUMBERS = (1, 2, 4)


def test_a_recording_keeps_its_numbers_up_to_the_engine_s_file(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("yaml")
    counts = random_load(1, 4, 3, 8, 16)[np.newaxis]
    trtllm_statistics(tmp_path / "statistics", counts, range(4), NUMBERS, 2)
    recording = convert.open_recording(tmp_path / "statistics")
    convert.write_load(recording, tmp_path / "load.json")
    assert json.loads((tmp_path / "load.json").read_text())["layers"] == [1, 2, 4]
    run_lplb("place --load load.json --num-ranks 2 --num-replicas 10 --json p.json", tmp_path)
    placement = convert.read_placement(tmp_path / "p.json")
    assert placement.layers == NUMBERS
    convert.write_placement(placement, tmp_path / "b.yaml", "trtllm")
    assert convert.read_placement(tmp_path / "b.yaml").layers == NUMBERS
    convert.write_trace(recording, tmp_path / "t.jsonl")
    report = json.loads(
        run_lplb("simulate --trace t.jsonl --num-ranks 2 --redundants 1 --json -", tmp_path)
    )
    layers = [layer["layer"] for layer in report["policies"][0]["layers"]]
    assert layers == [1, 2, 4]


def test_a_trace_and_a_load_file_are_read_back(tmp_path: pathlib.Path) -> None:
    load = random_load(1, 4, 5, 8, 16)
    load[:, 2] = 0
    np.save(tmp_path / "dense.npy", load)
    recording = convert.open_recording(tmp_path / "dense.npy", num_topk=2)
    convert.write_trace(recording, tmp_path / "t.jsonl")
    again = convert.open_recording(tmp_path / "t.jsonl")
    assert (again.layers, again.num_topk) == ((0, 1, 3, 4), 2)
    convert.write_load(again, tmp_path / "load.json")
    back = convert.open_recording(tmp_path / "load.json")
    assert back.layers == (0, 1, 3, 4)
    assert np.array_equal(convert.sum_load(back), load[:, [0, 1, 3, 4]].sum(axis=0))


def test_sglang_gets_a_row_for_every_layer(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    convert.write_placement(convert.Placement(SLOTS, 4, layers=NUMBERS), "p.json")
    line = "placement p.json --to sglang --num-layers 6 --out s.json"
    assert main(line.split()) == 0
    note = "note: the rows of layers 0, 3, 5, which have no placement, hold experts in turn"
    assert note in capsys.readouterr().err
    rows = convert.read_placement("s.json").physical_to_logical
    assert np.array_equal(rows[list(NUMBERS)], SLOTS)
    assert np.array_equal(rows[3], np.arange(16) % 10)
    with refused("the model has 4 layers, expected 5 to 1024"):
        placement = convert.read_placement("p.json")
        convert.write_placement(placement, "s.json", "sglang", num_layers=4)


@pytest.mark.parametrize(("form", "name"), [("vllm", "v.npy"), ("ascend", "a.json")])
def test_forms_without_numbers_say_so(tmp_path: pathlib.Path, form: str, name: str) -> None:
    placement = convert.Placement(SLOTS, 4, layers=NUMBERS)
    notes = convert.write_placement(placement, tmp_path / name, form)
    assert notes == [f"{form} numbers rows from 0: the layers' numbers (1, 2, 4) are left out"]
    placement = convert.Placement(SLOTS, 4, layers=(0, 1, 2))
    assert convert.write_placement(placement, tmp_path / name, form) == []


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([1, 2], "expected a list of 3 layer numbers"),
        ([1, 1, 2], "expected numbers >= 0, ascending"),
        ([-1, 1, 2], "expected numbers >= 0, ascending"),
        ([1, 2, 3.0], "expected a list of 3 layer numbers"),
    ],
)
def test_numbers_that_are_refused(
    tmp_path: pathlib.Path, layers: list[object], message: str
) -> None:
    content = {"num_ranks": 1, "num_logical_experts": 1, "layers": layers}
    content["physical_to_logical"] = [[0]] * 3
    (tmp_path / "p.json").write_text(json.dumps(content))
    with refused(f"p.json: layers is .*{message}"):
        convert.read_placement(tmp_path / "p.json")
