# SPDX-License-Identifier: MIT
"""SharedPlanner: blocks of ranks that share their tokens."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from conftest import draw
from optional import torch
from ranks import denser_placement, make_placement, run_ranks

import lplb

SHARED = 2


def own_group(rank: int, size: int) -> Any:
    """The ranks with this rank's place in their blocks."""
    groups = [
        torch.distributed.new_group(range(place, size, SHARED), backend="gloo")
        for place in range(SHARED)
    ]
    return groups[rank % SHARED]


def check_blocks(rank: int, size: int, _folder: str) -> None:
    placements = [make_placement(size), make_placement(size, 1)]
    planner = lplb.SharedPlanner(
        placements,
        group=own_group(rank, size),
        shared_by=SHARED,
        max_redundants=6 * size,
        keep_history=True,
    )
    for batch in range(6):
        if batch == 3:
            placements = [placements[0], denser_placement(size)]
            planner.update_placement(placements[1], layer=1)
        for layer, placement in enumerate(placements):
            batches = [
                draw(
                    0 if (batch, block) == (2, 1) else 40 + 30 * block,
                    4,
                    16 * size,
                    10 * batch + block,
                )
                for block in range(size // SHARED)
            ]
            ids = torch.from_numpy(batches[rank // SHARED])
            slots = planner.run(ids, num_valid_tokens=min(35, len(ids)), layer=layer)
            told: list[Any] = [None] * size
            torch.distributed.all_gather_object(told, slots.numpy())
            for other in range(size):
                assert (told[other] == told[other - other % SHARED]).all(), "a block chose apart"
            total = np.zeros(16 * size, np.int64)
            taken = np.zeros(size, np.int64)
            for block, logical in enumerate(batches):
                real, mapped = logical[:35], told[block * SHARED][:35]
                held = placement.physical_to_logical[np.maximum(mapped, 0)]
                assert (np.where(mapped < 0, -1, held) == real).all()
                assert (told[block * SHARED][35:] == -1).all()
                total += lplb.count(real, 16 * size)
                ranks = mapped[mapped >= 0] // placement.slots_per_rank
                taken += np.bincount(ranks, minlength=size)
            assert taken.max() == lplb.solve(placement, total).max_load
    with pytest.raises(ValueError, match=rf"has {size} ranks, expected {3 * size // 2}: shared_by"):
        lplb.SharedPlanner(placements[0], group=planner.group, shared_by=3)
    with pytest.raises(TypeError, match="staleness: is not an argument of SharedPlanner"):
        lplb.SharedPlanner(placements[0], group=planner.group, shared_by=2, staleness=1)
    shifted = make_placement(size, rank // SHARED)
    with pytest.raises(ValueError, match="placement: differs between the ranks"):
        lplb.SharedPlanner(shifted, group=planner.group, shared_by=2)


def test_blocks_map_alike_and_all_ranks_are_balanced(tmp_path: pathlib.Path) -> None:
    errors = run_ranks(check_blocks, 4, tmp_path)
    assert not any(errors), "\n".join(errors)
