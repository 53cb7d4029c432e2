# SPDX-License-Identifier: MIT
"""deepseek-ai/LPLB's Planner: solve_probs() and run() without a group. It also serves the drop-in.

Placements are those that its update_redundancy_mapping() makes for the history.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from adapter import Call, Case, Loads, Refused, serve


def find() -> str:
    import lplb

    if hasattr(lplb, "cuda_info"):
        raise ImportError(f"{lplb.__file__} is this project's lplb, expected deepseek-ai/LPLB's")
    return ""  # it has none


def prepare(loads: Loads, device: str) -> Case:
    import lplb

    if loads.r2o is None:
        raise Refused("takes only placements along a topology")
    r2o = torch.from_numpy(loads.r2o).int().to(device)
    make: Any = lplb.Planner
    planner = make(r2o, len(loads.physical_to_logical), loads.num_logical, loads.num_ranks)
    made = planner.update_redundancy_mapping(torch.from_numpy(loads.history).to(device))[0]
    if made.tolist() != loads.physical_to_logical.tolist():
        raise Refused("made another placement for the same history")
    workloads = torch.from_numpy(loads.batches).int().to(device)
    topk_idx = torch.from_numpy(loads.topk_idx).long().to(device)
    counter = torch.zeros(1, dtype=torch.int32, device=device)

    def shares(batch: int) -> list[float]:
        kept = planner.solve_probs(workloads[batch], counter)[0]
        return shares_of_slots(loads, kept[0].cpu().double().numpy())

    def solve(batch: int) -> Call:
        workload = workloads[batch]
        return lambda: planner.solve_probs(workload, counter)

    def run(batch: int) -> Call:
        idx = topk_idx[batch]
        return lambda: planner.run(idx, counter)

    return Case("shares", shares, {"solve": solve, "run": run})


def shares_of_slots(loads: Loads, kept: Any) -> list[float]:
    """The share of each slot from those that originals keep [num_ranks, num_columns].

    A rank has its own experts first, the i-th of which has the share of column i % num_columns if
    it is replicated, then the replicas: the i-th is that of slot i of rank r2o[rank, column].
    """
    num_ranks, num_columns = kept.shape
    slots = len(loads.physical_to_logical) // num_ranks
    own = loads.num_logical // num_ranks
    shares = np.ones((num_ranks, slots))
    for i in range(slots - own):
        column = i % num_columns
        shares[:, i] = kept[:, column]
        shares[:, own + i] = 1 - kept[loads.r2o[:, column], column]
    found: list[float] = shares.reshape(-1).tolist()
    return found


if __name__ == "__main__":
    serve(find, prepare)
