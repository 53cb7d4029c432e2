# SPDX-License-Identifier: MIT
"""lplb.engines.sglang in SGLang's own code, or in stand-ins for it that behave as it does."""

from __future__ import annotations

import functools
import importlib.metadata
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sglang_ranks as s
from optional import torch
from ranks import run_ranks
from sglang_ranks import HookRegistry, expert_location_dispatch, lplb_solver, plugin
from vllm_ranks import Messages

from lplb.engines._seams import UnsupportedEngine


def run(function: Any, size: int, folder: pathlib.Path) -> None:
    errors = run_ranks(function, size, folder)
    assert not any(errors), "\n".join(errors)


def begin() -> Messages:
    """LPLB in the SGLang of this process, whose modules have all been imported by now."""
    messages = Messages()
    plugin.install()
    HookRegistry.apply_hooks()
    return messages


def check_batches(rank: int, size: int, _folder: str) -> None:
    messages = begin()
    server = s.Rank()
    for batch in range(3):
        for layer in range(s.LAYERS):
            ids = s.draw(100 * batch + 10 * rank + layer, 20 + 30 * rank)
            slots = server.map(layer, ids)
            server.expect_right(layer, ids, slots)
            server.expect_balanced(layer, ids, slots)
            # Fused shared experts: SGLang hands over a view without their columns.
            assert torch.equal(server.map(layer, ids, shared=1), slots)
            assert torch.equal(server.map_hashed(layer, ids), slots)
    # An idle rank, and padding.
    ids = s.draw(7, 0 if rank else 9)
    wide = torch.empty((0, s.TOPK + 1), dtype=torch.int32)  # fused shared experts count there
    for idle in (server.empty, lambda layer: lplb_solver.get_global_lplb_solver(layer).solve(wide)):
        if rank:
            idle(1)
        else:
            slots = server.map(1, ids, valid=torch.tensor(4, dtype=torch.int32))
            assert (slots[4:] == -1).all()
            assert (slots[:4] >= 0).all()
    # Rows that the router has masked.
    ids = s.draw(rank, 9)
    ids[4 + rank :] = -1
    server.expect_right(1, ids, server.map(1, ids))
    # A draft's layers have no replicas: one rank has a batch of them, and none waits.
    assert plugin.layers.planner is not None
    before = plugin.layers.planner.stats(1)
    if rank == 0:
        ids = s.draw(9, 9)
        assert torch.equal(server.map(1, ids, is_draft=True), ids)
        server.empty(1, is_draft=True)
    assert plugin.layers.planner.stats(1) == before
    other = server.info(0)
    other.ep_dispatch_algorithm = "dynamic"
    ids = s.draw(8, 9)
    server.expect_right(0, ids, expert_location_dispatch.topk_ids_logical_to_physical(ids, other))
    assert len(messages.about("3 layers of 12 slots on 2 ranks")) == 1
    assert len(messages.about("is in SGLang")) == 1


def test_batches(tmp_path: pathlib.Path) -> None:
    run(check_batches, 2, tmp_path)


def check_rebalance(rank: int, size: int, _folder: str) -> None:
    begin()
    server = s.Rank()

    def check(batch: int) -> None:
        for layer in range(s.LAYERS):
            ids = s.draw(100 * batch + 10 * rank + layer, 30)
            slots = server.map(layer, ids)
            server.expect_right(layer, ids, slots)
            server.expect_balanced(layer, ids, slots)

    check(0)
    planner = plugin.layers.planner
    first = s.expert_location.get_global_expert_location_metadata().physical_to_logical_map
    new = torch.roll(first, 1, 1).clone()
    for chunk in ([0, 1], [2]):
        server.rebalance(new, chunk)
        check(1 + chunk[0])
    server.rebalance(torch.roll(new, 5, 1).clone(), [0, 1, 2])
    check(9)
    assert plugin.layers.planner is planner, "one planner, at one address"
    assert plugin.layers.stale_batches == 0


