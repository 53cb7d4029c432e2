# SPDX-License-Identifier: MIT
"""Placements in the forms of Ascend, omni-infer and vLLM's files."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from convert_files import random_slots, refused

from lplb import convert

SLOTS = random_slots(1, 3, 10, 16)
# No expert twice on a rank: what omni-infer's form can say, in ascending order on each rank.
ONCE = np.array([[0, 1, 2, 3, 0, 4], [0, 2, 4, 1, 3, 4]])


def test_ascend_s_expert_map(tmp_path: pathlib.Path) -> None:
    convert.write_placement(convert.Placement(SLOTS, 4), tmp_path / "expert_map.json", "ascend")
    content = json.loads((tmp_path / "expert_map.json").read_text())
    assert content["moe_layer_count"] == 3
    layer = content["layer_list"][1]
    assert (layer["layer_id"], layer["device_count"]) == (1, 4)
    assert layer["device_list"][2] == {"device_id": 2, "device_expert": SLOTS[1, 8:12].tolist()}
    placement = convert.read_placement(tmp_path / "expert_map.json")
    assert (placement.num_ranks, placement.layers) == (4, None)
    assert np.array_equal(placement.physical_to_logical, SLOTS)


def device(number: object, experts: object) -> dict[str, object]:
    return {"device_id": number, "device_expert": experts}


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([], r"layer_list\[0\] is .*, expected layer_id and device_list"),
        ([device(0, [0, 1]), device(1, [0])], "expected lists of one length"),
        ([3], r"has device_expert \[None\], expected lists of one length"),
        ([device(1, [0, 1]), device(0, [0, 1])], r"has device_id \[1, 0\], expected 0, 1"),
        ([device(0, [0, 2]), device(1, [0, 2])], "has expert 1 in no slot"),
    ],
)
def test_expert_maps_that_are_refused(
    tmp_path: pathlib.Path, devices: list[object], message: str
) -> None:
    layer = {"layer_id": 0, "device_count": 2, "device_list": devices}
    (tmp_path / "m.json").write_text(json.dumps({"moe_layer_count": 1, "layer_list": [layer]}))
    with refused(message):
        convert.read_placement(tmp_path / "m.json")


def test_omni_infer_s_array(tmp_path: pathlib.Path) -> None:
    convert.write_placement(convert.Placement(ONCE, 2), tmp_path / "o.npy", "omni")
    array = np.load(tmp_path / "o.npy")
    assert array.shape == (2, 2, 5)
    assert array[1, 0].tolist() == [1, 0, 0, 1, 1]
    placement = convert.read_placement(tmp_path / "o.npy")
    assert placement.num_ranks == 2
    assert np.array_equal(
        np.sort(placement.physical_to_logical.reshape(2, 2, 3), axis=2),
        np.sort(ONCE.reshape(2, 2, 3), axis=2),
    )
    array[0, 0, 0] = 0
    np.save(tmp_path / "o.npy", array)
    with refused("layer 0 has 2 to 3 experts on a rank, expected one number"):
        convert.read_placement(tmp_path / "o.npy")
    with refused("rank 0 has expert 0 of row 0 in 2 slots"):
        twice = convert.Placement(np.array([[0, 0, 1, 2]]), 2)
        convert.write_placement(twice, tmp_path / "o.npy", "omni")


def test_layers_with_different_numbers_of_slots(tmp_path: pathlib.Path) -> None:
    array = np.zeros((2, 3, 4), np.int64)  # ranks, layers, experts
    array[0, :, :2] = array[1, :, 2:] = 1
    array[:, 1] = [[1, 1, 0, 1], [1, 0, 1, 1]]
    np.save(tmp_path / "o.npy", array)
    names = {"lplb": "p.json", "ascend": "a.json", "omni": "o2.npy"}
    placement = convert.read_placement(tmp_path / "o.npy")
    assert placement.num_slots == (4, 6)
    for form, name in names.items():
        convert.write_placement(placement, tmp_path / name, form)
        placement = convert.read_placement(tmp_path / name)
        rows = [row.tolist() for row in placement.rows]
        assert rows == [[0, 1, 2, 3], [0, 1, 3, 0, 2, 3], [0, 1, 2, 3]]
    assert json.loads((tmp_path / "p.json").read_text())["physical_to_logical"] == rows
    assert np.array_equal(np.load(tmp_path / "o2.npy"), array)
    for form, name in {"sglang": "s.json", "vllm": "v.npy", "trtllm": "t.yaml"}.items():
        with refused(f"layers have 4 to 6 slots, expected one number: the form {form} cannot"):
            convert.write_placement(placement, tmp_path / name, form)
    np.save(tmp_path / "load.npy", np.full((3, 6), 2))
    with refused("has layers with other numbers of slots, expected 6 in each"):
        convert.open_recording(tmp_path / "load.npy", placement=tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    (tmp_path / "p.json").write_text(text.replace("0, 1, 3, 0, 2, 3", "0, 1, 2, 3, 3"))
    with refused("has 5 slots a layer, expected a multiple of num_ranks"):
        convert.read_placement(tmp_path / "p.json")
    (tmp_path / "p.json").write_text(text.replace("[0, 1, 3, 0, 2, 3]", "[]"))
    with refused(r"physical_to_logical\[1\] has shape \[0\], expected \[slots\]"):
        convert.read_placement(tmp_path / "p.json")


def test_a_recording_of_layers_with_as_many_slots(tmp_path: pathlib.Path) -> None:
    text = '{"num_ranks": 2, "num_logical_experts": 2, "layers": [3, 4, 5], '
    text += '"physical_to_logical": [[0, 1], [1, 0, 1, 0], [0, 1]]}'
    (tmp_path / "p.json").write_text(text)
    placement = convert.read_placement(tmp_path / "p.json")
    assert placement.rows_for((3, 5)).tolist() == [[0, 1], [0, 1]]
    assert placement.rows_for((3, 4)).tolist() == [[0, 1, -1, -1], [1, 0, 1, 0]]


def test_vllm_s_expert_map_pth(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    layers, ranks = SLOTS.reshape(3, 8, 2), 8
    once = np.stack([np.arange(16) % 10] * 3).reshape(3, ranks, 2)
    maps = np.full((3, ranks, 16), -1, np.int32)
    for layer in range(3):
        for rank in range(ranks):
            maps[layer, rank, once[layer, rank]] = np.arange(2)
    torch.save(torch.tensor(maps), tmp_path / "expert_map.pth")
    placement = convert.read_placement(tmp_path / "expert_map.pth")
    assert placement.num_ranks == ranks
    assert np.array_equal(placement.physical_to_logical, once.reshape(3, 16))
    np.save(tmp_path / "by_rank.npy", layers)
    placement = convert.read_placement(tmp_path / "by_rank.npy")
    assert np.array_equal(placement.physical_to_logical, SLOTS)
    maps[0, 0, once[0, 0]] = [0, 3]
    torch.save(torch.tensor(maps), tmp_path / "expert_map.pth")
    with refused(r"the array\[0, 0\] has slots \[0, 3\], expected 0 to 1"):
        convert.read_placement(tmp_path / "expert_map.pth")


def test_maps_of_several_models(tmp_path: pathlib.Path) -> None:
    maps = {
        name: {"physical_to_logical_map": SLOTS[:rows].tolist()}
        for name, rows in (("Main", 3), ("MTP", 1))
    }
    path = tmp_path / "maps.json"
    path.write_text(json.dumps({"version": 2, "format": "x", "model_maps": maps}))
    assert len(convert.read_placement(path, key="Main").physical_to_logical) == 3
    with refused("model_maps has models 'Main', 'MTP', expected one, or --key"):
        convert.read_placement(path)
    with refused("expected 'other'"):
        convert.read_placement(path, key="other")
    path.write_text(json.dumps({"version": 2, "model_maps": {"Main": maps["Main"]}}))
    assert np.array_equal(convert.read_placement(path).physical_to_logical, SLOTS)


def test_vllm_s_initial_mapping(tmp_path: pathlib.Path) -> None:
    record = {"record_type": "eplb_initial_mapping", "version": 1, "num_slots": 16}
    record["initial_global_assignments"] = {str(i): row.tolist() for i, row in enumerate(SLOTS)}
    (tmp_path / "m.jsonl").write_text(json.dumps(record) + "\n")
    placement = convert.read_placement(tmp_path / "m.jsonl")
    assert np.array_equal(placement.physical_to_logical, SLOTS)
