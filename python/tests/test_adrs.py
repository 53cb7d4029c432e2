# SPDX-License-Identifier: MIT
"""bench/adrs.py: its rules, and the solution that would be handed in."""

import importlib.util
import pathlib
from typing import Any

import pytest

import lplb

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def adrs() -> Any:
    spec = importlib.util.spec_from_file_location("adrs", BENCH / "adrs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def windows(adrs: Any) -> list[Any]:
    trace = adrs.ROOT / "data/traces/deepseek-v2-lite.load.jsonl"
    return [load[:3] for load in adrs.windows_of(trace, 20)[:4]]


def test_the_solution_is_taken_and_is_more_even_than_eplb(adrs: Any, windows: list[Any]) -> None:
    ours = adrs.evaluate(adrs.program_of(BENCH / "adrs_solution.py"), windows, 1)
    eplb = adrs.evaluate(lplb.rebalance_experts, windows, 1)
    assert eplb["balancedness"] < ours["balancedness"] < ours["exact"] <= 1
    assert ours["score"] <= 90 * ours["balancedness"] + 10


def test_mappings_against_the_rules_are_refused(adrs: Any, windows: list[Any]) -> None:
    load = windows[0]
    phy2log, log2phy, logcnt = lplb.rebalance_experts(load, 288, 8, 4, 32)
    adrs.check(phy2log, log2phy, logcnt, load)
    with pytest.raises(ValueError, match="shape"):
        adrs.check(phy2log[:, 1:], log2phy, logcnt, load)
    more = logcnt.clone()
    more[0, 0] += 1
    with pytest.raises(ValueError, match="sum to 288"):
        adrs.check(phy2log, log2phy, more, load)
    none = logcnt.clone()
    none[0, 1] += none[0, 0]
    none[0, 0] = 0
    with pytest.raises(ValueError, match="no copy"):
        adrs.check(phy2log, log2phy, none, load + 1)
    with pytest.raises(ValueError, match="not in its slots"):
        adrs.check(phy2log.roll(1, dims=1), log2phy, logcnt, load)
