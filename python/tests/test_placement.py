# SPDX-License-Identifier: MIT
"""Placements, topologies, moves."""

from __future__ import annotations

import errno
import json
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import lplb
from lplb import topology

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_maps_follow_from_physical_to_logical() -> None:
    p = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    assert (
        p.num_ranks,
        p.num_nodes,
        p.num_logical_experts,
        p.num_physical_experts,
        p.slots_per_rank,
        p.max_replicas,
    ) == (2, 1, 3, 4, 2, 2)
    assert p.physical_to_logical.tolist() == [0, 1, 2, 0]
    assert p.logical_to_physical.tolist() == [[0, 3], [1, -1], [2, -1]]
    assert p.replica_count.tolist() == [2, 1, 1]
    assert p.packed_size == 1 + 2
    assert p.pack(np.array([4, 5, 6])).tolist() == [4, 5, 6]
    assert p == lplb.Placement(np.array([0, 1, 2, 0]), 2, 3)
    assert p != lplb.Placement([0, 1, 2, 1], 2)
    assert len({p, lplb.Placement([0, 1, 2, 0], 2)}) == 1


def test_the_redundants_are_named_as_deep_ep_does() -> None:
    p = lplb.Placement([5, 2, 0, 0, 3, 5, 1, 4, 3], num_ranks=3)
    mapping = p.redundancy_mapping()
    assert mapping.tolist() == [[2], [0], [3]] and mapping.dtype == np.int32
    assert lplb.Placement([0, 1], 2).redundancy_mapping().shape == (2, 0)
    with pytest.raises(ValueError):
        lplb.Placement([0, 1, 0, 1], 2, 2).redundancy_mapping()


