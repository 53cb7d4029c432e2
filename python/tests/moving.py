# SPDX-License-Identifier: MIT
"""A small MoE whose weights move, for ranks that are processes (ranks.py).

All numbers are small integers in float32, so sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import lplb

EXPERTS, SLOTS, WIDTH, TOPK = 16, 6, 4, 2


def model(num_layers: int) -> list[list[torch.Tensor]]:
    """Every layer's w [16, 4, 4] float32, a bias [16, 4] int16 and a scale [16] bfloat16."""
    random = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-3, 4, shape, generator=random)

    return [
        [
            draw(EXPERTS, WIDTH, WIDTH).float(),
            draw(EXPERTS, WIDTH).to(torch.int16),
            draw(EXPERTS).to(torch.bfloat16),
        ]
        for _ in range(num_layers)
    ]


def contiguous(size: int) -> lplb.Placement:
    """Homes in order, and replica slots with the next experts."""
    homes = EXPERTS // size
    rows = [[(g * homes + i) % EXPERTS for i in range(homes + SLOTS - homes)] for g in range(size)]
    return lplb.Placement(np.concatenate(rows), size, EXPERTS)


def weights_of(
    layers: Sequence[Sequence[torch.Tensor]], placements: Sequence[lplb.Placement], rank: int
) -> list[list[torch.Tensor]]:
    """What the slots of `rank` hold."""
    held = []
    for tensors, placement in zip(layers, placements, strict=True):
        mine = placement.physical_to_logical.reshape(placement.num_ranks, -1)[rank]
        held.append([t[torch.from_numpy(mine.astype(np.int64))].clone() for t in tensors])
    return held


def apply(tensors: Sequence[torch.Tensor], expert: int, tokens: torch.Tensor) -> torch.Tensor:
    w, bias, scale = tensors
    return (tokens @ w[expert] + bias[expert].float()) * scale[expert].float()


def plain(tensors: Sequence[torch.Tensor], tokens: torch.Tensor, ids: Any) -> torch.Tensor:
    """The layer's result without expert parallelism."""
    out = torch.zeros_like(tokens)
    for column in range(ids.shape[1]):
        for expert in range(EXPERTS):
            taken = ids[:, column] == expert
            out[taken] += apply(tensors, expert, tokens[taken])
    return out


def spread(
    held: Sequence[torch.Tensor], tokens: torch.Tensor, physical: Any, rank: int, size: int
) -> torch.Tensor:
    """The same with `physical` ids and this rank's slots `held`. Collective."""
    mine = torch.cat([tokens, physical.float()], 1)
    everyone = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(everyone, mine)
    rows = torch.cat(everyone)
    out = torch.zeros((len(rows), WIDTH))
    for column in range(physical.shape[1]):
        for slot in range(SLOTS):
            taken = rows[:, WIDTH + column] == rank * SLOTS + slot
            out[taken] += apply(held, slot, rows[taken, :WIDTH])
    dist.all_reduce(out)
    return out[rank * len(tokens) : (rank + 1) * len(tokens)]


def drawn(random: np.random.Generator, tokens: int, popularity: Any) -> tuple[Any, Any]:
    """Tokens [tokens, 4] and the two different experts of each."""
    x = torch.from_numpy(random.integers(-4, 5, (tokens, WIDTH)).astype(np.float32))
    noise = random.gumbel(size=(tokens, EXPERTS)) + np.log(popularity)
    return x, torch.from_numpy(np.argsort(-noise, axis=1)[:, :TOPK].copy())