def test_a_rebalance_chunk_by_chunk(tmp_path: pathlib.Path) -> None:
    run(check_rebalance, 2, tmp_path)


def check_manager(rank: int, size: int, folder: str, policy: str) -> None:
    """SGLang's own manager, and its own transfer of weights."""
    pytest.MonkeyPatch().setenv("LPLB_SGLANG_PLACEMENT", policy)
    begin()
    server = s.Rank()
    manager = server.manager()
    metadata = s.expert_location.get_global_expert_location_metadata()
    seen = [metadata.physical_to_logical_map.clone()]
    for batch in range(9):
        for layer in range(s.LAYERS):
            ids = s.draw(100 * batch + 10 * rank + layer, 30)
            slots = server.map(layer, ids)
            server.expect_right(layer, ids, slots)
            server.expect_balanced(layer, ids, slots)
        manager.on_forward_pass_end()
        now = metadata.physical_to_logical_map.clone()
        if not torch.equal(now, seen[-1]):
            seen.append(now)
    assert len(seen) == 3, "two chunks, of which each is seen by a batch"
    assert torch.equal(seen[1][2], seen[0][2]) and not torch.equal(seen[1][:2], seen[0][:2])
    assert plugin.layers.stale_batches == 0
    if policy:
        for half in seen[-1].view(s.LAYERS * size, -1).tolist():
            assert len(set(half)) == s.SLOTS // size, "an expert twice on a rank"


@pytest.mark.parametrize("policy", ["", "eplb", "ring:2"])
def test_rebalances_by_sglangs_manager(policy: str, tmp_path: pathlib.Path) -> None:
    run(functools.partial(check_manager, policy=policy), 2, tmp_path)


def check_skipped(rank: int, size: int, _folder: str) -> None:
    begin()
    server = s.Rank()
    server.map(0, s.draw(rank, 20))
    assert plugin.layers.planner is not None
    exchange: Any = plugin.layers.planner._group.exchange
    exchange.timeout = 1.0
    if rank == 0:
        with pytest.raises(RuntimeError, match="did not get the counts of layer 0 within 1 s"):
            server.map(0, s.draw(rank, 20))
    else:
        time.sleep(2)


def test_a_skipped_batch_is_an_error_in_time(tmp_path: pathlib.Path) -> None:
    run(check_skipped, 2, tmp_path)


def check_stale(rank: int, size: int, _folder: str) -> None:
    messages = begin()
    server = s.Rank()
    server.map(0, s.draw(rank, 20))
    first = s.expert_location.get_global_expert_location_metadata().physical_to_logical_map
    moved = torch.roll(first, 1, 1).clone()
    with torch.inference_mode():
        server.update(moved, [0, 1, 2])  # no new solvers
    ids = s.draw(rank, 30)
    ids[5] = -1
    for layer in (0, 1):
        server.expect_right(layer, ids, server.map(layer, ids))
    assert plugin.layers.stale_batches == 2 and len(messages.about("without new solvers")) == 1
    # A captured graph has both choices, and takes one at replay. Here it is taken at once.
    plugin.is_captured = lambda topk_ids: True
    server.expect_right(2, ids, server.map(2, ids))
    server.rebalance(moved, [0])
    slots = server.map(2, ids)
    server.expect_right(2, ids, slots)
    server.expect_balanced(2, ids, slots)
    plugin.is_captured = lambda topk_ids: False
    server.expect_balanced(2, ids, server.map(2, ids))
    assert plugin.layers.stale_batches == 2
    # Other maps in the place of these.
    s.expert_location.set_global_expert_location_metadata(s.metadata_of(moved), True)
    server.expect_right(2, ids, server.map(2, ids))
    assert plugin.layers.stale_batches == 3


def test_stale_maps_are_impossible(tmp_path: pathlib.Path) -> None:
    run(check_stale, 2, tmp_path)


