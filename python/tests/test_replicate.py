# SPDX-License-Identifier: MIT
"""Copies of experts for one batch."""

from __future__ import annotations

import numpy as np
import pytest

import lplb


def homes(num_ranks: int, num_experts: int) -> lplb.Placement:
    return lplb.Placement(np.arange(num_experts), num_ranks=num_ranks)


def test_a_plan_is_proven_and_checked() -> None:
    load = np.random.default_rng(1).lognormal(6, 1, 256).astype(np.int64)
    plan = lplb.replicate(homes(32, 256), load)
    plan.verify()
    assert plan.status == "optimal"
    assert plan.max_load == plan.lower_bound == -(-load.sum() // 32)
    assert plan.imbalance < 1.001
    assert plan.slot_expert.shape == plan.slot_source.shape == (32, 1)
    used = plan.slot_expert >= 0
    assert plan.copies == used.sum()
    assert (plan.slot_source[used] == plan.slot_expert[used] // 8).all()
    assert plan.physical_load.reshape(32, 9).sum(1).tolist() == plan.rank_load.tolist()


def test_options_take_effect() -> None:
    load = np.random.default_rng(2).lognormal(6, 1, 64).astype(np.int64)
    exact = lplb.replicate(homes(8, 64), load, dynamic_slots=2)
    near = lplb.replicate(homes(8, 64), load, dynamic_slots=2, target=1.2)
    assert near.copies < exact.copies
    assert near.max_load <= 1.2 * load.sum() / 8
    split = lplb.replicate(homes(8, 64), load, num_domains=4)
    split.verify()
    assert ((split.slot_source < 0) | (split.slot_source // 2 == np.arange(8)[:, None] // 2)).all()
    large = lplb.replicate(homes(8, 64), load, min_tokens=500)
    assert (large.physical_load.reshape(8, 9)[:, 8][large.slot_expert[:, 0] >= 0] >= 500).all()


def test_copies_that_do_not_pay_are_not_made() -> None:
    load = [1000, 1000, 0, 0]
    dear = lplb.CopyCost(us_per_token=0.1, expert_bytes=44e6, gigabytes_per_s=400)
    assert lplb.replicate(homes(2, 4), load, cost=dear).copies == 0
    hidden = lplb.CopyCost(0.1, 44e6, 400, hidden_us=200)
    plan = lplb.replicate(homes(2, 4), load, cost=hidden)
    assert (plan.copies, plan.exposed_us) == (1, 0)
    assert plan.saved_us == pytest.approx(100)


def test_bad_arguments_are_named() -> None:
    placement = homes(4, 8)
    load = np.ones(8, np.int64)
    with pytest.raises(ValueError, match="dynamic_slots: 0 is not between 1 and 8"):
        lplb.replicate(placement, load, dynamic_slots=0)
    with pytest.raises(ValueError, match=r"target: 0.5 is not between 1 and 1000"):
        lplb.replicate(placement, load, target=0.5)
    with pytest.raises(ValueError, match=r"num_domains: 3 does not divide num_ranks \(4\)"):
        lplb.replicate(placement, load, num_domains=3)
    with pytest.raises(ValueError, match="load"):
        lplb.replicate(placement, load[:7])
