# SPDX-License-Identifier: MIT
"""UltraEP's planner. It chooses its own replicas for each batch: as many slots as the loads have.

solve: the function that the tests of its version 1.0 call, with the defaults of its Manager. It
also allocates its six result tables. All ranks are in one NVLink domain and have equal counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from adapter import Case, Loads, serve


def find() -> str:
    import ultra_ep
    import ultra_ep._C

    return str(getattr(ultra_ep, "__version__", ""))


def prepare(loads: Loads, device: str) -> Case:
    from ultra_ep import _C

    num_ranks, num_logical = loads.num_ranks, loads.num_logical
    redundants = (len(loads.physical_to_logical) - num_logical) // num_ranks
    total = torch.from_numpy(loads.batches).int().to(device)

    def counts_of(load: torch.Tensor) -> torch.Tensor:
        """Counts of each rank [num_ranks, num_logical] that sum up to `load`."""
        rank = torch.arange(num_ranks, device=device)[:, None]
        counts: torch.Tensor = (load // num_ranks + (rank < load % num_ranks)).int()
        return counts.contiguous()

    def solve(batch: int) -> Callable[[], Any]:
        load = total[batch].contiguous()
        counts = counts_of(load)
        return lambda: _C.solve_placement_for_test(
            load,
            counts,
            num_ranks=num_ranks,
            num_local_master_experts=num_logical // num_ranks,
            num_local_redundant_experts=redundants,
            num_nvl_ranks=num_ranks,
            legacy_placement=False,
            balance_threshold=1.0,
            min_tokens_per_replica=1024,
            allow_zero_master_quota=False,
            locality_aware=True,
            oracle_eps=0.01,
            kernel_stage=1,
            rank_quota_source_rank=0,
        )

    def plan(batch: int) -> dict[str, Any]:
        experts, slots, _, quota = (table.cpu() for table in solve(batch)()[:4])
        tokens = torch.zeros(len(experts), dtype=torch.int64)
        used = slots >= 0
        tokens.index_add_(0, slots[used].long(), quota[used].long())
        return {"physical_to_logical": experts.tolist(), "physical_load": tokens.tolist()}

    return Case("plans", plan, {"solve": solve})


if __name__ == "__main__":
    serve(find, prepare)
