# SPDX-License-Identifier: MIT
"""SGLang's `--ep-dispatch-algorithm lp`, through its own Python, without a group.

solve: LPLBSolver's three kernels, with the counts of the group given. run: its solve() of a rank's
tokens, then the draw of a replica for each of them. Its answers are weights; it draws replicas in
proportion to them, and evenly if all are 0, so the shares are these proportions.
"""

from __future__ import annotations

import re
from importlib import metadata

import torch
from adapter import Call, Case, Loads, serve

OLDEST = (0, 5, 23)


def find() -> str:
    import sglang.srt.eplb.lplb_solver  # noqa: F401

    try:
        version = metadata.version("sglang")
    except metadata.PackageNotFoundError:
        return "of unknown version"
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST:
        raise ImportError(f"sglang is {version}, expected {'.'.join(map(str, OLDEST))} or newer")
    return version


def prepare(loads: Loads, device: str) -> Case:
    from sglang.kernels.ops.lplb import cuda_solver
    from sglang.srt.eplb.lplb_solver import LPLBSolver

    slots = loads.slots_of()
    num_slots = len(loads.physical_to_logical)
    # NOTE: SGLang pads its tables to the number of slots, not to that of replicas.
    rows = [found + [-1] * (num_slots - len(found)) for found in slots]
    log2phy = torch.tensor(rows, dtype=torch.int64, device=device)
    solver = LPLBSolver(
        phy2log=torch.from_numpy(loads.physical_to_logical).long().to(device),
        log2phy=log2phy,
        num_gpus=loads.num_ranks,
        ep_group=None,
        logical_to_all_physical_map_num_valid=(log2phy >= 0).sum(1),
    )
    counts = torch.from_numpy(loads.batches).float().to(device)
    topk_ids = torch.from_numpy(loads.topk_idx).int().to(device)

    def shares(batch: int) -> list[float]:
        weights = solver._solve(counts[batch]).cpu().double().tolist()
        found = [0.0] * num_slots
        for own, row in zip(slots, weights, strict=True):
            total = sum(row)
            for i, slot in enumerate(own):
                found[slot] = row[i] / total if total > 0 else 1 / len(own)
        return found

    def solve(batch: int) -> Call:
        load = counts[batch]
        return lambda: solver._solve(load)

    def run(batch: int) -> Call:
        ids = topk_ids[batch]
        return lambda: cuda_solver.dispatch_probability(ids, solver.solve(ids), log2phy)

    return Case("shares", shares, {"solve": solve, "run": run})


if __name__ == "__main__":
    serve(find, prepare)
