# SPDX-License-Identifier: MIT
"""lplb.engines.vllm in vLLM's own code, or in stand-ins for it that behave as it does."""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import vllm_ranks as v
from optional import torch
from ranks import run_ranks
from vllm_ranks import base_router, eplb_state, plugin, policy

import lplb
from lplb.engines._seams import UnsupportedEngine


def run(function: Any, size: int, folder: pathlib.Path) -> None:
    errors = run_ranks(function, size, folder)
    assert not any(errors), "\n".join(errors)


def begin() -> v.Messages:
    """LPLB in the vLLM of this process."""
    v.start()
    messages = v.Messages()
    plugin.install()
    return messages


# Each rank has its own tokens.


def check_own_tokens(rank: int, size: int, _folder: str) -> None:
    messages = begin()
    main, drafter = v.Model(), v.Model(layers=1)
    state = v.make_state(v.make_config(1, size), ("main", main), ("drafter", drafter))
    for batch in range(3):
        for model, layers in ((main, v.LAYERS), (drafter, 1)):
            for layer in range(layers):
                ids = v.draw(100 * batch + 10 * rank + layer, 40 * (rank + 1), torch.int64)
                slots = model.moe_layers[layer].map(ids)
                v.expect_right(model, layer, ids, slots)
                v.expect_balanced(model, layer, ids, slots)
                view = model.moe_layers[layer].eplb_state.expert_load_view
                want = torch.bincount(slots.flatten(), minlength=len(view))
                assert torch.equal(view, want.int()), "recorded"
                view.zero_()
    # A rank without tokens, and padding.
    ids = v.draw(1, 0 if rank else 6)
    ids[3:] = -1
    for layer in range(v.LAYERS):
        v.expect_right(main, layer, ids, main.moe_layers[layer].map(ids))
    state.prepare_forward(v.Name("main"), 2)
    ids = v.draw(2 + rank, 5)
    slots = main.moe_layers[1].map(ids)
    v.expect_right(main, 1, ids[:2], slots[:2])
    assert (slots[2:] == -1).all()
    state.should_record_tensor.fill_(False)
    before = state.model_states["main"].expert_load_pass.clone()
    main.moe_layers[1].map(ids)
    assert torch.equal(before, state.model_states["main"].expert_load_pass)
    assert len(messages.about("each rank has its own tokens")) == 2
    assert len(messages.about("is in vLLM")) == 1


def test_ranks_with_tokens_of_their_own(tmp_path: pathlib.Path) -> None:
    run(check_own_tokens, 2, tmp_path)


# A rearrangement, before, during and after.


def check_rearrangement(rank: int, size: int, _folder: str) -> None:
    begin()
    models = v.Model(), v.Model()
    state = v.make_state(v.make_config(1, size), ("main", models[0]), ("drafter", models[1]))

    def check(batch: int) -> None:
        for model in models:
            for layer in range(v.LAYERS):
                ids = v.draw(1000 * batch + 10 * rank + layer, 30)
                slots = model.moe_layers[layer].map(ids)
                v.expect_right(model, layer, ids, slots)
                v.expect_balanced(model, layer, ids, slots)

    state.step(is_profile=True)  # before the first batch
    check(0)
    before = state.model_states["main"].physical_to_logical_map.clone()
    for step in range(20):
        check(step + 1)
        state.step()
    assert not torch.equal(before, state.model_states["main"].physical_to_logical_map)
    # The asynchronous way: the maps of one layer after the other.
    model_state = state.model_states["main"]
    eplb_state.move_from_buffer = lambda **given: given["expert_weights"][0][:, 0].copy_(
        torch.from_numpy(given["new_indices"]).view(size, -1)[given["ep_rank"]]
    )
    for layer in range(v.LAYERS):
        new = torch.roll(model_state.physical_to_logical_map[layer], 1).clone()
        model_state.pending_result = types.SimpleNamespace(
            layer_idx=layer,
            new_physical_to_logical_map=new,
            transfer_metadata=None,
            consumed_event=v.Event(),
        )
        eplb_state._move_to_workspace(model_state, rank)
        check(50 + layer)
    assert all(model.stale_batches == 0 for model in plugin._models)


