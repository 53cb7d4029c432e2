# SPDX-License-Identifier: MIT
"""lplb.engines.megatron in the real Megatron-core."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import sys
import types
from typing import Any

import numpy as np
import pytest
from optional import torch
from ranks import run_ranks

import lplb

if importlib.util.find_spec("megatron") is None or sys.version_info < (3, 11):
    pytest.skip("needs megatron-core, and Python 3.11 for it", allow_module_level=True)

import megatron_moves
import megatron_ranks

from lplb.engines import megatron as engine


def run(function: Any, size: int, folder: pathlib.Path) -> None:
    errors = run_ranks(function, size, folder)
    assert not any(errors), "\n".join(errors)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("dispatcher", ["alltoall", "allgather"])
def test_a_balanced_layer_learns_what_a_plain_one_does(
    dispatcher: str, size: int, tmp_path: pathlib.Path
) -> None:
    run(functools.partial(megatron_ranks.check_equal, dispatcher=dispatcher), size, tmp_path)


def test_recomputation(tmp_path: pathlib.Path) -> None:
    check = functools.partial(
        megatron_ranks.check_equal,
        dispatcher="alltoall",
        recompute_granularity="selective",
        recompute_modules=["moe"],
    )
    run(check, 2, tmp_path)


@pytest.mark.parametrize("size", [2, 4])
def test_a_checkpoint_holds_experts(size: int, tmp_path: pathlib.Path) -> None:
    run(megatron_ranks.check_checkpoint, size, tmp_path)


def test_gradients_are_summed_before_they_are_finalized(tmp_path: pathlib.Path) -> None:
    run(megatron_ranks.check_finalize, 2, tmp_path)


def test_partial_cuda_graphs(tmp_path: pathlib.Path) -> None:
    run(megatron_ranks.check_graphs, 2, tmp_path)


@pytest.mark.parametrize("optimizer", ["torch", "megatron"])
@pytest.mark.parametrize("size", [2, 4])
def test_experts_move_with_the_optimizers_state(
    size: int, optimizer: str, tmp_path: pathlib.Path
) -> None:
    run(functools.partial(megatron_moves.check_move, optimizer=optimizer), size, tmp_path)


def test_moves_that_cannot_be_right_are_refused(tmp_path: pathlib.Path) -> None:
    run(megatron_moves.check_move_refused, 2, tmp_path)


def test_grouped_experts_learn_what_plain_ones_do(tmp_path: pathlib.Path) -> None:
    check = functools.partial(
        megatron_ranks.check_equal, dispatcher="alltoall", build=megatron_moves.grouped_builder
    )
    run(check, 2, tmp_path)


def test_a_checkpoint_of_grouped_experts(tmp_path: pathlib.Path) -> None:
    run(megatron_moves.check_grouped_checkpoint, 2, tmp_path)


def test_a_skipped_batch_is_an_error_in_time(tmp_path: pathlib.Path) -> None:
    run(megatron_moves.check_skipped, 2, tmp_path)


def check_refused(_rank: int, size: int, _folder: str) -> None:
    megatron_ranks.start(size)
    _, balanced = megatron_ranks.make_layers(size, "alltoall")
    with pytest.raises(RuntimeError, match="attach: was not called"):
        megatron_ranks.run(balanced, megatron_ranks.tokens(0))
    with pytest.raises(RuntimeError, match="the gradients were not summed"):
        balanced.balance.copy_weights()
    with pytest.raises(ValueError, match="finalize_model_grads_func, expected one to wrap"):
        balanced.balance.attach(None, balanced.config)
    balanced.config.finalize_model_grads_func, balanced.config.no_sync_func = print, print
    optimizer = torch.optim.SGD(balanced.parameters())
    balanced.balance.attach(optimizer, balanced.config)
    with pytest.raises(engine.UnsupportedEngine, match="overlap_grad_reduce: is True"):
        balanced.config.finalize_model_grads_func()
    optimizer.config = types.SimpleNamespace(overlap_param_gather=True)
    with pytest.raises(engine.UnsupportedEngine, match="overlap_param_gather: is True"):
        balanced.balance.attach(optimizer)
    few = engine.Balance(lplb.Placement([0, 1, 2, 3], 2), max_tokens=64)
    with pytest.raises(ValueError, match=r"is of 4 experts, expected config.num_moe_experts \(8\)"):
        few.spec(megatron_ranks.plain_builder())(config=balanced.router.config)
    shared = megatron_ranks.make_config(size, "alltoall")
    shared.tensor_model_parallel_size = 2
    with pytest.raises(engine.UnsupportedEngine, match="sequence_parallel: is False"):
        engine.check_config(shared)
    padded = megatron_ranks.make_config(size, "alltoall")
    padded.moe_pad_expert_input_to_capacity = True
    with pytest.raises(engine.UnsupportedEngine, match="moe_pad_expert_input_to_capacity: is True"):
        engine.check_config(padded)
    singles = {"singleton_local_shards": True, "dp_cp_group": torch.distributed.group.WORLD}
    with pytest.raises(engine.UnsupportedEngine, match="without singleton_local_shards"):
        balanced.sharded_state_dict(metadata=singles)


def test_what_cannot_be_right_is_refused(tmp_path: pathlib.Path) -> None:
    run(check_refused, 2, tmp_path)


def test_placements_of_layers() -> None:
    one, two = (lplb.Placement(np.roll([0, 1, 0, 2], 2 * k), 2) for k in range(2))
    balance = engine.Balance({3: one, 4: two}, max_tokens=64)
    assert balance.placement(4) == two
    with pytest.raises(ValueError, match=r"has layers \[3, 4\], expected MoE layer 5 too"):
        balance.placement(5)
    with pytest.raises(
        ValueError, match=r"\[\(4, 3\), \(6, 3\)\] \(slots, experts\), expected one"
    ):
        engine.Balance({3: one, 4: lplb.Placement([0, 1, 2] * 2, 2)}, max_tokens=64)
    with pytest.raises(ValueError, match="staleness: is 1, expected 0"):
        engine.Balance(one, max_tokens=64, staleness=1)
    with pytest.raises(TypeError, match=r"mlp: is .*, expected functools.partial\(MoELayer"):
        balance.spec(object)


def test_an_expert_twice_on_a_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 1 holds expert 2 twice, expected once"):
        engine.Balance(lplb.Placement([0, 1, 2, 2], 2), max_tokens=64)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = lplb.Placement([0, 1, 2, 0], 2)
    monkeypatch.setattr(engine, "TESTED", ("0.18.0",))
    with pytest.raises(engine.UnsupportedEngine, match="expected 0.18.0, which LPLB was tested"):
        engine.Balance(placement, max_tokens=64)
    assert engine.Balance(placement, max_tokens=64, any_version=True)
    monkeypatch.setitem(engine.SIGNATURES, f"{engine.LAYER}.route", "self hidden_states")
    with pytest.raises(engine.UnsupportedEngine, match=r"padding_mask\), expected \(self hidden"):
        engine.Balance(placement, max_tokens=64, any_version=True)
