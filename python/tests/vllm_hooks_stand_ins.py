# SPDX-License-Identifier: MIT
"""A vLLM with hooks for EPLB, as its pull request 49700 has them: no release does."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import torch.distributed as dist
import vllm_stand_ins as v


@dataclasses.dataclass(frozen=True)
class EplbPlan:
    physical_to_logical_map: Any


class AbstractEplbPolicy:
    """The algorithm of all models: an object, which makes plans."""

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
        raise NotImplementedError

    def create_state(self, num_moe_layers: int) -> Any:
        return types.SimpleNamespace()

    def plan_rebalance(self, context: Any, policy_state: Any) -> Any:
        raise NotImplementedError


class EplbLayerState(v.EplbLayerState):
    def __init__(self) -> None:
        super().__init__()
        self.map_and_record: Any = None


class EplbState(v.EplbState):
    def add_model(self, model: Any, model_config: Any, model_name: str | None = None) -> None:
        for layer in model.moe_layers:  # states that the router did not begin with
            layer.router.eplb_state = EplbLayerState()
        super().add_model(model, model_config, model_name)
        self.policy = self.policy()
        self.policy_state = self.policy.create_state(model.num_moe_layers)

    def plan(self, load: Any, state: Any) -> Any:
        context = types.SimpleNamespace(
            load_window_cpu=load[None],
            physical_to_logical_map_cpu=state.physical_to_logical_map,
            topology=types.SimpleNamespace(
                num_groups=1, num_nodes=1, num_ranks=dist.get_world_size()
            ),
            num_replicas=state.model.num_physical_experts,
        )
        return self.policy.plan_rebalance(context, self.policy_state).physical_to_logical_map

    def commit(self, state: Any, new: Any) -> None:
        super().commit(state, new)
        for layer in range(len(new)):
            self.on_layer_committed(state, layer)

    def on_layer_committed(self, model_state: Any, layer_idx: int) -> None:
        pass


def select_experts(self: Any, hidden_states: Any, router_logits: Any) -> tuple[Any, Any]:
    weights, ids = self._compute_routing(hidden_states, router_logits, None)
    state = self.eplb_state
    valid = state.num_unpadded_tokens_tensors[v.base_router.dbo_current_ubatch_id()]
    assert state.map_and_record is not None, "vLLM's own choice, which is right but not balanced"
    return weights, state.map_and_record(ids, valid)


def add_hooks() -> None:
    """Turns the stand-ins of this process into a vLLM with hooks."""
    v.eplb_state.EplbState, v.eplb_state.EplbLayerState = EplbState, EplbLayerState
    v.policy.AbstractEplbPolicy = AbstractEplbPolicy
    v.base_router.BaseRouter._select_experts = select_experts
