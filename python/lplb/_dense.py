# SPDX-License-Identifier: MIT
"""Planner.run_dense()."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lplb._arrays import describe

if TYPE_CHECKING:
    from lplb._planner import Planner


def _check(planner: Planner, probs: Tensor, routing_map: Tensor) -> None:
    if not isinstance(probs, Tensor) or not probs.is_floating_point():
        raise TypeError(f"probs: is {describe(probs)}, expected a tensor of floats")
    if not isinstance(routing_map, Tensor) or routing_map.dtype != torch.bool:
        raise TypeError(f"routing_map: is {describe(routing_map)}, expected a tensor of torch.bool")
    if probs.dim() != 2 or probs.shape[1] != planner.num_logical_experts:
        raise ValueError(
            f"probs: has shape {list(probs.shape)}, expected [T, num_logical_experts "
            f"({planner.num_logical_experts})]"
        )
    if routing_map.shape != probs.shape:
        raise ValueError(
            f"routing_map: has shape {list(routing_map.shape)}, expected that of probs "
            f"{list(probs.shape)}"
        )
    if routing_map.device != probs.device:
        raise ValueError(f"routing_map: is on {routing_map.device}, expected {probs.device}")


def run_dense(
    planner: Planner, probs: Tensor, routing_map: Tensor, layer: int, all_counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    _check(planner, probs, routing_map)
    num_tokens, num_logical = probs.shape
    num_physical = planner.placement(layer).num_physical_experts
    experts = torch.arange(num_logical, dtype=torch.int32, device=probs.device)
    topk_idx = torch.where(routing_map, experts, -1)
    physical = planner.run(topk_idx, topk_idx, layer=layer, all_counts=all_counts)
    # A column more takes what goes nowhere. The experts of a token differ, and so do their slots.
    target = torch.where(physical < 0, num_physical, physical).long()
    shape = (num_tokens, num_physical + 1)
    dense = probs.new_zeros(shape).scatter(1, target, probs)
    sent = torch.zeros(shape, dtype=torch.bool, device=probs.device).scatter(1, target, True)
    return dense[:, :num_physical].contiguous(), sent[:, :num_physical].contiguous()
