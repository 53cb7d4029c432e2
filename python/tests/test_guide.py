# SPDX-License-Identifier: MIT
"""Runs the blocks of docs/guide.md, in one process."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lplb

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/guide.md"
SLOTS = np.array([[0, 1, 2, 3, 0, 2], [3, 2, 1, 0, 1, 1]])

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the project's folder docs")


def block(holds: str) -> str:
    """The Python block of the page that holds the text `holds`."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = [text for text in blocks if holds in text]
    return str(found)


def run(holds: str, **names: Any) -> dict[str, Any]:
    """Runs that block with `names` defined; returns all names after it."""
    exec(block(holds), names)
    return names


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A process group of one rank."""
    if dist.is_initialized():
        yield dist.new_group([0])
        return
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def check_replicas(physical: Any, logical: Any, slots: Any) -> None:
    """Checks that each entry of `physical` is a slot of its expert in `logical`; -1 stays -1."""
    for slot, expert in zip(physical.flatten().tolist(), logical.flatten().tolist(), strict=True):
        assert slot == -1 if expert == -1 else slots[slot] == expert


def test_any_model(group: Any) -> None:
    topk_idx = torch.tensor([[0, 1], [2, -1], [3, 0]])
    names = run(
        "layers_of(physical_to_logical",
        physical_to_logical=SLOTS,
        group=group,
        topk_idx=topk_idx,
        i=1,
    )
    check_replicas(names["physical_idx"], topk_idx, SLOTS[1])


def test_new_placements() -> None:
    old = lplb.layers_of(np.array([[0, 1, 2, 3, 0, 2]] * 2), num_ranks=2)
    planner = lplb.Planner(old, rank=0, same_tokens=True, keep_history=True, max_redundants=2)
    for layer in range(2):
        planner.run(torch.tensor([[1, 1, 1, 3, 1 + layer]]), layer=layer)
    copied: list[Any] = []
    run(
        "load_history()",
        lplb=lplb,
        planner=planner,
        num_slots=6,
        num_groups=1,
        num_nodes=1,
        num_ranks=2,
        old=old,
        copy_weights=lambda layer, move: copied.append((layer, move)),
    )
    assert copied
    for layer in range(2):
        after = old[layer].physical_to_logical.copy()
        for number, move in copied:
            if number == layer:
                after[move.target] = old[layer].physical_to_logical[move.source]
        assert np.array_equal(planner.placement(layer).physical_to_logical, after)
        assert planner.placement(layer).replica_count[1] > 1


def test_options_in_the_table_exist() -> None:
    planner = lplb.Planner(lplb.Placement([0, 1], num_ranks=2), same_tokens=True)
    empty = planner.run(torch.empty((0, 8), dtype=torch.int32))
    assert empty.shape == (0, 8)
