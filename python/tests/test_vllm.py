# SPDX-License-Identifier: MIT
"""lplb.engines.vllm in vLLM's own code, or in stand-ins for it that behave as it does."""

from __future__ import annotations

import functools
import pathlib
import time
import types
from typing import Any

import pytest
import vllm_ranks as v
from optional import torch
from ranks import run_ranks
from vllm_ranks import base_router, eplb_state, plugin

import lplb


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
    # The type of ids that DeepEP's kernels take.
    ids = v.draw(3 + rank, 12)
    slots = main.moe_layers[0].map(ids.view(torch.uint32))
    assert slots.dtype == torch.uint32
    v.expect_right(main, 0, ids, slots.view(torch.int32))
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
    # Commits of single layers cannot heal the others; those of all layers do.
    eplb_state._commit_eplb_maps_for_layer(model_state, moved[0], 0)
    v.expect_right(model, 2, ids, model.moe_layers[2].map(ids))
    assert added.stale_batches == 3
    for layer in range(1, v.LAYERS):
        eplb_state._commit_eplb_maps_for_layer(model_state, moved[layer], layer)
    v.expect_balanced(model, 2, ids, model.moe_layers[2].map(ids))
    assert added.stale_batches == 3
    # The commit of a layer does not hide what something else has changed just before.
    back = torch.roll(moved, -1, 1).clone()
    v.move_weights(None, back, model.expert_weights, None, None)
    commit(model_state, back)
    eplb_state._commit_eplb_maps_for_layer(model_state, back[0], 0)
    v.expect_right(model, 1, ids, model.moe_layers[1].map(ids))
    assert added.stale_batches == 4
    v.move_weights(None, moved, model.expert_weights, None, None)
    eplb_state._commit_eplb_maps(model_state, moved)
    slots = model.moe_layers[1].map(ids)
    v.expect_right(model, 1, ids, slots)
    v.expect_balanced(model, 1, ids, slots)
    assert added.stale_batches == 4 and not bool(added.is_stale)
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


# Micro-batches, and MegaMoE.


def check_micro_batches(rank: int, size: int, _folder: str) -> None:
    """With DBO two batches of a rank are under way at once, layer by layer in turn."""
    messages = begin()
    now = [0]
    base_router.dbo_current_ubatch_id = lambda: now[0]
    model = v.Model()
    state = v.make_state(v.make_config(1, size, num_ubatches=2), ("main", model))
    model_state = state.model_states["main"]

    def check(batch: int, tokens: int) -> None:
        parts = [slice(0, 30), slice(30, 60)]
        slices = [types.SimpleNamespace(token_slice=part) for part in parts]
        state.prepare_forward(v.Name("main"), tokens, slices)
        for layer in range(v.LAYERS):
            for now[0], part in enumerate(parts):
                ids = v.draw(100 * batch + 10 * rank + layer, 60)[part]
                real = max(0, min(tokens - part.start, 30))
                slots = model.moe_layers[layer].map(ids)
                assert (slots[real:] == -1).all()
                v.expect_right(model, layer, ids[:real], slots[:real])
                v.expect_balanced(model, layer, ids[:real], slots[:real])

    check(0, 60)
    check(1, 37)
    new = torch.roll(model_state.physical_to_logical_map, 1, 1).clone()
    v.move_weights(None, new, model.expert_weights, None, None)
    eplb_state._commit_eplb_maps(model_state, new)
    check(2, 20)  # nothing is left for the second one
    now[0] = 0
    state.prepare_forward(v.Name("main"), 12)  # a batch that is not cut
    ids = v.draw(rank, 15)
    assert (model.moe_layers[0].map(ids)[12:] == -1).all()
    planners: list[Any] = plugin._models[0].planners
    batches = [sum(p.stats(layer).batches for layer in range(v.LAYERS)) for p in planners]
    assert batches == [3 * v.LAYERS + 1, 3 * v.LAYERS]
    assert len(messages.about("2 micro-batches")) == 1


def test_micro_batches_have_planners_of_their_own(tmp_path: pathlib.Path) -> None:
    run(check_micro_batches, 2, tmp_path)


def check_mega_moe(rank: int, size: int, _folder: str) -> None:
    """MegaMoE's forward() maps ids itself, by a function that it has imported by name."""
    messages = begin()
    model = v.Model(kind=v.MegaMoELayer)
    state = v.make_state(v.make_config(1, size), ("main", model))
    ids = v.draw(rank, 40 * (rank + 1))
    state.prepare_forward(v.Name("main"), len(ids) - 3)
    for layer in range(v.LAYERS):
        slots = model.moe_layers[layer].map(ids)
        assert (slots[-3:] == -1).all()
        v.expect_right(model, layer, ids[:-3], slots[:-3])
        v.expect_balanced(model, layer, ids[:-3], slots[:-3])
        recorded = state.model_states["main"].expert_load_pass[layer]
        assert torch.equal(recorded, torch.bincount(slots[:-3].flatten(), minlength=12).int())
    assert len(messages.about("maps tokens (MegaMoE's too)")) == 1


def test_mega_moe(tmp_path: pathlib.Path) -> None:
    run(check_mega_moe, 2, tmp_path)


# A rank that skips a batch.


def check_skipped(rank: int, size: int, _folder: str, is_shared: bool) -> None:
    begin()
    config = v.make_config(1, size)
    if is_shared:  # two tensor-parallel groups; these are the ranks with the same place in them
        config = v.make_config(2, size, use_sequence_parallel_moe=False)
        ep = types.SimpleNamespace(device_group=types.SimpleNamespace(size=lambda: 2 * size))
        dp = types.SimpleNamespace(device_group=torch.distributed.group.WORLD)
        v.parallel_state.get_ep_group, v.parallel_state.get_dp_group = lambda: ep, lambda: dp
    model = v.Model()
    v.make_state(config, ("main", model))
    model.moe_layers[0].map(v.draw(rank, 9))
    planner: Any = plugin._models[0].planners[0]
    exchange: Any = planner._exchange if is_shared else planner._group.exchange
    exchange.timeout = 1.0
    if rank == 0:
        with pytest.raises(RuntimeError, match="did not get the counts of layer 0 within 1 s"):
            model.moe_layers[0].map(v.draw(rank, 9))
    else:
        time.sleep(2)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_skipped_batch_is_an_error_in_time(is_shared: bool, tmp_path: pathlib.Path) -> None:
    run(functools.partial(check_skipped, is_shared=is_shared), 2, tmp_path)
