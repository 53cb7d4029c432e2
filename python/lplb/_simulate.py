# SPDX-License-Identifier: MIT
"""Replaying recorded loads."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from lplb import _lplb
from lplb._arrays import check_int


class SimulateReport(dict[str, Any]):
    """The report of `lplb simulate --json` as a dict; `policies` has an entry for each policy."""

    def __init__(self, text: str, html: str) -> None:
        super().__init__(json.loads(text))
        self.json = text
        self.html = html

    def policy(self, name: str) -> dict[str, Any]:
        """The entry of one policy. KeyError if it was not replayed."""
        for entry in self["policies"]:
            if entry["name"] == name:
                return dict(entry)
        raise KeyError(name)


def simulate(
    trace: str | os.PathLike[str],
    *,
    num_ranks: int = 8,
    num_nodes: int = 1,
    num_groups: int = 1,
    redundants: int = 2,
    policies: str | Sequence[str] = ("none", "eplb", "eplb+lplb"),
    batch_tokens: int = 0,
    window: int = 8,
    rebalance_every: int = 1,
    solver: str = "auto",
    jobs: int = 1,
    seed: int = 0,
) -> SimulateReport:
    """Replays a trace through placement and split policies: the imbalance that each gives.

    Parameters
    ----------
    trace : path or str
        A recorded trace, or "synthetic:NAME".
    policies : sequence of str, or names with commas between
        "none", "eplb", "eplb+lplb", "TOPOLOGY+even", "TOPOLOGY+lplb".
    batch_tokens : int
        Merge or cut steps to batches of this many tokens; 0: as recorded.
    window : int
        How many past batches a placement is made from.
    rebalance_every : int
        How many batches a placement is used for.
    num_ranks, num_nodes, num_groups, redundants, solver, jobs, seed :
        The options of `lplb simulate`.

    Returns
    -------
    SimulateReport
        What `lplb simulate --json` writes. The GIL is released during the replay.

    Examples
    --------
    >>> import lplb
    >>> report = lplb.simulate("synthetic:W0_balanced", policies=["none"])
    >>> report["policies"][0]["name"]
    'none'
    """
    text, html = _lplb.simulate(
        os.fspath(trace),
        check_int(num_ranks, "num_ranks"),
        check_int(num_nodes, "num_nodes"),
        check_int(num_groups, "num_groups"),
        check_int(redundants, "redundants"),
        policies.split(",") if isinstance(policies, str) else list(policies),
        check_int(batch_tokens, "batch_tokens"),
        check_int(window, "window"),
        check_int(rebalance_every, "rebalance_every"),
        solver,
        check_int(jobs, "jobs"),
        check_int(seed, "seed"),
        "lplb.simulate()",
    )
    return SimulateReport(text, html)
