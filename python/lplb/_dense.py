# SPDX-License-Identifier: MIT
"""Planner.run_dense()."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lplb._arrays import describe


def _check(probs: Tensor, routing_map: Tensor, num_logical_experts: int) -> None:
    if not isinstance(probs, Tensor) or not probs.is_floating_point():
        raise TypeError(f"probs: is {describe(probs)}, expected a tensor of floats")
    if not isinstance(routing_map, Tensor) or routing_map.dtype != torch.bool:
        raise TypeError(f"routing_map: is {describe(routing_map)}, expected a tensor of torch.bool")
    if probs.dim() != 2 or probs.shape[1] != num_logical_experts:
        raise ValueError(
            f"probs: has shape {list(probs.shape)}, expected [T, num_logical_experts "
            f"({num_logical_experts})]"
        )
    if routing_map.shape != probs.shape:
        raise ValueError(
            f"routing_map: has shape {list(routing_map.shape)}, expected that of probs "
            f"{list(probs.shape)}"
        )
    if routing_map.device != probs.device:
        raise ValueError(f"routing_map: is on {routing_map.device}, expected {probs.device}")


def run_dense(
    run: Callable[[Tensor], Tensor],
    num_logical: int,
    num_physical: int,
    probs: Tensor,
    routing_map: Tensor,
) -> tuple[Tensor, Tensor]:
    """`run` maps a topk_idx in place, and returns it."""
    _check(probs, routing_map, num_logical)
    num_tokens = probs.shape[0]
    experts = torch.arange(num_logical, dtype=torch.int32, device=probs.device)
    physical = run(torch.where(routing_map, experts, -1))
    # One more column takes what goes nowhere. A token's experts differ, and so do their slots.
    target = torch.where(physical < 0, num_physical, physical).long()
    shape = (num_tokens, num_physical + 1)
    dense = probs.new_zeros(shape).scatter(1, target, probs)
    sent = torch.zeros(shape, dtype=torch.bool, device=probs.device).scatter(1, target, True)
    return dense[:, :num_physical].contiguous(), sent[:, :num_physical].contiguous()
