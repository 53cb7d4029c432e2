# SPDX-License-Identifier: MIT
"""Planners with staleness 1 on the CPU: each batch is split by the previous one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import cuda_missing, draw

import lplb

SMALL = lplb.Placement([0, 1, 2, 0], num_ranks=2)  # expert 0 on both ranks
WIDER = lplb.Placement([0, 1, 2, 2, 1, 0], num_ranks=2)


def batches(num: int, num_ranks: int = 8, num_experts: int = 64) -> list[list[Any]]:
    """Each rank's tokens of each batch."""
    return [
        [draw(40 * (b + r) % 300, 4, num_experts, 100 * b + r) for r in range(num_ranks)]
        for b in range(num)
    ]


def counts_of(ranks: list[Any], num_experts: int = 64) -> Any:
    return np.stack([lplb.count(ids, num_experts) for ids in ranks])


def packed(placement: lplb.Placement, ranks: list[Any]) -> Any:
    return np.stack([placement.pack(row) for row in counts_of(ranks)])


def by_the_previous(placement: lplb.Placement, last: list[Any], rank: int, ids: Any) -> Any:
    split = lplb.solve(placement, counts_of(last).sum(0))
    return lplb.map_tokens(placement, None, split.physical_load, rank, ids)


def is_even(placement: lplb.Placement, ids: Any, mapped: Any) -> bool:
    """Whether each expert's tokens are spread evenly over its own replicas."""
    live = ids >= 0
    taken = np.bincount(mapped[live], minlength=placement.num_physical_experts)
    slots = [[p for p in row if p >= 0] for row in placement.logical_to_physical]
    return (
        ((mapped >= 0) == live).all()
        and (placement.physical_to_logical[mapped[live]] == ids[live]).all()
        and all(np.ptp(taken[s]) <= 1 for s in slots)
    )


def kinds() -> list[Any]:
    def with_torch(array: Any) -> Any:
        return None if array is None else pytest.importorskip("torch").from_numpy(array)

    return [pytest.param(lambda array: array, id="numpy"), pytest.param(with_torch, id="torch")]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("rank", [0, 5])
def test_a_batch_is_split_by_the_previous_one(cube: lplb.Placement, kind: Any, rank: int) -> None:
    planner = lplb.Planner(cube, rank=rank, staleness=1, num_layers=2, keep_history=True)
    last: list[Any] = [None, None]
    done = batches(8)
    for b, ranks in enumerate(done):
        layer = b % 2
        rows = None if last[layer] is None else packed(cube, last[layer])
        if rows is not None:
            rows[rank] = -1  # ignored: the planner knows its own counts
        got = planner.run(kind(ranks[rank]), layer=layer, all_counts=kind(rows))
        if last[layer] is None:
            assert is_even(cube, ranks[rank], np.asarray(got))
        else:
            assert (np.asarray(got) == by_the_previous(cube, last[layer], rank, ranks[rank])).all()
        last[layer] = ranks
    stats = planner.stats()
    assert stats is not None
    assert (stats.batches, stats.unplanned, stats.degraded) == (8, 2, 0)
    assert stats.solved == stats.optimal == 6
    best = lplb.solve(cube, counts_of(done[5]).sum(0))
    first = planner.stats(1)
    assert first is not None and first.last_max_load == best.max_load
    assert (
        planner.load_history(1).tolist()
        == sum(lplb.count(done[b][rank], 64) for b in (1, 3, 5, 7)).tolist()
    )


def test_the_counts_of_the_previous_batch() -> None:
    planner = lplb.Planner(SMALL, rank=0, staleness=1)
    # There is no batch before the first one: these counts are ignored.
    assert planner.run([0, 0, 0, 0], all_counts=np.full((2, 3), 7)).tolist() == [0, 0, 3, 3]
    # In the first batch rank 1 had four tokens of expert 2, so expert 0 belongs on rank 0 alone.
    assert planner.run([0, 0, 1, -1, 7, 0], all_counts=[[4, 0, 0], [0, 0, 4]]).tolist() == [
        0,
        0,
        1,
        -1,
        -1,
        0,
    ]
    # In the second one rank 1 had none: of three tokens of expert 0 two belong there.
    assert planner.run([0] * 6, all_counts=[[3, 1, 0], [0, 0, 0]]).tolist() == [0, 0, 3, 3, 3, 3]
    assert planner.run([0, 0]).tolist() == [0, 3]
    stats = planner.stats()
    assert stats is not None
    assert (stats.batches, stats.solved, stats.unplanned, stats.degraded) == (4, 2, 2, 0)
    assert stats.out_of_range == 1 and stats.last_max_load == 2