def test_options_survive_pickling() -> None:
    p = lplb.Placement(
        [0, 1, 1, 0], 4, num_nodes=2, rank_speed=[1, 2, 1, 2], rank_alive=[True, True, False, True]
    )
    again = pickle.loads(pickle.dumps(p))
    assert again == p
    assert again.rank_alive.tolist() == [1, 1, 0, 1]
    assert again.rank_speed.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0, 1, 2], 2), ValueError, ["3", "2"]),
        (([0.5, 1.0], 2), TypeError, ["physical_to_logical", "float64", "integers"]),
        (([[0, 1]], 2), ValueError, ["physical_to_logical", "[1, 2]"]),
        (([0, 2, 2, 0], 2), ValueError, ["expert 1"]),
        (([0, 1], 2.0), TypeError, ["num_ranks", "2.0", "integer"]),
        (([0, 2**40], 2), ValueError, ["physical_to_logical", str(2**40)]),
        ((None, 2), TypeError, ["physical_to_logical"]),
    ],
)
def test_bad_placements_say_what_is_wrong(
    arguments: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as raised:
        lplb.Placement(*arguments)
    for word in words:
        assert word in str(raised.value)


def reference_cases() -> list[dict[str, Any]]:
    """Inputs and outputs of EPLB's own code. The C++ tests use them too."""
    text = (ROOT / "tests" / "data" / "eplb_reference.json").read_text()
    cases: list[dict[str, Any]] = json.loads(text)
    return cases


def test_rebalance_experts_is_eplb() -> None:
    cases = reference_cases()
    assert cases
    for case in cases:
        sizes = (case["num_replicas"], case["num_groups"], case["num_nodes"], case["num_gpus"])
        phy2log, log2phy, logcnt = lplb.rebalance_experts(np.array(case["weight"]), *sizes)
        assert phy2log.dtype == np.int64
        assert phy2log.tolist() == case["physical_to_logical"]
        assert logcnt.tolist() == case["expert_count"]
        assert log2phy.tolist() == case["logical_to_physical"]


def test_rebalance_experts_gives_what_it_got() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.tensor([[90, 10, 20, 20]], dtype=torch.float16)
    maps = lplb.rebalance_experts(weight, 6, 1, 1, 2)
    assert all(isinstance(m, torch.Tensor) and m.dtype == torch.int64 for m in maps)
    for got, want in zip(
        maps, lplb.rebalance_experts(weight.double().numpy(), 6, 1, 1, 2), strict=True
    ):
        assert got.tolist() == want.tolist()
    with pytest.raises(ValueError, match="num_replicas"):
        lplb.rebalance_experts(weight, 5, 1, 1, 2)


def test_weights_of_any_real_type_and_any_strides() -> None:
    torch = pytest.importorskip("torch")
    plain = np.array([[90, 10, 20, 20], [1, 2, 3, 64]])
    want = [m.tolist() for m in lplb.rebalance_experts(plain, 6, 1, 1, 2)]
    for dtype in (np.uint8, np.int16, np.float16, np.float32, np.longdouble, ">f4"):
        maps = lplb.rebalance_experts(plain.astype(dtype), 6, 1, 1, 2)
        assert [m.tolist() for m in maps] == want
    tensor = torch.from_numpy(plain)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.int8, torch.uint8):
        wide = torch.zeros((2, 8), dtype=dtype)
        wide[:, ::2] = tensor.to(dtype)
        maps = lplb.rebalance_experts(wide[:, ::2], 6, 1, 1, 2)
        assert all(isinstance(m, torch.Tensor) for m in maps)
        assert [m.tolist() for m in maps] == want, dtype
    powers = 2 ** torch.arange(4)[None]
    eighth = lplb.rebalance_experts(powers.to(torch.float8_e5m2), 6, 1, 1, 2)
    assert (eighth[0] == lplb.rebalance_experts(powers, 6, 1, 1, 2)[0]).all()
    column = np.array([[0, 9], [1, 9], [2, 9], [0, 9]])[:, 0]
    assert lplb.Placement(column, 2) == lplb.Placement([0, 1, 2, 0], 2)
    assert lplb.Placement(torch.tensor([[0, 9], [1, 9]])[:, 0], 2).packed_size == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lplb.rebalance_experts([[1, -1]], 2, 1, 1, 1),
            "weight: layer 0, expert 1 has load -1",
        ),
        (
            lambda: lplb.rebalance_experts([1, 1], 2, 1, 1, 1),
            "weight: has shape [2], expected [num_layers, num_logical]",
        ),
        (
            lambda: lplb.rebalance_experts([[1, 1]], 2, 1, 1, 0),
            "num_gpus: 0 is not between 1 and 1024",
        ),
        (
            lambda: lplb.place_on_topology([[1.0, float("nan")]], "ring:2", 1, 2),
            "weight: layer 0, expert 1 has load nan",
        ),
        (
            lambda: lplb.Placement([[0, 1]], 2),
            "physical_to_logical: has shape [1, 2], expected [num_physical]",
        ),
        (lambda: lplb.imbalance([-1, 2]), "rank_load: has -1, expected >= 0"),
    ],
)
def test_messages_name_arguments_as_python_does(call: Any, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        call()
    assert message in str(raised.value)


def test_topologies() -> None:
    assert topology.cube().r2o.T.tolist() == [[3, 0, 1, 2, 7, 4, 5, 6], [6, 7, 4, 5, 0, 1, 2, 3]]
    assert topology.hypercube().group_size == 16
    assert topology.torus(2, 2).r2o.tolist() == [[2, 1], [3, 0], [0, 3], [1, 2]]
    assert topology.ring(3).num_columns == 1
    assert repr(topology.parse("torus:2x4")) == "Topology('torus:2x4')"
    assert topology.custom([[1], [0]]).r2o.tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="r2o"):
        topology.custom([[0], [1]])
    with pytest.raises(FileNotFoundError) as missing:
        topology.parse("r2o:no-such-file")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, "no-such-file")
    with pytest.raises(TypeError, match="topology: is an int"):
        lplb.place_on_topology([[1, 1]], 2, 1, 2)  # type: ignore[call-overload]


def test_moves_name_the_nearest_source() -> None:
    old = lplb.Placement([0, 1, 2, 3, 0, 2], 3)
    new = lplb.Placement([1, 0, 2, 3, 1, 2], 3)
    assert sorted(lplb.moves(old, new)) == [
        (0, 0, 1, "same rank"),
        (1, 1, 0, "same rank"),
        (1, 1, 4, "same node"),
    ]
    kept = lplb.keep_slots(old, new)
    assert isinstance(kept, lplb.Placement)
    assert kept.physical_to_logical.tolist() == [0, 1, 2, 3, 1, 2]
    assert [(m.logical, m.target) for m in lplb.moves(old, new, keep_slots=True)] == [(1, 4)]
    with pytest.raises(ValueError, match="to: has 5 logical experts, expected 4"):
        lplb.moves(old, lplb.Placement([0, 1, 2, 3, 4, 0], 3))


