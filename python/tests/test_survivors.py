# SPDX-License-Identifier: MIT
"""Groups that have only the live ranks of a placement, over gloo."""

from __future__ import annotations

import itertools
import pathlib

import numpy as np
import pytest
from conftest import draw
from optional import torch
from ranks import everywhere, run_ranks, world

import lplb


def lossy(*dead: int) -> lplb.Placement:
    """Six experts in twelve slots of three ranks; every two ranks have all of them."""
    alive = [rank not in dead for rank in range(3)]
    return lplb.Placement([0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 0, 1], 3, rank_alive=alive)


def tokens(member: int, batch: int) -> np.ndarray:
    return draw((3, 0, 5)[(member + batch) % 3], 2, 6, 10 * batch + member)


def survive(rank: int, size: int, folder: str) -> None:
    planners = [
        lplb.Planner(lossy(1), group=world(), timeout=30, staleness=staleness, num_layers=2)
        for staleness in (0, 1)
    ]
    for planner in planners:
        assert (planner.rank, planner.num_ranks) == ((0, 2)[rank], 3)
    for batch in range(6):
        ids = tokens(rank, batch)
        mapped, quotas = planners[0].run_quotas(torch.from_numpy(ids), layer=batch % 2)
        late = planners[1].run(torch.from_numpy(ids), layer=0)
        np.savez(
            f"{folder}/batch{batch}rank{rank}",
            ids=ids,
            mapped=mapped,
            late=late,
            alloc=quotas.alloc,
        )
    stats = planners[0].stats()
    assert stats is not None and stats.optimal == 6


def least_load(placement: lplb.Placement, load: list[int]) -> int:
    """The least largest rank load, by trying every split: each expert has two live replicas or one.

    The sum over single replicas is fixed, so the first live rank is filled token by token.
    """
    alive = np.flatnonzero(placement.rank_alive)
    slots = placement.physical_to_logical.reshape(3, 4)
    homes = [[r for r in alive if e in slots[r]] for e in range(6)]
    best = sum(load)
    choices = [range(n + 1) if len(home) == 2 else [n] for n, home in zip(load, homes, strict=True)]
    for taken in itertools.product(*choices):
        ranks = [0, 0, 0]
        for n, own, home in zip(load, taken, homes, strict=True):
            ranks[home[0]] += own
            ranks[home[-1]] += n - own
        best = min(best, max(ranks))
    return best


def test_two_of_three_ranks_plan_optimally(tmp_path: pathlib.Path) -> None:
    assert run_ranks(survive, 2, tmp_path) == ["", ""]
    placement = lossy(1)
    before: tuple[np.ndarray, list[np.ndarray]] | None = None
    for batch in range(6):
        found = [np.load(tmp_path / f"batch{batch}rank{r}.npz") for r in range(2)]
        ids = np.concatenate([f["ids"] for f in found])
        mapped = np.concatenate([f["mapped"] for f in found])
        assert ((mapped < 0) == (ids < 0)).all()
        assert (placement.physical_to_logical[mapped[mapped >= 0]] == ids[mapped >= 0]).all()
        ranks = np.bincount(mapped[mapped >= 0] // 4, minlength=3)
        assert ranks[1] == 0  # the dead rank
        assert ranks.max() == least_load(placement, lplb.count(ids, 6).tolist())
        # The plan is that of a group of three whose dead rank has no tokens.
        counts = np.zeros((3, placement.packed_size), np.int64)
        for rank, f in zip((0, 2), found, strict=True):
            counts[rank] = placement.pack(lplb.count(f["ids"], 6))
        for rank, f in zip((0, 2), found, strict=True):
            whole = lplb.Planner(placement, rank=rank)
            want, quotas = whole.run_quotas(f["ids"], all_counts=counts)
            assert (f["mapped"] == want).all() and (f["alloc"] == quotas.alloc).all()
            if before is not None:
                late = lplb.Planner(placement, rank=rank, staleness=1)
                late.run(before[1][rank // 2])
                assert (f["late"] == late.run(f["ids"], all_counts=before[0])).all()
        before = counts, [f["ids"] for f in found]


def lose_another(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(everywhere(4, 1), group=world(), timeout=3)
    with pytest.raises(ValueError, match=r"has 2 live ranks, expected as many as .* members \(3\)"):
        planner.update_placement(everywhere(4, 1, 2))
    with pytest.raises(ValueError, match=r"live ranks are \[0, 1, 3\], expected \[0, 2, 3\]"):
        planner.update_placement(everywhere(4, 2))
    planner.update_placement(everywhere(4, 1))
    planner.run(torch.zeros((2, 1), dtype=torch.int64))
    for placements, why in (
        (everywhere(4), r"group: has 3 ranks, expected those of the placement \(4\)$"),
        (everywhere(4, 0, 1), r"group: has 3 ranks, expected .* \(4\) or its live ones \(2\)$"),
        ([everywhere(4, 1), everywhere(4, 2)], r"live ranks are \[0, 1, 3\], expected"),
    ):
        with pytest.raises(ValueError, match=why):
            lplb.Planner(placements, group=world(), timeout=3)
    with pytest.raises(
        ValueError, match=f"rank: is 1, expected that in the group .{(0, 2, 3)[rank]}"
    ):
        lplb.Planner(everywhere(4, 1), group=world(), rank=1, timeout=3)


def test_members_stay_the_live_ranks(tmp_path: pathlib.Path) -> None:
    assert run_ranks(lose_another, 3, tmp_path) == [""] * 3


def dead_ranks_call(rank: int, size: int, folder: str) -> None:
    planner = lplb.Planner(everywhere(3, 1), group=world(), timeout=3)
    assert planner.rank == rank
    planner.run(torch.zeros((2, 1), dtype=torch.int64))
    planner.update_placement(everywhere(3, 1, 2))
    assert (planner.run(torch.zeros((2, 1), dtype=torch.int64)) == 0).all()


def test_a_group_of_all_ranks_goes_on(tmp_path: pathlib.Path) -> None:
    assert run_ranks(dead_ranks_call, 3, tmp_path) == [""] * 3