def check_unhooked(rank: int, size: int, _folder: str) -> None:
    before = s.topk.topk_ids_logical_to_physical
    begin()
    s.topk.topk_ids_logical_to_physical = before
    server = s.Rank()
    with pytest.raises(UnsupportedEngine, match="layers.moe.topk.topk_ids.*: is not hooked"):
        server.map(0, s.draw(rank, 20))


def test_a_missing_hook_is_noticed(tmp_path: pathlib.Path) -> None:
    run(check_unhooked, 2, tmp_path)


def check_scaled(rank: int, size: int, _folder: str) -> None:
    begin()
    server = s.Rank()
    server.map(0, s.draw(rank, 20))
    more = (torch.arange(16) % s.EXPERTS).repeat(s.LAYERS, 1)
    s.expert_location.set_global_expert_location_metadata(s.metadata_of(more), True)
    with pytest.raises(UnsupportedEngine, match="layer 0 has 16 slots .* restart SGLang to scale"):
        s.moe_ep_setup.init_lplb_solvers(model_config=server.model)


def test_a_server_that_scales_is_refused(tmp_path: pathlib.Path) -> None:
    run(check_scaled, 2, tmp_path)


def check_placements(rank: int, size: int, folder: str) -> None:
    patch = pytest.MonkeyPatch()
    steps = torch.tensor([[[90, 10, 20, 20, 5, 5, 5, 5]] * 2] * 3)
    patch.setenv("LPLB_SGLANG_PLACEMENT", "eplb" if rank == 0 else "ring:2")
    begin()
    algorithm = s.eplb_algorithms.EplbAlgorithm.deepseek
    maps = s.eplb_algorithms.rebalance_experts(steps, 12, 6, None, 1, algorithm)
    assert [tuple(m.shape[:2]) for m in maps] == [(2, 12), (2, 8), (2, 8)]
    for row in maps[0]:
        for half in row.view(2, 6).tolist():
            assert len(set(half)) == 6, "an expert twice on a rank"
    if rank == 1:  # homes first, then replicas
        homes = maps[0][0].view(2, 6)[:, :4]
        assert sorted(homes.flatten().tolist()) == list(range(8))


def test_placement_policies(tmp_path: pathlib.Path) -> None:
    run(check_placements, 2, tmp_path)


@pytest.fixture
def no_hooks() -> Iterator[None]:
    HookRegistry.reset()
    yield
    HookRegistry.reset()


def test_switch(no_hooks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Messages()
    monkeypatch.delenv("LPLB_SGLANG", raising=False)
    plugin.register()
    assert not HookRegistry._hooks
    monkeypatch.setenv("LPLB_SGLANG", "1")
    monkeypatch.setattr(plugin, "TESTED", ("0.5.22",))
    plugin.register()
    assert "SGLang is as it was: sglang: is version 0.5.23, expected 0.5.22" in messages.lines[-1]
    monkeypatch.setenv("LPLB_SGLANG", "untested")
    monkeypatch.setattr(lplb_solver, "clear_global_lplb_solvers", lambda layer: None)
    plugin.register()
    assert "has parameters (layer), expected ()" in messages.lines[-1]
    assert not HookRegistry._hooks
    monkeypatch.undo()
    monkeypatch.setenv("LPLB_SGLANG", "1")
    plugin.register()
    assert len(HookRegistry._hooks) == 3


def check_loaded(_rank: int, _size: int, _folder: str) -> None:
    from sglang.srt import plugins

    plugins.load_plugins()
    assert lplb_solver.LPLBSolver is plugin.Solver is s.moe_ep_setup.LPLBSolver


def test_sglang_loads_the_plug_in(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    try:
        importlib.metadata.distribution("lplb")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    (entry,) = importlib.metadata.entry_points(group="sglang.srt.plugins", name="lplb")
    assert entry.value == "lplb.engines.sglang:register"
    if s.IS_REAL:
        monkeypatch.setenv("LPLB_SGLANG", "1")
        run(check_loaded, 1, tmp_path)
