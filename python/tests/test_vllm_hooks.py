# SPDX-License-Identifier: MIT
"""lplb.engines.vllm in a vLLM that has hooks for EPLB, by stand-ins: see vllm_hooks_stand_ins."""

from __future__ import annotations

import pathlib

import pytest
import vllm_ranks as v
from optional import torch
from ranks import run_ranks
from vllm_ranks import eplb_state, plugin

if v.IS_REAL:
    pytest.skip("no release of vLLM has these hooks", allow_module_level=True)

import vllm_hooks_stand_ins


def check_hooks(rank: int, size: int, _folder: str) -> None:
    v.start()
    vllm_hooks_stand_ins.add_hooks()
    messages = v.Messages()
    functions = eplb_state._commit_eplb_maps, v.base_router.eplb_map_to_physical_and_record
    plugin.install()
    assert functions == (
        eplb_state._commit_eplb_maps,
        v.base_router.eplb_map_to_physical_and_record,
    ), "functions are left alone"
    model = v.Model()
    state = v.make_state(v.make_config(1, size), ("main", model))
    model_state = state.model_states["main"]
    before = model_state.physical_to_logical_map.clone()

    def check(batch: int) -> None:
        for layer in range(v.LAYERS):
            ids = v.draw(100 * batch + 10 * rank + layer, 30)
            slots = model.moe_layers[layer].map(ids)
            v.expect_right(model, layer, ids, slots)
            v.expect_balanced(model, layer, ids, slots)

    state.step(is_profile=True)
    for step in range(20):
        check(step)
        recorded = model_state.expert_load_pass.sum(1)
        assert recorded.tolist() == [60] * v.LAYERS, "an entry for each token"
        state.step()
    assert not torch.equal(before, model_state.physical_to_logical_map)
    (added,) = plugin._models
    assert added.stale_batches == 0
    # A commit that calls no hook.
    moved = torch.roll(model_state.physical_to_logical_map, 1, 1).clone()
    v.move_weights(None, moved, model.expert_weights, None, None)
    functions[0](model_state, moved)
    ids = v.draw(rank, 30)
    v.expect_right(model, 1, ids, model.moe_layers[1].map(ids))
    assert added.stale_batches == 1
    for layer in range(v.LAYERS):
        state.on_layer_committed(model_state, layer)
    v.expect_balanced(model, 1, ids, model.moe_layers[1].map(ids))
    assert len(messages.about("by each layer's map_and_record")) == 1


def test_hooks_in_the_place_of_functions(tmp_path: pathlib.Path) -> None:
    errors = run_ranks(check_hooks, 2, tmp_path)
    assert not any(errors), "\n".join(errors)
