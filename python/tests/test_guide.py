# SPDX-License-Identifier: MIT
"""Runs the blocks of docs/guide.md, with stand-ins for the engines' hooks."""

from __future__ import annotations

import pathlib
import re
import sys
import types
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


def modules(monkeypatch: pytest.MonkeyPatch, path: str, **members: Any) -> types.ModuleType:
    """Makes a module `path` with `members`, which can be imported during the test."""
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], sys.modules[name])
    module = sys.modules[path]
    for key, value in members.items():
        setattr(module, key, value)
    return module


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


def test_sglang(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = modules(monkeypatch, "sglang.srt.eplb.lplb_solver", LPLBSolver=None)
    topk = modules(
        monkeypatch,
        "sglang.srt.layers.moe.topk",
        topk_ids_logical_to_physical=lambda ids, info, prob=None: ("before", ids, prob),
    )
    run("lplb_solver.LPLBSolver = Solver")
    made = solver.LPLBSolver(
        phy2log=torch.tensor(SLOTS[0]),
        log2phy=None,
        num_gpus=1,
        ep_group=types.SimpleNamespace(device_group=group),
        logical_to_all_physical_map_num_valid=None,
    )
    ids = torch.tensor([[0, 2], [3, -1]], dtype=torch.int32)
    lp = types.SimpleNamespace(ep_dispatch_algorithm="lp")
    physical = topk.topk_ids_logical_to_physical(ids, lp, made.solve(ids))
    assert physical.dtype == torch.int32
    check_replicas(physical, ids, SLOTS[0])
    assert made.solve(torch.empty((0, 2), dtype=torch.int32)).shape == (0, 2)
    # With fused shared experts SGLang hands over a view without their columns.
    shared = torch.cat([ids, torch.full((2, 1), 9, dtype=torch.int32)], 1)[:, :-1]
    assert not shared.is_contiguous() and torch.equal(made.solve(shared), made.solve(ids))
    other = types.SimpleNamespace(ep_dispatch_algorithm="dynamic")
    assert topk.topk_ids_logical_to_physical(ids, other)[0] == "before"


def test_options_in_the_table_exist() -> None:
    planner = lplb.Planner(lplb.Placement([0, 1], num_ranks=2), same_tokens=True)
    empty = planner.run(torch.empty((0, 8), dtype=torch.int32))
    assert empty.shape == (0, 8)
