# SPDX-License-Identifier: MIT
"""The planner on the CPU, on NumPy arrays."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from conftest import draw

import lplb


def group_batch(p: lplb.Placement, seed: int = 0) -> tuple[list[Any], Any]:
    """Each rank's tokens, and the packed counts of all."""
    ranks = [draw(100 + 10 * r, 4, p.num_logical_experts, seed + r) for r in range(p.num_ranks)]
    counts = np.stack([p.pack(lplb.count(ids, p.num_logical_experts)) for ids in ranks])
    return ranks, counts


def test_the_group_meets_the_quotas(cube: lplb.Placement) -> None:
    ranks, counts = group_batch(cube)
    load = sum(lplb.count(ids, 64) for ids in ranks)
    best = lplb.solve(cube, load)
    taken = np.zeros(80, dtype=np.int64)
    for rank, ids in enumerate(ranks):
        planner = lplb.Planner(cube, rank=rank)
        own = planner.count(ids)
        assert own.tolist() == counts[rank].tolist()
        mapped = planner.run(ids, all_counts=counts)
        assert mapped.dtype == ids.dtype and mapped.shape == ids.shape
        taken += np.bincount(mapped[mapped >= 0], minlength=80)
        stats = planner.stats()
        assert stats is not None
        assert (stats.batches, stats.optimal, stats.last_max_load) == (1, 1, best.max_load)
        assert stats.last_imbalance == best.imbalance
    assert taken.reshape(8, -1).sum(1).max() == best.max_load
    replicated = cube.replica_count[cube.physical_to_logical] > 1
    assert (taken == best.physical_load)[replicated].all()


