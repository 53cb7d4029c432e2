# SPDX-License-Identifier: MIT
"""Experts that move to other slots while a model is trained: weights and the optimiser's state."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import lplb
from lplb.engines._seams import UnsupportedEngine


def tensors_of_slots(layer: Any, optimizers: list[Any]) -> list[list[Tensor]]:
    """All that moves with each slot of this rank, in one order. Collective.

    All ranks raise RuntimeError unless all slots have the same kinds of state.
    """
    slots = [_tensors_of(slot, optimizers) for slot in layer.slots()]
    told: list[Any] = [None] * dist.get_world_size(layer.ep_group)
    dist.all_gather_object(told, [[*slot] for slot in slots], group=layer.ep_group)
    for slot, names in enumerate(names for rank in told for names in rank):
        if names != told[0][0]:
            raise RuntimeError(
                f"optimizer: slot {slot} of layer {layer.number} has {', '.join(names)}, expected "
                f"what slot 0 has ({', '.join(told[0][0])}): move between two steps"
            )
    return [[*slot.values()] for slot in slots]


@torch.no_grad()
def move_experts(
    layer: Any, held: list[list[Tensor]], old: lplb.Placement, new: lplb.Placement
) -> None:
    """Moves what the first slot of each expert holds to its first slot in `new`. Collective.

    The other slots of `new` do not get weights yet, and need no state: their gradients are zero.
    """
    pairs = [(a, b) for a, b in zip(first_slots(old), first_slots(new)) if a != b]
    for target, values in layer.transfer(pairs, lambda slot: held[slot]):
        for tensor, value in zip(held[target % len(held)], values, strict=True):
            tensor.copy_(value)


def first_slots(placement: lplb.Placement) -> list[int]:
    """The first slot of each expert: the one that learns."""
    first: list[int] = placement.logical_to_physical[:, 0].tolist()
    return first


def optimizers_of(optimizer: Any) -> list[Any]:
    """PyTorch's optimisers in one of PyTorch's or Megatron's, as far as their state can move."""
    if hasattr(optimizer, "chained_optimizers"):
        return [one for part in optimizer.chained_optimizers for one in optimizers_of(part)]
    if type(optimizer).__name__ == "DistributedOptimizer":
        raise UnsupportedEngine(
            "optimizer: is a DistributedOptimizer, whose ranks hold parts of the state, expected "
            "another one: save a checkpoint, and load it into a Balance of the new placement"
        )
    found = getattr(optimizer, "optimizer", optimizer)
    if not hasattr(found, "state"):
        raise TypeError(
            f"optimizer: is a {type(optimizer).__name__}, expected one of PyTorch's or Megatron's"
        )
    return [found]


def _tensors_of(slot: dict[str, Tensor], optimizers: list[Any]) -> dict[str, Tensor]:
    """All that moves with a slot: weights, the copies that are optimised, and their state."""
    found: dict[str, Tensor] = {}
    for name, parameter in slot.items():
        found[name] = parameter.data
        optimized: Any = getattr(parameter, "main_param", None)
        if optimized is None:
            optimized = parameter
        else:
            found[f"{name} (optimised)"] = optimized.data
        for one in optimizers:
            for key, value in sorted(one.state.get(optimized, {}).items()):
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    found[f"{key} of {name}"] = value
    return found