def test_another_layout_starts_again() -> None:
    planner = lplb.Planner(SMALL, rank=0, staleness=1, max_redundants=3)
    planner.run([0, 0])
    planner.update_placement(WIDER)
    # The counts are those of the previous batch, with the shape of its placement.
    with pytest.raises(ValueError, match=r"all_counts: has shape \[2, 5\], expected \[2, 3\]"):
        planner.run([0, 0], all_counts=np.zeros((2, 5), np.int64))
    assert planner.run([0, 0], all_counts=np.zeros((2, 3), np.int64)).tolist() == [0, 5]
    with pytest.raises(ValueError, match=r"all_counts: has shape \[2, 3\], expected \[2, 5\]"):
        planner.run([0, 0], all_counts=np.zeros((2, 3), np.int64))
    assert planner.run([0, 0], all_counts=np.zeros((2, 5), np.int64)).tolist() == [0, 5]
    # The same experts have their replicas on other slots: the layout is the same.
    planner.update_placement(lplb.Placement([2, 1, 0, 0, 1, 2], num_ranks=2))
    assert planner.run([0, 0], all_counts=np.zeros((2, 5), np.int64)).tolist() == [2, 3]
    stats = planner.stats()
    assert stats is not None and (stats.batches, stats.unplanned, stats.solved) == (4, 2, 2)


@pytest.mark.parametrize("kind", kinds())
def test_one_rank(kind: Any) -> None:
    placement = lplb.Placement(np.r_[np.arange(64), np.arange(16)], num_ranks=1)
    planner = lplb.Planner(placement, staleness=1)
    last: list[Any] | None = None
    for ranks in batches(4, num_ranks=1):
        got = np.asarray(planner.run(kind(ranks[0])))
        if last is not None:
            assert (got == by_the_previous(placement, last, 0, ranks[0])).all()
        last = ranks
    stats = planner.stats()
    assert stats is not None and (stats.unplanned, stats.solved) == (1, 3)


@pytest.mark.parametrize("kind", kinds())
def test_quotas_are_those_that_the_batch_was_mapped_by(cube: lplb.Placement, kind: Any) -> None:
    rank = 3
    planner = lplb.Planner(cube, rank=rank, staleness=1)
    first, second = batches(2)
    ids, even = planner.run_quotas(kind(first[rank]))
    taken = np.bincount(np.asarray(ids)[first[rank] >= 0], minlength=80)
    load = lplb.count(first[rank], 64)
    assert even.solved.tolist() == [0] and not np.asarray(even.source_prefix).any()
    for e in range(64):
        slots = [p for p in cube.logical_to_physical[e] if p >= 0]
        if len(slots) > 1:
            assert np.diff(even.quota_end[e], prepend=0).tolist() == taken[slots].tolist()
            assert sum(even.alloc[:, e]) == load[e]
    # The quotas of a solved batch are those that a planner without staleness gives for the previous
    # one.
    rows = packed(cube, first)
    _, quotas = planner.run_quotas(kind(second[rank]), all_counts=kind(rows))
    _, want = lplb.Planner(cube, rank=rank).run_quotas(first[rank], all_counts=rows)
    for name, table in zip(want._fields, want, strict=True):
        assert getattr(quotas, name).tolist() == table.tolist(), name
    _, even = planner.run_quotas(kind(second[rank]))
    assert even.solved.tolist() == [0]


