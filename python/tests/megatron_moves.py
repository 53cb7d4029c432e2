# SPDX-License-Identifier: MIT
"""Experts that move while a layer is trained, and experts of Megatron's TEGroupedMLP."""

from __future__ import annotations

import functools
import time
import types
from typing import Any

import megatron_ranks as m
import pytest
import torch
import torch.distributed as dist
from megatron.core.optimizer.optimizer import ChainedOptimizer
from megatron.core.transformer.moe.experts import GroupedMLPSubmodules, TEGroupedMLP
from megatron.core.transformer.moe.moe_layer import MoELayer, MoESubmodules
from megatron.core.transformer.utils import (
    ensure_metadata_has_dp_cp_group,
    make_sharded_tensors_for_checkpoint,
)

import lplb
from lplb.engines.megatron import UnsupportedEngine


def train_both(layers: Any, optimizers: Any, seeds: range) -> None:
    """A step for each seed; outputs, and then the experts' weights, must be equal."""
    want = m.train(layers[0], optimizers[0], seeds)
    torch.testing.assert_close(m.train(layers[1], optimizers[1], seeds), want)
    m.expect_weights(*layers)


def check_move(_rank: int, size: int, _folder: str, optimizer: str) -> None:
    """A layer whose experts move after each two steps learns what the plain one does."""
    m.start(size)
    layers = m.make_layers(size, "alltoall")
    balance = layers[1].balance
    adam = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in layers]
    attached: Any = adam[1]
    if optimizer == "megatron":  # one of Megatron's around PyTorch's
        one = types.SimpleNamespace(
            optimizer=adam[1], step=adam[1].step, config=None, zero_grad=adam[1].zero_grad
        )
        attached = ChainedOptimizer([one])
        attached.step = one.step
    balance.attach(attached)
    steps = [types.SimpleNamespace(zero_grad=adam[i].zero_grad) for i in range(2)]
    steps[0].step, steps[1].step = adam[0].step, attached.step
    train_both(layers, steps, range(2))
    planner = balance.planner()
    for seed in (2, 3):
        new = m.make_placement(size, seed)
        assert new != balance.placement(2)
        balance.move({2: new} if seed == 3 else new)
        assert layers[1].placement == new
        m.expect_weights(*layers)
        train_both(layers, steps, range(2 * seed, 2 * seed + 2))
        expect_moments(layers, adam)
    stats = planner.stats()
    assert balance.planner() is planner and stats is not None
    assert stats.optimal == stats.batches == 6


def expect_moments(layers: Any, adam: Any) -> None:
    """The first slot of each expert has the optimiser's state of the plain layer's expert."""
    experts = m.all_moments(layers[0], adam[0])
    width = layers[1].num_local_experts
    first = layers[1].placement.logical_to_physical[:, 0].tolist()
    for slot, mine in enumerate(m.experts_of(layers[1])):
        if dist.get_rank() * width + slot in first:
            expert = first.index(dist.get_rank() * width + slot)
            for name, parameter in mine.items():
                moment = adam[1].state[parameter]["exp_avg"]
                torch.testing.assert_close(moment, experts[expert][name])


