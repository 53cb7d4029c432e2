# SPDX-License-Identifier: MIT
"""Planners with dynamic slots: copies of experts for each batch, on the CPU."""

from __future__ import annotations

import copy
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
from conftest import draw
from numpy.typing import NDArray
from optional import torch
from ranks import make_placement, run_ranks, world

import lplb

EXPERTS = 32
RANKS = 4


def homes() -> lplb.Placement:
    return lplb.Placement(np.arange(EXPERTS), num_ranks=RANKS)


def batch_of(seed: int, experts: int = EXPERTS, ranks: int = RANKS) -> list[NDArray[np.int64]]:
    """Each rank's tokens, top 2, of unequal popularity; some ids are -1."""
    random = np.random.default_rng(seed)
    weight = random.lognormal(0, 1.5, experts)
    batch = []
    for rank in range(ranks):
        ids = random.choice(experts, (40 + 17 * rank, 2), p=weight / weight.sum())
        ids[random.random(ids.shape) < 0.05] = -1
        batch.append(ids)
    return batch


def counts_of(batch: list[NDArray[np.int64]], experts: int = EXPERTS) -> NDArray[np.int64]:
    return np.stack([lplb.count(ids, experts) for ids in batch])


def check(
    placement: lplb.Placement,
    slot_expert: Any,
    want: lplb.Replication,
    ids: NDArray[np.int64],
    mapped: NDArray[np.int64],
) -> None:
    """Every id's slot holds its expert, and each slot takes what replicate() gives it."""
    assert (slot_expert == want.slot_expert).all()
    main = placement.physical_to_logical.reshape(placement.num_ranks, -1)
    held = np.concatenate([main, slot_expert], axis=1).reshape(-1)
    assert ((mapped < 0) == (ids < 0)).all()
    assert (held[mapped[mapped >= 0]] == ids[mapped >= 0]).all()
    taken = np.bincount(mapped[mapped >= 0], minlength=len(held))
    assert taken.tolist() == want.physical_load.tolist()


