# SPDX-License-Identifier: MIT
"""lplb.replicate() of this project: the replicas are chosen for the batch, as UltraEP does.

It runs on the CPU and is not timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from adapter import Case, Loads, serve

import lplb


def find() -> str:
    return lplb.__version__


def prepare(loads: Loads, device: str) -> Case:
    homes = np.arange(loads.num_logical).reshape(loads.num_ranks, -1)
    slots = (len(loads.physical_to_logical) - loads.num_logical) // loads.num_ranks
    placement = lplb.Placement(homes.reshape(-1), loads.num_ranks)

    def plan(batch: int) -> dict[str, Any]:
        found = lplb.replicate(placement, loads.batches[batch], dynamic_slots=slots)
        experts = np.concatenate([homes, found.slot_expert], axis=1)
        return {
            "physical_to_logical": experts.reshape(-1).tolist(),
            "physical_load": found.physical_load.tolist(),
        }

    return Case("plans", plan)


if __name__ == "__main__":
    serve(find, prepare)
