# SPDX-License-Identifier: MIT
"""The class that takes the place of vLLM's EPLB policy "default"."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

import lplb


def make_policy(base: Any) -> Any:
    """A subclass of vLLM's AbstractEplbPolicy. Policies are classes, or objects that make plans."""

    class LplbPolicy(base):  # type: ignore[misc]
        """lplb.rebalance_experts(), in which experts that stay on a rank keep their slots.

        With LPLB_VLLM_PLACEMENT=FILE.npy, it is always that placement, [layers, slots]. The path
        must be absolute, because each worker has a folder of its own.
        """

        @classmethod
        def rebalance_experts(
            cls,
            weight: Any,
            num_replicas: int,
            num_groups: int,
            num_nodes: int,
            num_ranks: int,
            old_global_expert_indices: Any = None,
        ) -> Any:
            return choose_placement(
                weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
            )

        def plan_rebalance(self, context: Any, policy_state: Any) -> Any:
            """What a vLLM whose policies are objects calls. No other one looks at it."""
            topology = context.topology
            plan = sys.modules[base.__module__].EplbPlan
            return plan(
                choose_placement(
                    context.load_window_cpu.sum(0),
                    context.num_replicas,
                    topology.num_groups,
                    topology.num_nodes,
                    topology.num_ranks,
                    context.physical_to_logical_map_cpu,
                )
            )

    return LplbPolicy


def choose_placement(
    weight: Any, num_replicas: int, num_groups: int, num_nodes: int, num_ranks: int, old: Any
) -> Any:
    """int64 [layers, num_replicas] on the CPU. `old`: the same of before, or None."""
    import torch

    path = os.environ.get("LPLB_VLLM_PLACEMENT")
    if path:
        new = np.load(path)
        if new.shape != (weight.shape[0], num_replicas):
            raise ValueError(
                f"{path}: has shape {list(new.shape)}, expected {[weight.shape[0], num_replicas]}"
            )
    else:
        # Two replicas of an expert on one rank are of no use to the split.
        spread = weight.shape[1] // num_nodes >= num_replicas // num_ranks
        new, _, _ = lplb.rebalance_experts(
            weight.numpy(), num_replicas, num_groups, num_nodes, num_ranks, spread=spread
        )
    if old is not None and tuple(old.shape) == new.shape and bool((old >= 0).all()):
        experts = weight.shape[1]
        pairs = zip(*(lplb.layers_of(m, num_ranks, experts) for m in (old.numpy(), new)))
        new = np.stack([lplb.keep_slots(*pair).physical_to_logical for pair in pairs])
    return torch.from_numpy(new.astype(np.int64))
