# SPDX-License-Identifier: MIT
"""Conversions of placements from each form to each other, and files that are refused."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from convert_files import random_slots, refused, run_lplb, sglang_records

from lplb import convert

SLOTS = random_slots(1, 3, 10, 16)
FILES = {
    "lplb": "p.json",
    "sglang": "s.json",
    "sglang pt": "s.pt",
    "vllm": "v.npy",
    "vllm pt": "v.pt",
    "trtllm": "t.yaml",
}


@pytest.mark.parametrize("second", FILES)
@pytest.mark.parametrize("first", FILES)
def test_round_trips(tmp_path: pathlib.Path, first: str, second: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("yaml")
    one, two = tmp_path / ("1" + FILES[first]), tmp_path / ("2" + FILES[second])
    convert.write_placement(convert.Placement(SLOTS, 4, 2), one, first.split()[0], first_layer=3)
    middle = convert.read_placement(one, num_ranks=4)
    convert.write_placement(middle, two, second.split()[0])
    last = convert.read_placement(two, num_ranks=4)
    # SGLang's form has a row for every layer; vLLM's does not hold their numbers.
    rows = last.physical_to_logical[-3:]
    assert np.array_equal(rows, SLOTS)
    assert last.num_ranks == 4
    assert last.num_nodes == (2 if first == second == "lplb" else 1)
    numbered = first in ("lplb", "trtllm") and second in ("lplb", "trtllm")
    if numbered:
        assert last.layers == (3, 4, 5)
    if "sglang" in (first + second) and "vllm" not in first:
        assert len(last.physical_to_logical) == 6


def test_sglang_json_has_its_one_key(tmp_path: pathlib.Path) -> None:
    convert.write_placement(convert.Placement(SLOTS), tmp_path / "s.json", "sglang")
    content = json.loads((tmp_path / "s.json").read_text())
    assert content == {"physical_to_logical_map": SLOTS.tolist()}


def test_sglang_and_vllm_tensors_are_as_the_engines_want_them(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    convert.write_placement(convert.Placement(SLOTS), tmp_path / "s.pt", "sglang")
    convert.write_placement(convert.Placement(SLOTS), tmp_path / "v.pt", "vllm")
    content = torch.load(tmp_path / "s.pt", weights_only=True)
    assert list(content) == ["physical_to_logical_map"]
    array = torch.load(tmp_path / "v.pt", weights_only=True)
    for tensor in (content["physical_to_logical_map"], array):
        assert tensor.dtype == torch.int64
        assert torch.equal(tensor, torch.tensor(SLOTS))


def test_trtllm_yaml_is_what_its_strict_model_takes(tmp_path: pathlib.Path) -> None:
    yaml = pytest.importorskip("yaml")
    numbers = {"first_layer": 3, "layer_updates_per_iter": 2}
    convert.write_placement(convert.Placement(SLOTS), tmp_path / "t.yaml", "trtllm", **numbers)
    assert yaml.safe_load((tmp_path / "t.yaml").read_text()) == {
        "num_slots": 16,
        "layer_updates_per_iter": 2,
        "initial_global_assignments": {3 + i: row for i, row in enumerate(SLOTS.tolist())},
    }


def test_trtllm_yaml_in_the_options_of_the_llm_api(tmp_path: pathlib.Path) -> None:
    yaml = pytest.importorskip("yaml")
    inner = {"num_slots": 4, "initial_global_assignments": {7: [0, 1, 2, 0], 5: [2, 1, 0, 0]}}
    moe_config = {"backend": "WIDEEP", "load_balancer": inner}
    options = {"enable_attention_dp": True, "moe_config": moe_config}
    (tmp_path / "o.yaml").write_text(yaml.dump(options))
    placement = convert.read_placement(tmp_path / "o.yaml")
    assert placement.layers == (5, 7)
    assert placement.physical_to_logical.tolist() == [[2, 1, 0, 0], [0, 1, 2, 0]]


def test_a_recorder_dump_gives_the_placement_in_use(tmp_path: pathlib.Path) -> None:
    path = sglang_records(tmp_path, 0, [1], np.ones((1, 3, 16), np.int64), SLOTS)
    assert np.array_equal(convert.read_placement(path).physical_to_logical, SLOTS)


def test_what_lplb_place_writes_goes_to_an_engine_and_back(tmp_path: pathlib.Path) -> None:
    load = {"load": [[9, 1, 2, 3, 0, 4], [1, 1, 8, 1, 1, 1]]}
    (tmp_path / "load.json").write_text(json.dumps(load))
    run_lplb("place --load load.json --num-ranks 4 --num-replicas 8 --json p.json", tmp_path)
    placement = convert.read_placement(tmp_path / "p.json")
    assert (placement.num_ranks, placement.num_logical_experts) == (4, 6)
    convert.write_placement(placement, tmp_path / "s.json", "sglang")
    back = convert.read_placement(tmp_path / "s.json", num_ranks=4)
    convert.write_placement(back, tmp_path / "back.json")
    (tmp_path / "batch.json").write_text(json.dumps({"load": [[5, 5, 5, 5, 5, 5]] * 2}))
    results = [
        run_lplb(f"solve --placement {name} --load batch.json --json -", tmp_path)
        for name in ("p.json", "back.json")
    ]
    assert results[0] == results[1]


OWN: dict[str, object] = {"num_ranks": 2, "num_logical_experts": 3}
OWN["physical_to_logical"] = [0, 1, 2, 0]


THREE_SLOTS = "has 3 slots a layer, expected a multiple of num_ranks"
NO_EXPERT_1 = "has expert 1 in no slot, expected each of 0 to 2"


def trtllm(assignments: object) -> dict[str, object]:
    return {"num_slots": 4, "initial_global_assignments": assignments}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OWN | {"physical_to_logical": [0, 1, 2]}, THREE_SLOTS),
        (OWN | {"num_logical_experts": 4}, "num_logical_experts is 4, expected 3"),
        (OWN | {"ranks": 2}, "ranks is unknown, expected one of num_ranks"),
        (OWN | {"num_ranks": 2.0}, "num_ranks is 2.0, expected an integer"),
        (OWN | {"num_nodes": 3}, r"num_nodes is 3, expected a divisor of num_ranks \(2\)"),
        ({"physical_to_logical_map": [[0, 1], [0]]}, "expected rows of equal length"),
        ({"physical_to_logical_map": [[0, 2, 2, 0]]}, NO_EXPERT_1),
        ({"physical_to_logical_map": [[0, -1]]}, "holds -1, expected expert ids >= 0"),
        ({"physical_to_logical_map": [[0, 7]]}, "holds expert 7, expected 0 to 1"),
        ({"physical_to_logical_map": []}, "expected .layers, slots"),
        ({"physical_to_logical_map": "x"}, "holds 'x', expected numbers"),
        ({"other": 1}, "has keys other, expected physical_to_logical"),
        (trtllm({"3": [0, 1, 2, 0]}), "has layer '3'"),
        (trtllm(None), "is None, expected the slots of each layer"),
        ({"num_slots": 4, "extra": 1}, "extra is unknown, expected one of num_slots"),
    ],
)
def test_placements_that_are_refused(tmp_path: pathlib.Path, content: object, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with refused(message):
        convert.read_placement(path)


THREE_OF_4 = "num_slots: 4\ninitial_global_assignments:\n  0: [0, 1, 2]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (THREE_OF_4, r"assignments\[0\] is \[0, 1, 2\]"),
        ("!!python/object/apply:os.system ['true']", "is no plain YAML"),
        ("a: [", "is no plain YAML"),
    ],
)
def test_yaml_that_is_refused(tmp_path: pathlib.Path, text: str, message: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "t.yaml").write_text(text)
    with refused(message):
        convert.read_placement(tmp_path / "t.yaml")


def test_ranks_must_be_known_and_agree(tmp_path: pathlib.Path) -> None:
    with refused("num_ranks is not known"):
        convert.write_placement(convert.Placement(SLOTS), tmp_path / "p.json")
    convert.write_placement(convert.Placement(SLOTS, 4), tmp_path / "p.json")
    with refused("num_ranks is 4, expected 8"):
        convert.read_placement(tmp_path / "p.json", num_ranks=8)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("lplb", "p.yaml"),
        ("sglang", "p.npy"),
        ("vllm", "p.json"),
        ("trtllm", "p.json"),
        ("vllm", "-"),
    ],
)
def test_suffixes_must_fit_the_form(tmp_path: pathlib.Path, form: str, name: str) -> None:
    path = name if name == "-" else tmp_path / name
    with refused(f"for {form}"):
        convert.write_placement(convert.Placement(SLOTS, 4), path, form)
