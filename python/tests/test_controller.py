# SPDX-License-Identifier: MIT
"""Controllers without ranks: their options, the replay, and the budget of a search."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import lplb
from lplb._controller import Controllers


def skewed(layers: int) -> np.ndarray:
    loads = np.full((layers, 16), 50, np.int64)
    loads[:, :3] = 900
    return loads


def controllers(layers: int, **options: float) -> Controllers:
    slots = [e % 16 for g in range(4) for e in range(4 * g, 4 * g + 5)]
    made = lplb.ControllerOptions(window=1, round_cost=1, **options)  # type: ignore[arg-type]
    return Controllers([lplb.Placement(slots, 4, 16)] * layers, made.native(None), 2)


def test_a_replay_charges_moves() -> None:
    options = lplb.ControllerOptions(round_cost=200, max_trials=100)
    report = lplb.simulate(
        "synthetic:W6_rotating_hotspot", policies=["eplb+lplb"], controller=options
    )
    assert [p["name"] for p in report["policies"]] == ["eplb+lplb", "controller+lplb"]
    eplb, controlled = report["policies"]
    assert eplb["charged"] > controlled["charged"] > controlled["imbalance"]["mean"] > 1
    assert eplb["decisions"] == [] and controlled["decisions"]
    for made in controlled["decisions"]:
        assert made["expected"] * made["life"] > made["price"] == 200 * made["rounds"]
    assert report["settings"]["controller"]["round_cost"] == 200


def test_a_search_takes_its_turn() -> None:
    layers = 5
    made = controllers(layers)
    made.add(skewed(layers), 0)
    assert made.decide(-1.0) == {}
    decided = made.decide(30.0)
    assert sorted(decided) == list(range(layers))
    assert all(d["kind"] != "keep" and d["reason"] == "it pays" for d in decided.values())
    made.adopt([1, 3])
    stats = made.stats()
    assert stats["rebalances"] == 2 and stats["moves"] == sum(decided[i]["moves"] for i in (1, 3))
    assert stats["trust"] == 0.5 and stats["batches"] == layers
    made.close()


def test_layers_that_a_search_did_not_reach_come_first() -> None:
    made = controllers(4)
    made.add(skewed(4), 0)
    slow = made._layers[1].decide

    class Late:
        """The second layer's search takes all the time."""

        def decide(self) -> object:
            time.sleep(0.5)
            return slow()

        proposal = made._layers[1].proposal

    made._layers[1] = Late()  # type: ignore[call-overload]
    made._pool.shutdown()
    made._pool = ThreadPoolExecutor(1)
    assert sorted(made.decide(0.4)) == [0, 1]
    assert made._next == 2
    made._layers[1] = made._layers[0]
    assert list(made.decide(30.0)) == [2, 3, 0, 1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"life": 0}, "life: 0 is not a finite number > 0"),
        ({"interval": 0}, "interval: 0 is not >= 1"),
        ({"window": 0}, "window: 0 is not between 1 and 4096"),
    ],
)
def test_options_are_checked(options: dict[str, int], why: str) -> None:
    made = lplb.ControllerOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{why}$"):
        Controllers([lplb.Placement([0, 1], 2)], made.native(None), 1)