def test_no_batch_sees_maps_without_their_weights(tmp_path: pathlib.Path) -> None:
    run(check_rearrangement, 2, tmp_path)


# All ranks have the same tokens.


def check_same_tokens(rank: int, size: int, _folder: str) -> None:
    messages = begin()
    naive = v.Model()
    for layer in naive.moe_layers:
        layer.do_naive_dispatch_combine = True
    for config, model in ((v.make_config(size, 1), v.Model()), (v.make_config(1, size), naive)):
        state = v.make_state(config, ("main", model))
        ids = v.draw(5, 80)
        slots = model.moe_layers[2].map(ids)
        v.expect_right(model, 2, ids, slots)
        told = v.everyone(slots)
        assert (told == told[0]).all(), "ranks chose differently"
        loads = v.rank_loads(slots, model, True)
        assert int(loads.max()) == -(-int(loads.sum()) // size)
        state.prepare_forward(v.Name("main"), 70)
        padded = int((model.moe_layers[2].map(ids) < 0).sum())
        assert padded == (0 if model is naive else 10 * v.TOPK)
    assert len(messages.about("all ranks have the same tokens")) == 2


def test_ranks_with_the_same_tokens(tmp_path: pathlib.Path) -> None:
    run(check_same_tokens, 2, tmp_path)


def check_blocks(rank: int, size: int, _folder: str) -> None:
    """The ranks of a tensor-parallel group share their tokens, those of two groups do not."""
    messages = begin()
    groups = [torch.distributed.new_group([place, place + 2], backend="gloo") for place in (0, 1)]
    group = types.SimpleNamespace(device_group=groups[rank % 2])
    v.parallel_state.get_dp_group = lambda: group
    model = v.Model()
    config = v.make_config(2, 2, use_sequence_parallel_moe=False, all2all_backend="moonep")
    state = v.make_state(config, ("main", model))
    for batch in range(3):
        ids = v.draw(10 * batch + rank // 2, 60)
        slots = model.moe_layers[1].map(ids)
        v.expect_right(model, 1, ids, slots)
        told = v.everyone(slots)
        assert torch.equal(told[0], told[1]) and torch.equal(told[2], told[3])
        loads = torch.stack([v.rank_loads(told[r], model, True) for r in (0, 2)]).sum(0)
        # Four ranks of three slots: the best that this placement allows.
        both = torch.cat([v.draw(10 * batch, 60), v.draw(10 * batch + 1, 60)])
        load = torch.bincount(both.flatten().long(), minlength=v.EXPERTS).numpy()
        best = lplb.solve(lplb.Placement(v.weights_of(model, 1).numpy(), 4, v.EXPERTS), load)
        assert int(loads.max()) == int(best.max_load)
        new = torch.roll(state.model_states["main"].physical_to_logical_map, 1, 1).clone()
        v.move_weights(None, new, model.expert_weights, None, None)
        eplb_state._commit_eplb_maps(state.model_states["main"], new)
    assert len(messages.about("the ranks of a tensor-parallel group share their tokens")) == 1


def test_tensor_parallel_groups_share_tokens(tmp_path: pathlib.Path) -> None:
    run(check_blocks, 4, tmp_path)


def check_sequence_parallel(rank: int, size: int, _folder: str) -> None:
    """A rank has a part of the batch; vLLM tells how many tokens the whole batch has."""
    begin()
    model = v.Model()
    state = v.make_state(v.make_config(2, 2), ("main", model))
    state.prepare_forward(v.Name("main"), 13)  # of 2 x 10
    ids = v.draw(rank, 10)
    slots = model.moe_layers[0].map(ids)
    real = 10 if rank == 0 else 3
    assert (slots[real:] == -1).all()
    v.expect_right(model, 0, ids[:real], slots[:real])


def test_sequence_parallel(tmp_path: pathlib.Path) -> None:
    run(check_sequence_parallel, 2, tmp_path)


# Maps that something else has changed.


def check_stale(rank: int, size: int, _folder: str) -> None:
    v.start()
    commit = eplb_state._commit_eplb_maps
    messages = v.Messages()
    plugin.install()
    model = v.Model()
    state = v.make_state(v.make_config(1, size), ("main", model))
    (added,) = plugin._models
    model_state = state.model_states["main"]
    ids = v.draw(rank, 30)
    model.moe_layers[0].map(ids)
    moved = torch.roll(model_state.physical_to_logical_map, 1, 1).clone()
    v.move_weights(None, moved, model.expert_weights, None, None)
    with torch.inference_mode():  # as vLLM's steps run
        commit(model_state, moved)  # not through LPLB
    for layer in (0, 1):
        ids = v.draw(7 + rank, 30)
        model_state.expert_load_pass.zero_()
        slots = model.moe_layers[layer].map(ids)
        v.expect_right(model, layer, ids, slots)
        loads = torch.bincount(slots.flatten(), minlength=12)
        assert torch.equal(model_state.expert_load_pass[layer], loads.int())
    assert added.stale_batches == 2 and len(messages.about("and not by a commit")) == 1
    assert bool(added.is_stale)
    # Commits of single layers cannot heal the others; one of all layers does.
    eplb_state._commit_eplb_maps_for_layer(model_state, moved[0], 0)
    v.expect_right(model, 2, ids, model.moe_layers[2].map(ids))
    assert added.stale_batches == 3
    eplb_state._commit_eplb_maps(model_state, moved)
    slots = model.moe_layers[1].map(ids)
    v.expect_right(model, 1, ids, slots)
    v.expect_balanced(model, 1, ids, slots)
    assert added.stale_batches == 3 and not bool(added.is_stale)
    # A captured graph has both choices, and takes one at replay. Here it is taken at once.
    plugin.is_captured = lambda topk_ids: True
    v.expect_right(model, 1, ids, model.moe_layers[1].map(ids))
    back = torch.roll(moved, -1, 1).clone()
    v.move_weights(None, back, model.expert_weights, None, None)
    commit(model_state, back)
    assert not bool(added.is_stale)
    state.prepare_forward(v.Name("main"), 30)  # finds it before the replay
    assert bool(added.is_stale)
    model_state.expert_load_pass.zero_()
    slots = model.moe_layers[1].map(ids)
    v.expect_right(model, 1, ids, slots)
    loads = torch.bincount(slots.flatten(), minlength=12)
    assert torch.equal(model_state.expert_load_pass[1], loads.int())


def test_stale_maps_are_impossible(tmp_path: pathlib.Path) -> None:
    run(check_stale, 2, tmp_path)


# Without ranks.


@pytest.fixture
def installed() -> Iterator[None]:
    plugin.install()
    yield
    plugin.uninstall()


def test_configurations_that_cannot_be_served() -> None:
    layers = [types.SimpleNamespace(do_naive_dispatch_combine=False)]
    assert plugin.whose_tokens(v.make_config(2, 1), layers) == "all"
    assert plugin.whose_tokens(v.make_config(1, 2), layers) == "own"
    assert plugin.whose_tokens(v.make_config(2, 2), layers) == "own"
    shared = v.make_config(2, 2, use_sequence_parallel_moe=False, all2all_backend="moonep")
    assert plugin.whose_tokens(shared, layers) == "block"
    naive = [types.SimpleNamespace(do_naive_dispatch_combine=True)]
    assert plugin.whose_tokens(shared, naive) == "all"
    with pytest.raises(UnsupportedEngine, match="some gather tokens before routing"):
        plugin.whose_tokens(shared, [*naive, *layers])
    shared.prefill_context_parallel_size = 2
    with pytest.raises(UnsupportedEngine, match="context_parallel_size: is 2 with tensor_par"):
        plugin.whose_tokens(shared, layers)
    with pytest.raises(UnsupportedEngine, match="enable_elastic_ep: is on"):
        plugin.check_config(types.SimpleNamespace(enable_elastic_ep=True))


def test_policy(installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    chosen = policy.EPLB_POLICIES["default"]
    assert issubclass(chosen, policy.AbstractEplbPolicy)
    load = torch.tensor([[90, 10, 20, 20, 5, 5, 5, 5]] * 2)
    new = chosen.rebalance_experts(load, 12, 1, 1, 2)
    assert new.dtype == torch.int64 and new.shape == (2, 12) and not new.is_cuda
    assert (np.bincount(new[0].numpy())[0]) == 2  # not twice on a rank
    again = chosen.rebalance_experts(load, 12, 1, 1, 2, torch.roll(new, 1, 1).roll(-1, 1))
    assert torch.equal(again, new)
    old = torch.cat([new[:, [1, 0, 2, 3, 4, 5]], new[:, 6:]], 1)
    assert torch.equal(chosen.rebalance_experts(load, 12, 1, 1, 2, old), old), "slots are kept"
    np.save(tmp_path / "placement.npy", np.arange(24).reshape(2, 12) % 8)
    monkeypatch.setenv("LPLB_VLLM_PLACEMENT", str(tmp_path / "placement.npy"))
    fixed = chosen.rebalance_experts(load, 12, 1, 1, 2)
    assert torch.equal(fixed, torch.arange(24).view(2, 12) % 8)
    with pytest.raises(ValueError, match=r"shape \[2, 12\], expected \[2, 16\]"):
        chosen.rebalance_experts(load, 16, 1, 1, 2)


def everything() -> list[Any]:
    state = eplb_state.EplbState
    return [
        state.add_model,
        state.prepare_forward,
        state.update_mapping,
        eplb_state._commit_eplb_maps,
        eplb_state._commit_eplb_maps_for_layer,
        base_router.eplb_map_to_physical_and_record,
        policy.EPLB_POLICIES["default"],
    ]


def test_vllm_loads_the_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        importlib.metadata.distribution("lplb")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    (entry,) = importlib.metadata.entry_points(group="vllm.general_plugins", name="lplb")
    monkeypatch.setenv("LPLB_VLLM", "1")
    before = everything()
    if v.IS_REAL:
        from vllm import plugins

        plugins.plugins_loaded = False
        plugins.load_general_plugins()
    else:
        untyped: Any = entry
        untyped.load()()
    assert all(now is not then for now, then in zip(everything(), before))
    plugin.uninstall()


def test_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    before, messages = everything(), v.Messages()
    monkeypatch.delenv("LPLB_VLLM", raising=False)
    plugin.register()
    assert everything() == before
    mega_moe = types.ModuleType(plugin.MEGA_MOE)
    setattr(mega_moe, plugin.MAP, base_router.eplb_map_to_physical_and_record)
    monkeypatch.setitem(sys.modules, plugin.MEGA_MOE, mega_moe)
    monkeypatch.setenv("LPLB_VLLM", "1")
    plugin.register()
    plugin.register()  # vLLM loads plug-ins more than once
    assert all(now is not then for now, then in zip(everything(), before))
    assert getattr(mega_moe, plugin.MAP) is base_router.eplb_map_to_physical_and_record
    plugin.uninstall()
    assert everything() == before and getattr(mega_moe, plugin.MAP) is before[5]
    monkeypatch.setattr(plugin, "TESTED", ("0.32.0",))
    plugin.register()
    assert everything() == before
    assert "vLLM is as it was: vllm: is version 0.33.0, expected 0.32.0" in messages.lines[-1]
    monkeypatch.setenv("LPLB_VLLM", "yes")
    plugin.register()
    assert everything() == before
    assert 'is \'yes\', expected "0", "1"' in messages.lines[-1]
    monkeypatch.setenv("LPLB_VLLM", "untested")
    monkeypatch.setattr(eplb_state, "_commit_eplb_maps", lambda state, new_map, layers: None)
    plugin.register()
    assert "has parameters (state new_map layers), expected (model_state" in messages.lines[-1]
    assert everything()[0] is before[0]