@pytest.mark.parametrize("slots", [1, 3])
def test_batches_equal_replicate_on_the_summed_counts(slots: int) -> None:
    options: dict[str, Any] = {"copy_target": 1.1, "copy_min_tokens": 3, "copy_domains": 2}
    planners = [
        lplb.Planner(homes(), rank=r, dynamic_slots=slots, num_topk=2, **options)
        for r in range(RANKS)
    ]
    assert planners[0].count(batch_of(0)[0]).shape == (EXPERTS,)
    copies = 0
    for seed in range(5):
        batch = batch_of(seed)
        counts = counts_of(batch)
        want = lplb.replicate(
            homes(), counts.sum(0), dynamic_slots=slots, target=1.1, min_tokens=3, num_domains=2
        )
        want.verify()
        copies += want.copies
        mapped = [p.run(ids, all_counts=counts) for p, ids in zip(planners, batch)]
        for planner in planners:
            assert (planner.slot_experts() == want.slot_expert).all()
        check(
            homes(), planners[0].slot_experts(), want, np.concatenate(batch), np.concatenate(mapped)
        )
        found = planners[1].copies()
        assert (found.slot_source == want.slot_source).all()
        assert (found.redundancy_mapping() == want.redundancy_mapping()).all()
        padded = found.experts_to_copy(EXPERTS // RANKS)
        assert padded.shape == (RANKS, EXPERTS // RANKS)
        assert (padded[:, :slots] == want.slot_expert).all() and (padded[:, slots:] == -1).all()
        assert (padded == want.experts_to_copy(EXPERTS // RANKS)).all()
        assert planners[0].stats().last_imbalance == want.imbalance
    assert copies > 5
    assert planners[0].stats().copies == copies


def test_quotas_are_those_of_the_copies() -> None:
    planners = [lplb.Planner(homes(), rank=r, dynamic_slots=2, num_topk=2) for r in range(RANKS)]
    width = planners[0].max_replicas
    assert width == RANKS  # a home, and a copy on each of the other ranks
    for seed in range(3):
        batch = batch_of(seed)
        counts = counts_of(batch)
        want = lplb.replicate(homes(), counts.sum(0), dynamic_slots=2)
        main = homes().physical_to_logical.reshape(RANKS, -1)
        held = np.concatenate([main, want.slot_expert], axis=1).reshape(-1)
        slots = [np.flatnonzero(held == e) for e in range(EXPERTS)]
        for rank, planner in enumerate(planners):
            mapped, tables = planner.run_quotas(batch[rank], all_counts=counts)
            assert mapped.tolist() == planner.run(batch[rank], all_counts=counts).tolist()
            assert tables.solved.tolist() == [1]
            assert (tables.source_prefix == counts[:rank].sum(0)).all()
            for e, replicas in enumerate(slots):
                padded = np.pad(replicas, (0, width - len(replicas)), constant_values=-1)
                assert tables.replicas[e].tolist() == padded.tolist()
                quotas = want.physical_load[replicas]
                assert np.diff(tables.quota_end[e], prepend=0)[: len(replicas)].tolist() == (
                    quotas.tolist()
                )
                assert (tables.quota_end[e, len(replicas) :] == counts[:, e].sum()).all()
                taken = np.zeros(RANKS, int)
                taken[replicas // 10] = quotas
                assert tables.alloc[:, e].tolist() == taken.tolist()
        assert want.copies > 0


@pytest.mark.parametrize("outcome", [0, 3])
def test_a_batch_whose_copies_did_not_come_is_mapped_by_a_table(outcome: int) -> None:
    """As docs/replicas.md has it."""
    placement = make_placement(RANKS)
    num_main, slots = placement.slots_per_rank, 2
    main = placement.logical_to_physical[:, 0]
    table = torch.from_numpy(main + main // num_main * slots)
    planner = lplb.Planner(placement, same_tokens=True, dynamic_slots=slots, num_topk=2)
    topk_idx = torch.from_numpy(batch_of(3, placement.num_logical_experts)[0])
    planned = planner.run(topk_idx)
    alone = torch.where(topk_idx >= 0, table[topk_idx], -1)
    mapped = torch.where(torch.tensor([outcome]) == 0, planned, alone)
    if outcome == 0:
        assert (mapped == planned).all()
        return
    rank, slot = (
        mapped[topk_idx >= 0] // (num_main + slots),
        mapped[topk_idx >= 0] % (num_main + slots),
    )
    assert (slot < num_main).all()
    held = placement.physical_to_logical[(rank * num_main + slot).numpy()]
    assert (held == topk_idx[topk_idx >= 0].numpy()).all()
    assert (mapped[topk_idx < 0] == -1).all()


def test_mappings_lead_to_the_source() -> None:
    load = np.arange(EXPERTS) ** 2
    plan = lplb.replicate(homes(), load, num_domains=2)
    used = plan.slot_expert >= 0
    assert used.any()
    home = plan.slot_expert[used]  # expert e is in main slot e % 8 of rank e // 8
    assert (plan.redundancy_mapping()[used] == home // 8 % 2 * 8 + home % 8).all()
    assert (plan.redundancy_mapping()[~used] == -1).all()
    with pytest.raises(ValueError, match="columns: 0 is less than"):
        plan.experts_to_copy(0)


def test_forms_of_tensors() -> None:
    planner = lplb.Planner(homes(), same_tokens=True, dynamic_slots=2, num_topk=2)
    planner.run(batch_of(2)[0])
    want = planner.copies()
    assert (want.slot_expert >= 0).any() and (want.slot_expert < 0).any()
    expert, source = (torch.from_numpy(a.copy()) for a in (want.slot_expert, want.slot_source))
    on_gpu = lplb.Copies(expert, source, None, homes(), 1, None)
    assert on_gpu.redundancy_mapping().tolist() == want.redundancy_mapping().tolist()
    assert on_gpu.experts_to_copy(5).tolist() == want.experts_to_copy(5).tolist()
    with pytest.raises(ValueError, match="columns: 1 is less than"):
        on_gpu.experts_to_copy(1)


def test_slots_that_are_new() -> None:
    placement = lplb.Placement([0, 1], num_ranks=2)
    planner = lplb.Planner(placement, same_tokens=True, dynamic_slots=1)
    assert planner.copies().slot_expert.tolist() == [[-1], [-1]]
    assert planner.copies().is_new.tolist() == [[False], [False]]
    for expert, new in ((0, True), (0, False), (1, True), (0, False)):
        planner.run(np.full((8, 1), expert))
        taken = [[-1], [expert]] if expert == 0 else [[expert], [-1]]
        assert planner.slot_experts().tolist() == taken
        assert bool(planner.copies().is_new.any()) is new
    planner.update_placement(lplb.Placement([1, 0], num_ranks=2))
    assert planner.slot_experts().tolist() == [[-1], [-1]]
    mapped = planner.run(np.zeros((8, 1), np.int32))
    assert planner.slot_experts().tolist() == [[0], [-1]]
    assert planner.copies().is_new.tolist() == [[True], [False]]
    assert sorted(mapped.ravel().tolist()) == [1] * 4 + [2] * 4  # 2 slots a rank


def test_layers_have_copies_of_their_own() -> None:
    planner = lplb.Planner(homes(), same_tokens=True, dynamic_slots=1, num_layers=2, num_topk=2)
    planner.run(batch_of(1)[3], layer=1)
    assert (planner.slot_experts(0) == -1).all()
    assert (planner.slot_experts(1) >= 0).any()
    assert planner.stats(0).batches == 0 and planner.stats(1).copies > 0


@pytest.mark.autograd
def test_tensors_operators_and_the_dense_form() -> None:
    planner = lplb.Planner(homes(), same_tokens=True, dynamic_slots=2, num_topk=EXPERTS)
    ids = torch.from_numpy(batch_of(4)[3])
    want = planner.run(ids.numpy())
    held = planner.slot_experts().copy()
    assert (planner.run(ids).numpy() == want).all()
    assert (planner.slot_experts() == held).all()

    compiled = torch.compile(planner.run, backend="eager", fullgraph=True)
    assert (compiled(ids).numpy() == want).all()
    out = torch.empty_like(ids)
    planner.run(ids, out, num_valid_tokens=20)
    assert (out[20:] == -1).all()

    routing = torch.zeros(len(ids), EXPERTS, dtype=torch.bool)
    routing.scatter_(1, ids.clamp(min=0), ids >= 0)
    probs = torch.rand(len(ids), EXPERTS, requires_grad=True)
    dense, sent = planner.run_dense(probs, routing)
    num_physical = RANKS * (EXPERTS // RANKS + 2)
    assert dense.shape == sent.shape == (len(ids), num_physical)
    main = homes().physical_to_logical.reshape(RANKS, -1)
    experts = np.concatenate([main, planner.slot_experts()], axis=1).reshape(-1)
    token, slot = sent.nonzero(as_tuple=True)
    assert len(token) == int(routing.sum())
    at = torch.from_numpy(experts)[slot].long()
    assert routing[token, at].all()
    assert torch.equal(dense[token, slot], probs[token, at])
    dense.sum().backward()
    assert torch.equal(probs.grad, routing.float())
    assert (slot.numpy() % 10 >= 8).any()  # some tokens go to copies


def test_copies_of_a_planner() -> None:
    options: dict[str, Any] = {"dynamic_slots": 2, "copy_target": 1.2, "same_tokens": True}
    planner = lplb.Planner(homes(), num_topk=2, **options)
    ids = batch_of(5)[3]
    want = planner.run(ids)
    for made in (copy.copy(planner), copy.deepcopy(planner), pickle.loads(pickle.dumps(planner))):
        assert (made.slot_experts() == -1).all()
        assert (made.run(ids) == want).all()
        assert (made.slot_experts() == planner.slot_experts()).all()


def test_bad_arguments_are_named() -> None:
    def refused(match: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=match):
            lplb.Planner(homes(), **{"same_tokens": True, "dynamic_slots": 1, **options})

    refused("dynamic_slots: 9 is not between 0 and 8", dynamic_slots=9)
    refused("dynamic_slots: -1 is not between 0 and 8", dynamic_slots=-1)
    refused("dynamic_slots: is 0 with copy_target", dynamic_slots=0, copy_target=1.5)
    refused("target: 0.5 is not between 1 and 1000", copy_target=0.5)
    refused("min_tokens: 0 is not >= 1", copy_min_tokens=0)
    refused(r"num_domains: 3 does not divide num_ranks \(4\)", copy_domains=3)
    refused("cost: is given with 1 dynamic slots", cost=lplb.CostModel.weights_only())
    refused("solver: is flow with 1 dynamic slots, expected auto", solver="flow")
    refused("staleness: 1 with 1 dynamic slots", same_tokens=False, rank=0, staleness=1)
    refused("checks: is True with dynamic_slots", checks=True)
    with pytest.raises(TypeError, match="dynamic_slots"):
        lplb.Planner(homes(), same_tokens=True, dynamic_slots=1.5)  # type: ignore[arg-type]
    planner = lplb.Planner(homes(), same_tokens=True, dynamic_slots=1)
    with pytest.raises(ValueError, match="layer: is 1"):
        planner.copies(1)
    with pytest.raises(ValueError, match="dynamic_slots: is 0, expected at least 1"):
        lplb.Planner(homes(), same_tokens=True).slot_experts()
    given = lplb.Planner(homes(), rank=0, dynamic_slots=1)
    packed = np.zeros((RANKS, homes().packed_size), np.int64)
    with pytest.raises(ValueError, match=rf"all_counts: .* \[{RANKS}, {EXPERTS}\]"):
        given.run(batch_of(0)[0], all_counts=packed)


def plan_together(rank: int, size: int, folder: str) -> None:
    placement = make_placement(size)
    planner = lplb.Planner(placement, group=world(), timeout=30, dynamic_slots=1, num_topk=4)
    for batch in range(3):
        ids = draw(50 * (rank + batch) if rank != 1 else 0, 4, 16 * size, 100 * batch + rank)
        mapped = planner.run(torch.from_numpy(ids))
        copies = planner.copies()
        np.savez(
            f"{folder}/batch{batch}rank{rank}",
            ids=ids,
            mapped=mapped.numpy(),
            slot_expert=copies.slot_expert,
            is_new=copies.is_new,
        )
        if batch == 1:
            planner.update_placement(make_placement(size, 1))


def test_ranks_of_a_group_agree(tmp_path: pathlib.Path) -> None:
    size = 4
    assert run_ranks(plan_together, size, tmp_path) == [""] * size
    for batch in range(3):
        placement = make_placement(size, 1 if batch == 2 else 0)
        found = [np.load(tmp_path / f"batch{batch}rank{r}.npz") for r in range(size)]
        ids = np.concatenate([f["ids"] for f in found])
        mapped = np.concatenate([f["mapped"] for f in found])
        want = lplb.replicate(placement, lplb.count(ids, 16 * size))
        assert want.copies > 0
        check(placement, found[0]["slot_expert"], want, ids, mapped)
        for f in found:
            assert (f["slot_expert"] == want.slot_expert).all()
            assert (f["is_new"] == found[0]["is_new"]).all()


def plan_differently(rank: int, size: int, folder: str) -> None:
    def refused(match: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=match):
            lplb.Planner(make_placement(size), group=world(), timeout=30, **options)

    refused("dynamic_slots: .*rank 2 has 2, expected 1", dynamic_slots=1 + (rank == 2))
    refused(
        r"copy_target: .*rank 1 has 1\.5, expected 1\.0",
        dynamic_slots=1,
        copy_target=1.5 if rank == 1 else 1,
    )
    refused("copy_min_tokens: .*rank 0 has 9", dynamic_slots=1, copy_min_tokens=9 - 8 * (rank > 0))
    refused("copy_domains: .*rank 0 has 3", dynamic_slots=1, copy_domains=3 - 2 * (rank > 0))


def test_ranks_with_other_options_are_told(tmp_path: pathlib.Path) -> None:
    assert run_ranks(plan_differently, 3, tmp_path) == [""] * 3


def plan_shared(rank: int, size: int, folder: str) -> None:
    placement = lplb.Placement(np.arange(EXPERTS), num_ranks=2 * size)
    planner = lplb.SharedPlanner(
        placement, group=world(), shared_by=2, num_topk=2, dynamic_slots=1, timeout=30
    )
    batch = batch_of(7, ranks=size)
    mapped = planner.run(torch.from_numpy(batch[rank])).numpy()
    want = lplb.replicate(placement, lplb.count(np.concatenate(batch), EXPERTS))
    assert (planner.planner.slot_experts() == want.slot_expert).all()
    np.save(f"{folder}/mapped{rank}.npy", mapped)


def test_blocks_that_share_tokens(tmp_path: pathlib.Path) -> None:
    assert run_ranks(plan_shared, 2, tmp_path) == [""] * 2
    mapped = np.concatenate([np.load(tmp_path / f"mapped{r}.npy") for r in range(2)])
    placement = lplb.Placement(np.arange(EXPERTS), num_ranks=4)
    ids = np.concatenate(batch_of(7, ranks=2))
    want = lplb.replicate(placement, lplb.count(ids, EXPERTS))
    check(placement, want.slot_expert, want, ids, mapped)