def test_a_batch_with_bad_counts_has_not_run(cube: lplb.Placement) -> None:
    planner = lplb.Planner(cube, rank=0, staleness=1)
    first, second, third = batches(3)
    planner.run(first[0])
    bad = packed(cube, first)
    bad[1, 0] = -1
    with pytest.raises(ValueError, match=r"all_counts: has -1 at \[1, 0\], expected >= 0"):
        planner.run(second[0], all_counts=bad)
    got = planner.run(second[0], all_counts=packed(cube, first))
    assert (got == by_the_previous(cube, first, 0, second[0])).all()
    got = planner.run(third[0], all_counts=packed(cube, second))
    assert (got == by_the_previous(cube, second, 0, third[0])).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"staleness": 2}, ValueError, "staleness: is 2, expected 0 or 1"),
        ({"staleness": -1}, ValueError, "staleness: is -1, expected 0 or 1"),
        ({"staleness": "1"}, TypeError, "staleness: is '1', expected an integer"),
        ({"staleness": True}, TypeError, "staleness: is True, expected an integer"),
        (
            {"staleness": 1, "same_tokens": True},
            ValueError,
            "staleness: is 1, expected 0 with same_tokens",
        ),
    ],
)
def test_bad_options_say_what_is_wrong(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        lplb.Planner(SMALL, rank=0, **options)
    assert words in str(raised.value)


def test_join_does_nothing_here() -> None:
    planner = lplb.Planner(SMALL, rank=0, staleness=1)
    planner.join()
    planner.run([0])
    planner.join()
    planner.close()
    planner.join()


def make_layer(planner: lplb.Planner, counts: list[Any]) -> Any:
    """Calls that a compiler could merge, or leave out."""

    def layer(ids: Any, out: Any) -> Any:
        first = planner.run(ids)
        planner.run(ids)
        second = planner.run(ids, all_counts=counts[0])
        planner.run(ids, out, all_counts=counts[1])
        third, quotas = planner.run_quotas(ids, all_counts=counts[2])
        fourth = planner.run(ids, num_valid_tokens=10, all_counts=counts[0])
        return first + 1, second, third, quotas.shares * 2, fourth, out

    return layer


ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_missing()), reason=cuda_missing() or "GPU")]


@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ("cpu", "eager"),
        ("cpu", "aot_eager"),
        pytest.param("cuda", "aot_eager", marks=ON_GPU),
        pytest.param("cuda", "inductor", marks=ON_GPU),
    ],
)
def test_the_compiler_keeps_all_calls_in_order(
    cube: lplb.Placement, device: str, backend: str
) -> None:
    torch = pytest.importorskip("torch")
    counts = [torch.from_numpy(packed(cube, ranks)).int().to(device) for ranks in batches(3)]
    planners = [lplb.Planner(cube, rank=1, staleness=1, quotas=True) for _ in range(2)]
    torch._dynamo.reset()
    compiled = torch.compile(make_layer(planners[0], counts), fullgraph=True, backend=backend)
    as_written = make_layer(planners[1], counts)
    for seed in range(3):
        ids = torch.from_numpy(draw(200, 8, 64, seed)).to(device)
        results = [layer(ids, torch.empty_like(ids)) for layer in (compiled, as_written)]
        for got, want in zip(*results, strict=True):
            assert (got == want).all()
    assert planners[0].stats() == planners[1].stats()
    assert planners[0].stats().batches == 18


def test_operators_are_sound(cube: lplb.Placement) -> None:
    torch = pytest.importorskip("torch")
    from stand_ins import paths_of

    from lplb import _torch

    planner = lplb.Planner(cube, rank=0, staleness=1)
    batch = torch.from_numpy(draw(16, 8, 64, 2))
    arguments = (batch, None, None, paths_of(planner).handle, 0)
    for op, more in (
        (torch.ops.lplb.plan_stale, ()),
        (torch.ops.lplb.plan_quotas_stale, ()),
        (torch.ops.lplb.plan_into_stale, (torch.empty_like(batch),)),
    ):
        torch.library.opcheck(
            op.default,
            (*arguments, *more, _torch.TURN),
            test_utils=("test_schema", "test_faketensor"),
        )