def check_move_refused(rank: int, size: int, _folder: str) -> None:
    m.start(size)
    _, balanced = m.make_layers(size, "alltoall")
    balance = balanced.balance
    adam = torch.optim.Adam(balanced.parameters(), lr=0.01)
    balance.attach(adam)
    m.train(balanced, adam, range(1))
    before, new = balance.placement(2), m.make_placement(size, 2)
    with pytest.raises(ValueError, match=r"has \(8, 4\) \(slots, experts\), expected \(12, 8\)"):
        balance.move(lplb.Placement([0, 1, 2, 3] * 2, 2))
    with pytest.raises(ValueError, match="rank 0 holds expert 0 twice"):
        balance.move(lplb.Placement([0, 0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 2))
    with pytest.raises(ValueError, match=r"has layers \[5\], expected MoE layer 2 too"):
        balance.move({5: new})
    with pytest.raises(ValueError, match="placement: differs between the ranks"):
        balance.move(new if rank else m.make_placement(size, 3))
    distributed: Any = type("DistributedOptimizer", (), {})()
    distributed.step = adam.step
    balance.attach(distributed)
    with pytest.raises(UnsupportedEngine, match="is a DistributedOptimizer, whose ranks hold"):
        balance.move(new)
    balance.attach(adam)
    if rank == 0:  # this slot has not learnt yet
        del adam.state[next(balanced.experts.parameters())]
    with pytest.raises(RuntimeError, match="slot . of layer 2 has .*, expected what slot 0 has"):
        balance.move(new)
    assert balance.placement(2) == before == balance.planner().placement()


class GroupedLinear(torch.nn.Module):
    """Transformer Engine's GroupedLinear without a GPU: a weight for each slot, by number."""

    def __init__(
        self, num_gemms: int, inputs: int, outputs: int, *, pg_collection: Any, **_: Any
    ) -> None:
        super().__init__()
        self.num_gemms, self.groups = num_gemms, pg_collection
        for slot in range(num_gemms):
            weight = torch.nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
            self.register_parameter(f"weight{slot}", weight)

    def forward(self, rows: torch.Tensor, splits: list[int]) -> tuple[torch.Tensor, None]:
        parts = torch.split(rows, splits)
        weights = [getattr(self, f"weight{slot}") for slot in range(self.num_gemms)]
        return torch.cat([part @ w.t() for part, w in zip(parts, weights, strict=True)]), None

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: Any = (), metadata: Any = None
    ) -> dict[str, Any]:
        """The entries that Transformer Engine's module has: an axis counts the slots."""
        metadata = ensure_metadata_has_dp_cp_group(metadata)
        found = {}
        for slot in range(self.num_gemms):
            number = self.groups.ep.rank() * self.num_gemms + slot
            total = self.groups.ep.size() * self.num_gemms
            offsets = (*sharded_offsets, (len(sharded_offsets), number, total))
            made = make_sharded_tensors_for_checkpoint(
                {"weight": getattr(self, f"weight{slot}"), "_extra_state": None},
                prefix,
                {},
                offsets,
                tp_group=self.groups.expt_tp,
                dp_cp_group=metadata["dp_cp_group"],
            )
            for name, entry in made.items():
                entry.replica_id = (*entry.replica_id[:2], self.groups.expt_dp.rank())
                found[f"{name}{slot}"] = entry
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for slot in range(self.num_gemms):
            del state_dict[f"{prefix}_extra_state{slot}"]
        super()._load_from_state_dict(state_dict, prefix, *rest)


def grouped_builder() -> Any:
    linears = GroupedMLPSubmodules(linear_fc1=GroupedLinear, linear_fc2=GroupedLinear)
    experts = functools.partial(TEGroupedMLP, submodules=linears)
    return functools.partial(MoELayer, submodules=MoESubmodules(experts=experts))


def check_grouped_checkpoint(_rank: int, size: int, folder: str) -> None:
    """From a plain TEGroupedMLP into a balanced one, and from there into a plain SequentialMLP."""
    m.start(size)
    plain, balanced = m.make_layers(size, "alltoall", grouped_builder)
    path = m.save(plain, folder, "plain")
    for parameter in balanced.parameters():
        parameter.data.normal_()
    m.load(balanced, path)
    m.expect_weights(plain, balanced)
    path = m.save(balanced, folder, "balanced")
    back = m.plain_builder()(config=m.make_config(size, "alltoall"))
    m.load(back, path)
    with torch.no_grad():
        want = plain(m.tokens(9))[0]
        torch.testing.assert_close(balanced(m.tokens(9))[0], want)
        torch.testing.assert_close(back(m.tokens(9))[0], want)


def check_skipped(rank: int, size: int, _folder: str) -> None:
    """A rank that skips a batch: the others get an error in time."""
    m.start(size)
    _, balanced = m.make_layers(size, "alltoall")
    balanced.eval()
    balanced(m.tokens(0))
    exchange: Any = balanced.balance.planner()._group.exchange
    exchange.timeout = 1.0
    if rank == 0:
        with pytest.raises(RuntimeError, match="did not get the counts of layer 0 within 1 s"):
            balanced(m.tokens(1))
    else:
        time.sleep(2)