def test_ranks_exchange_their_experts() -> None:
    rng = np.random.default_rng(5)
    loads = rng.integers(1, 1000, (2, 1, 64))
    arguments = (72, 4, 2, 8)  # 4 groups on 2 nodes: hierarchical
    old, new = (
        lplb.Placement(lplb.rebalance_experts(load, *arguments)[0][0], 8, num_nodes=2)
        for load in loads
    )
    kept = lplb.keep_ranks(old, new)
    free = lplb.keep_ranks(old, new, keep_nodes=False)

    def ranks(placement: lplb.Placement) -> list[tuple[int, ...]]:
        rows = placement.physical_to_logical.reshape(8, 9)
        return [tuple(sorted(row.tolist())) for row in rows]

    def fetched(placement: lplb.Placement) -> int:
        return sum(move.kind != "same rank" for move in lplb.moves(old, placement))

    assert sorted(ranks(kept)) == sorted(ranks(free)) == sorted(ranks(new))
    nodes = {frozenset(ranks(new)[:4]), frozenset(ranks(new)[4:])}
    assert {frozenset(ranks(kept)[:4]), frozenset(ranks(kept)[4:])} == nodes
    assert fetched(free) <= fetched(kept) < fetched(new)
    assert kept.num_nodes == 2
    with pytest.raises(TypeError, match="keep_nodes"):
        lplb.keep_ranks(old, new, keep_nodes="yes")  # type: ignore[arg-type]


def test_moves_to_another_number_of_ranks() -> None:
    old = lplb.Placement([0, 1, 2, 3], 2)
    up = lplb.Placement([0, 1, 2, 3, 3, 0], 3)
    assert lplb.moves(old, up) == [(3, 3, 4, "same node"), (0, 0, 5, "same node")]
    down = lplb.Placement([0, 1, 2, 3], 1)
    assert lplb.moves(up, down) == [(2, 2, 2, "same node"), (3, 3, 3, "same node")]
    lost = lplb.Placement([2, 3, 0, 1], 2, rank_alive=[True, True])
    dead = lplb.Placement([0, 1, 0, 1], 2, 2, rank_alive=[False, True])
    assert lplb.moves(dead, lplb.Placement([0, 1, 0, 1], 2))[0].kind == "same node"
    gone = lplb.Placement([0, 1, 2, 3, 0, 1, 2, 3], 2, rank_alive=[True, False])
    assert {m.kind for m in lplb.moves(lost, gone)} == {"same rank", "lost"}


def test_placements_for_live_ranks_and_by_speed() -> None:
    load = [[8, 7, 6, 5, 4, 3]]
    alive = [True, False, True, True]
    slots, _, count = lplb.rebalance_experts(load, 8, 1, 1, 4, rank_alive=alive)
    live = np.asarray(slots).reshape(4, 2)[alive]
    assert sorted(live.ravel().tolist()) == [0, 1, 2, 3, 4, 5]
    assert np.asarray(slots).reshape(4, 2)[1].tolist() == [2, 3]  # slot p holds expert p % 6
    assert np.asarray(count).sum() == 8
    with pytest.raises(ValueError, match="rank_alive: the 1 live ranks have 2 slots"):
        lplb.rebalance_experts(load, 8, 1, 1, 4, rank_alive=[True, False, False, False])
    slow, _, _ = lplb.rebalance_experts(load, 6, 1, 1, 3, rank_speed=[1, 0.1, 1])
    assert sorted(np.asarray(slow).reshape(3, 2)[1].tolist()) == [4, 5]
    ring = lplb.place_on_topology([[1] * 8], "ring:4", 1, 4, rank_alive=alive)[0]
    placement = lplb.Placement(ring[0], 4, 8, rank_alive=alive)
    lplb.solve(placement, [10] * 8).verify()


def test_spread_puts_no_expert_on_a_rank_twice() -> None:
    plain = lplb.rebalance_experts([[1] * 8], 16, 1, 1, 8)[0][0].reshape(8, 2)
    spread = lplb.rebalance_experts([[1] * 8], 16, 1, 1, 8, spread=True)[0][0].reshape(8, 2)
    assert any(a == b for a, b in plain)
    assert all(a != b for a, b in spread)


def test_layers() -> None:
    layers = lplb.layers_of([[0, 1], [1, 0]], 2)
    assert [p.physical_to_logical.tolist() for p in layers] == [[0, 1], [1, 0]]