def test_in_place_valid_tokens_and_dtypes(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    ids = draw(50, 4, 64, 3)
    want = planner.run(ids[:20].copy())
    for dtype in (np.int32, np.int64, np.uint32):
        batch = ids.astype(dtype)
        got = planner.run(batch, num_valid_tokens=20)
        assert got.dtype == dtype
        assert (got[:20] == want.astype(dtype)).all()
        assert (got[20:] == np.array(-1).astype(dtype)).all()
        assert planner.run(batch, batch, np.int32(20)) is batch
        assert (batch == got).all()
    assert planner.run([[0, 1]]).shape == (1, 2)
    assert planner.run(np.array([1, 2, 3])).shape == (3,)
    assert planner.run(np.zeros((2, 3, 4), np.int64), num_valid_tokens=6).shape == (2, 3, 4)


def test_no_tokens_is_a_batch(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    assert planner.run(np.empty((0, 8), np.int32)).shape == (0, 8)
    assert planner.stats().batches == 1


def test_the_same_tokens_everywhere_map_alike(cube: lplb.Placement) -> None:
    ids = draw(300, 4, 64, 5)
    results = [lplb.Planner(cube, rank=r, same_tokens=True).run(ids) for r in (0, 3, 7)]
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
    taken = np.bincount(results[0][results[0] >= 0], minlength=80)
    assert taken.reshape(8, -1).sum(1).max() == lplb.solve(cube, lplb.count(ids, 64)).max_load


def test_layers_have_a_placement_and_a_state_each(cube: lplb.Placement) -> None:
    other = lplb.Placement(np.roll(cube.physical_to_logical.reshape(8, 10), 1, 0).reshape(-1), 8)
    planner = lplb.Planner([cube, other], rank=1, same_tokens=True)
    ids = draw(100, 4, 64, 7)
    a, b = planner.run(ids), planner.run(ids, layer=1)
    assert (a != b).any()
    assert planner.placement(1) == other
    assert planner.stats(1).batches == 1
    assert planner.stats().batches == 2
    planner.update_placement(cube, layer=1)
    assert (planner.run(ids, layer=1) == a).all()
    planner.update_placement([other, other])
    assert (planner.run(ids) == b).all()
    assert lplb.Planner(cube, rank=0, num_layers=3).num_layers == 3
    with pytest.raises(ValueError, match="layer: is 2, expected 0 to 1"):
        planner.run(ids, layer=2)
    with pytest.raises(ValueError, match="placement: has 1 layers, expected 2"):
        planner.update_placement(cube)


def test_quotas_are_the_split(cube: lplb.Placement) -> None:
    ranks, counts = group_batch(cube, 11)
    load = sum(lplb.count(ids, 64) for ids in ranks)
    best = lplb.solve(cube, load)
    planner = lplb.Planner(cube, rank=2)
    _, quotas = planner.run_quotas(ranks[2], all_counts=counts)
    before = sum(lplb.count(ids, 64) for ids in ranks[:2])
    assert quotas.solved.tolist() == [1]
    for e in range(64):
        slots = [p for p in cube.logical_to_physical[e] if p >= 0]
        if len(slots) == 1:
            assert quotas.quota_end[e].tolist() == [2**31 - 1] * 2
            assert quotas.alloc[slots[0] // 10, e] == -1
            continue
        assert (
            np.diff(quotas.quota_end[e], prepend=0).tolist() == best.physical_load[slots].tolist()
        )
        assert quotas.source_prefix[e] == before[e]
        assert quotas.alloc[:, e].sum() == load[e]
        np.testing.assert_allclose(
            quotas.shares[e], best.physical_load[slots] / max(load[e], 1), rtol=1e-6
        )


def test_history(cube: lplb.Placement) -> None:
    batches = [draw(50, 4, 64, seed) for seed in range(5)]
    counts = [lplb.count(ids, 64) for ids in batches]
    planners = [
        lplb.Planner(cube, same_tokens=True, keep_history=True),
        lplb.Planner(cube, same_tokens=True, window=2),
        lplb.Planner(cube, same_tokens=True, decay=0.5, num_layers=2),
    ]
    for planner in planners:
        for ids in batches:
            planner.run(ids)
    assert planners[0].load_history(0).tolist() == sum(counts).tolist()
    assert planners[1].load_history(0).tolist() == (counts[3] + counts[4]).tolist()
    decayed = np.zeros(64)
    for c in counts:
        decayed = decayed * 0.5 + c
    assert planners[2].load_history().tolist() == [decayed.tolist(), [0.0] * 64]
    planners[2].clear_history()
    assert not planners[2].load_history().any()
    maps = lplb.rebalance_experts(planners[0].load_history(), 80, 1, 1, 8)
    planners[0].update_placement(lplb.Placement(maps[0][0], 8))
    with pytest.raises(ValueError, match="keep_history"):
        lplb.Planner(cube, rank=0).load_history()


def test_limits_of_a_new_placement(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    more = lplb.Placement(np.concatenate([np.arange(64), np.arange(64)]), 8)
    with pytest.raises(ValueError, match="64 redundant slots, expected at most max_redundants .16"):
        planner.update_placement(more)
    lplb.Planner(cube, same_tokens=True, max_redundants=64).update_placement(more)
    with pytest.raises(TypeError, match="placement: is a str, expected an lplb.Placement"):
        planner.update_placement("cube", layer=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p, x: p.run(x.astype(np.float32)), TypeError, ["topk_idx", "float32", "int32"]),
        (lambda p, x: p.run(x, read_only(x)), ValueError, ["out", "read-only"]),
        (lambda p, x: p.run(x, x.astype(np.int32)), ValueError, ["out", "int32", "int64"]),
        (lambda p, x: p.run(x, [1]), TypeError, ["out"]),
        (lambda p, x: p.run(x, num_valid_tokens=11), ValueError, ["num_valid_tokens", "11", "10"]),
        (lambda p, x: p.run("abc"), TypeError, ["topk_idx", "str"]),
        (lambda p, x: p.run(np.zeros((40000, 8), np.int32)), ValueError, ["topk_idx", "320000"]),
    ],
)
def test_bad_batches_say_what_is_wrong(
    cube: lplb.Placement, call: Any, error: type[Exception], words: list[str]
) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    with pytest.raises(error) as raised:
        call(planner, draw(10, 8, 64, 1))
    for word in words:
        assert word in str(raised.value)
    assert planner.stats().batches == 0


@pytest.mark.parametrize(("given", "valid"), [(-3, 0), (0, 0), (4, 4), (10, 10), (99, 10)])
def test_an_array_of_valid_tokens_is_clamped(cube: lplb.Placement, given: int, valid: int) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    ids = draw(10, 8, 64, 1)
    want = planner.run(ids, num_valid_tokens=valid)
    for array in (np.array([given], np.int32), np.array(given)):
        assert (planner.run(ids, num_valid_tokens=array) == want).all()
        counted = planner.count(ids, array)
        assert (counted == planner.count(ids, valid)).all()
    for bad in (np.array([1, 2]), np.array([1.0]), "3", 2.0):
        with pytest.raises(TypeError, match="num_valid_tokens"):
            planner.run(ids, num_valid_tokens=bad)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, ["rank", "None"]),
        ({"rank": 8}, ValueError, ["rank", "8", "7"]),
        ({"rank": 0, "backend": "tpu"}, ValueError, ["backend", "tpu"]),
        ({"rank": 0, "num_topk": 0}, ValueError, ["num_topk", "0"]),
        ({"rank": 0, "max_tokens": 2**31}, ValueError, ["max_tokens"]),
        ({"rank": 0, "window": 2, "decay": 0.5}, ValueError, ["decay"]),
        ({"rank": 0, "timeout": 0}, ValueError, ["timeout"]),
        ({"rank": 0, "solver": "magic"}, ValueError, ["magic"]),
        ({"rank": 0, "max_redundants": 1}, ValueError, ["max_redundants"]),
        ({"group": "world"}, TypeError, ["group", "str", "ProcessGroup"]),
    ],
)
def test_bad_planners_say_what_is_wrong(
    cube: lplb.Placement, options: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    pytest.importorskip("torch")
    with pytest.raises(error) as raised:
        lplb.Planner(cube, **options)
    for word in words:
        assert word in str(raised.value)


def test_counts_are_needed_and_checked(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, rank=0)
    ids, counts = group_batch(cube)
    with pytest.raises(ValueError, match="all_counts: is None"):
        planner.run(ids[0])
    with pytest.raises(ValueError, match="all_counts: has shape"):
        planner.run(ids[0], all_counts=counts[:, :3])
    bad = counts.copy()
    bad[1, 0] = -1
    with pytest.raises(ValueError, match=r"all_counts: has -1 at \[1, 0\], expected >= 0"):
        planner.run(ids[0], all_counts=bad)
    bad[1, 0] = 2**62
    bad[2, 0] = 2**62
    with pytest.raises(
        ValueError, match=r"all_counts: the counts of all ranks: they sum past 2\^63"
    ):
        planner.run(ids[0], all_counts=bad)
    planner.run(ids[0], all_counts=counts)


def read_only(x: Any) -> Any:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def test_views_are_taken(cube: lplb.Placement) -> None:
    """Columns, rows, the other order, a step backwards; for tokens, results and counts."""
    planner = lplb.Planner(cube, rank=0)
    ids, counts = group_batch(cube)
    wide = np.full((2 * len(ids[0]), 7), -1)
    wide[::2, 1:5] = ids[0]
    want = planner.run(ids[0], all_counts=counts)
    for view in (wide[::2, 1:5], np.asfortranarray(ids[0]), ids[0][::-1].copy()[::-1]):
        assert not view.flags.c_contiguous
        got = planner.run(view, all_counts=np.asfortranarray(counts))
        assert (got == want).all() and got.flags.c_contiguous
        assert (planner.count(view) == planner.count(ids[0])).all()
        again, _ = planner.run_quotas(view, view, all_counts=counts)
        assert again is view and (view == want).all()
    assert (wide[1::2] == -1).all() and (wide[:, [0, 5, 6]] == -1).all()


def test_what_is_not_a_placement_is_told(cube: lplb.Placement) -> None:
    call: Any
    for call in (
        lambda: lplb.solve([1, 2, 3], cube),  # type: ignore[arg-type]
        lambda: lplb.split_evenly("cube", [1]),  # type: ignore[call-overload]
        lambda: lplb.map_tokens(3, None, [1], 0, [0]),  # type: ignore[call-overload]
        lambda: lplb.Planner(7),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="placement: is an? .*, expected an lplb.Placement"):
            call()
    with pytest.raises(TypeError, match="old: is a list, expected an lplb.Placement"):
        lplb.moves([], cube)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Planner: takes one argument without a name.* group="):
        lplb.Planner(cube, "group")  # type: ignore[call-arg, arg-type]
    with pytest.raises(TypeError, match="Planner: takes one argument without a name"):
        lplb.Planner([cube], "group", 3)  # type: ignore[call-arg, arg-type]


def test_threads_take_turns(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    ids = draw(2000, 8, 64, 1)
    want = planner.run(ids)
    equal: list[bool] = []

    def work() -> None:
        equal.extend(bool((planner.run(ids) == want).all()) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 80
    assert planner.stats().batches == 81


def test_planners_are_freed(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    planner.run(draw(5, 8, 64, 1))
    gone = weakref.ref(planner)
    del planner
    gc.collect()
    assert gone() is None
