# SPDX-License-Identifier: MIT
"""lplb.engines.vllm without ranks: what it serves, its policy, and how it comes into vLLM."""

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
from vllm_ranks import base_router, eplb_state, plugin, policy

from lplb.engines import _vllm_model
from lplb.engines._seams import UnsupportedEngine


@pytest.fixture
def installed() -> Iterator[None]:
    plugin.install()
    yield
    plugin.uninstall()


def test_configurations_that_cannot_be_served() -> None:
    layers = [types.SimpleNamespace(do_naive_dispatch_combine=False)]
    assert _vllm_model.whose_tokens(v.make_config(2, 1), layers) == "all"
    assert _vllm_model.whose_tokens(v.make_config(1, 2), layers) == "own"
    assert _vllm_model.whose_tokens(v.make_config(2, 2), layers) == "own"
    shared = v.make_config(2, 2, use_sequence_parallel_moe=False, all2all_backend="moonep")
    assert _vllm_model.whose_tokens(shared, layers) == "block"
    naive = [types.SimpleNamespace(do_naive_dispatch_combine=True)]
    assert _vllm_model.whose_tokens(shared, naive) == "all"
    with pytest.raises(UnsupportedEngine, match="some gather tokens before routing"):
        _vllm_model.whose_tokens(shared, [*naive, *layers])
    shared.prefill_context_parallel_size = 2
    with pytest.raises(UnsupportedEngine, match="context_parallel_size: is 2 with tensor_par"):
        _vllm_model.whose_tokens(shared, layers)
    with pytest.raises(UnsupportedEngine, match="enable_elastic_ep: is on"):
        _vllm_model.check_config(types.SimpleNamespace(enable_elastic_ep=True))


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
