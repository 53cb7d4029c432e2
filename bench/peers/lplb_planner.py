# SPDX-License-Identifier: MIT
"""lplb.Planner of this project.

solve: run_quotas() of a rank without tokens, with the counts of the others given. run: run() with
`same_tokens`, so nothing is exchanged.
"""

from __future__ import annotations

import numpy as np
import torch
from adapter import Call, Case, Loads, serve

import lplb


def find() -> str:
    return lplb.__version__


def prepare(loads: Loads, device: str) -> Case:
    placement = lplb.Placement(loads.physical_to_logical, loads.num_ranks, loads.num_logical)
    solver = lplb.Planner(placement, rank=0, num_topk=1, max_tokens=1, quotas=True)
    planner = lplb.Planner(
        placement,
        rank=0,
        same_tokens=True,
        num_topk=loads.topk_idx.shape[2],
        max_tokens=loads.topk_idx.shape[1],
    )
    most = int(loads.batches.sum(1).max())
    counter = lplb.Planner(placement, rank=0, num_topk=1, max_tokens=most, backend="cpu")
    nothing = torch.empty((0, 1), dtype=torch.int64, device=device)
    topk_idx = torch.from_numpy(loads.topk_idx).long().to(device)
    experts = np.arange(loads.num_logical)
    slots = placement.logical_to_physical
    counts = []
    for load in loads.batches:
        # All tokens are another rank's: the row of the rank that plans is ignored.
        rows = np.zeros((loads.num_ranks, placement.packed_size), np.int64)
        rows[1] = counter.count(np.repeat(experts, load)[:, None])
        kind = torch.int32 if device == "cuda" else torch.int64
        counts.append(torch.from_numpy(rows).to(device, kind))

    def solve(batch: int) -> Call:
        rows = counts[batch]
        return lambda: solver.run_quotas(nothing, all_counts=rows)[1]

    def shares(batch: int) -> list[float]:
        quotas = solver.run_quotas(nothing, all_counts=counts[batch])[1]
        found = np.zeros(len(loads.physical_to_logical))
        share = quotas.shares.cpu().double().numpy()[:, : slots.shape[1]]
        found[slots[slots >= 0]] = share[slots >= 0]
        answer: list[float] = found.tolist()
        return answer

    def run(batch: int) -> Call:
        idx = topk_idx[batch]
        return lambda: planner.run(idx)

    return Case("shares", shares, {"solve": solve, "run": run})


if __name__ == "__main__":
    serve(find, prepare)
