# SPDX-License-Identifier: MIT
"""Stand-ins for what lplb.engines.vllm meets in vLLM 0.33.0, as far as the tests go.

They do what was seen in the real code: scalar token counts, a state for each model, rows of one
load tensor, commits as functions of the module, and a policy that is called in profile runs too.
"""

from __future__ import annotations

import importlib.metadata
import sys
import types
from typing import Any

import torch
import torch.distributed as dist

import lplb

MAX_REPLICAS = 1024


class DefaultPolicy:
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
        maps = lplb.rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_ranks)
        return maps[0].cpu()


class EplbLayerState:
    def __init__(self) -> None:
        self.expert_load_view: Any = None
        self.logical_to_physical_map: Any = None
        self.logical_replica_count: Any = None
        self.should_record_tensor: Any = None
        self.num_unpadded_tokens_tensors: Any = None

    def set_layer_state(self, layer: int, load: Any, to_physical: Any, count: Any) -> None:
        self.expert_load_view = load[layer]
        self.logical_to_physical_map = to_physical[layer]
        self.logical_replica_count = count[layer]


def compute_logical_maps(physical_to_logical: Any, num_experts: int) -> tuple[Any, Any]:
    layers = len(physical_to_logical)
    to_physical = torch.full((layers, num_experts, MAX_REPLICAS), -1)
    count = torch.zeros((layers, num_experts), dtype=torch.int64)
    for layer, row in enumerate(physical_to_logical.tolist()):
        for slot, expert in enumerate(row):
            to_physical[layer, expert, count[layer, expert]] = slot
            count[layer, expert] += 1
    return to_physical, count


def commit(model_state: Any, new_physical_to_logical_map: Any) -> None:
    for layer, row in enumerate(new_physical_to_logical_map):
        commit_layer(model_state, row, layer)


def commit_layer(model_state: Any, new_physical_to_logical_map: Any, layer: int) -> None:
    new = new_physical_to_logical_map
    model_state.physical_to_logical_map[layer].copy_(new)
    experts = model_state.logical_replica_count.shape[1]
    to_physical, count = compute_logical_maps(new[None], experts)
    model_state.logical_to_physical_map[layer].copy_(to_physical[0])
    model_state.logical_replica_count[layer].copy_(count[0])


def move_to_workspace(model_state: Any, ep_rank: int) -> None:
    result = model_state.pending_result
    eplb_state.move_from_buffer(
        expert_weights=model_state.model.expert_weights[result.layer_idx],
        expert_weights_buffers=model_state.expert_buffer,
        transfer_metadata=result.transfer_metadata,
        new_indices=result.new_physical_to_logical_map.numpy(),
        ep_rank=ep_rank,
    )
    eplb_state._commit_eplb_maps_for_layer(
        model_state,
        new_physical_to_logical_map=result.new_physical_to_logical_map,
        layer=result.layer_idx,
    )
    model_state.pending_result = None


class EplbState:
    def __init__(self, parallel_config: Any, device: Any) -> None:
        self.parallel_config = parallel_config
        self.model_states: dict[str, Any] = {}
        self.should_record_tensor = torch.ones((), dtype=torch.bool)
        self.steps = parallel_config.eplb_config.step_interval * 3 // 4

    def add_model(self, model: Any, model_config: Any, model_name: str | None = None) -> None:
        slots, layers = model.num_physical_experts, model.num_moe_layers
        row = torch.arange(slots) % model.num_routed_experts
        maps = row.expand(layers, -1).contiguous()
        to_physical, count = compute_logical_maps(maps, model.num_logical_experts)
        load = torch.zeros((layers, slots), dtype=torch.int32)
        model.set_eplb_state(load, to_physical, count)
        counts = [
            torch.tensor(0, dtype=torch.int32)
            for _ in range(max(1, self.parallel_config.num_ubatches))
        ]
        for layer in model.moe_layers:
            layer.eplb_state.should_record_tensor = self.should_record_tensor
            layer.eplb_state.num_unpadded_tokens_tensors = counts
        self.policy = policy.EPLB_POLICIES[self.parallel_config.eplb_config.policy]
        self.model_states[model_config.compute_hash()] = types.SimpleNamespace(
            physical_to_logical_map=maps,
            physical_to_logical_map_buffer=maps,
            logical_to_physical_map=to_physical,
            logical_replica_count=count,
            expert_load_pass=load[:, :slots],
            expert_load_pass_buffer=load,
            window=torch.zeros_like(load),
            expert_buffer=None,
            model=model,
            model_name=model_name or model_config.model,
            pending_result=None,
            num_unpadded_tokens_tensors=counts,
        )

    def prepare_forward(
        self, model_config: Any, num_unpadded_tokens: int, ubatch_slices: Any = None
    ) -> None:
        counts = self.model_states[model_config.compute_hash()].num_unpadded_tokens_tensors
        if ubatch_slices is None:
            counts[0].fill_(num_unpadded_tokens)
            return
        for count, part in zip(counts, ubatch_slices):
            tokens = part.token_slice
            count.fill_(max(0, min(num_unpadded_tokens, tokens.stop) - tokens.start))

    def step(self, is_dummy: bool = False, is_profile: bool = False) -> None:
        self.steps += 1
        for state in self.model_states.values():
            if not is_profile:
                state.window += state.expert_load_pass
                state.expert_load_pass.zero_()
        if is_profile or self.steps >= self.parallel_config.eplb_config.step_interval:
            self.rearrange(is_profile)

    def rearrange(self, is_profile: bool) -> None:
        self.steps = 0
        for state in self.model_states.values():
            model = state.model
            load = torch.zeros((model.num_moe_layers, model.num_logical_experts), dtype=torch.int32)
            load.scatter_add_(1, state.physical_to_logical_map, state.window)
            dist.all_reduce(load)
            new = self.plan(load, state)
            eplb_state.rearrange_expert_weights_inplace(
                state.physical_to_logical_map,
                new,
                model.expert_weights,
                state.expert_buffer,
                None,
                None,
                is_profile,
                None,
            )
            if not is_profile:
                self.commit(state, new)

    def plan(self, load: Any, state: Any) -> Any:
        model = state.model
        return self.policy.rebalance_experts(
            load,
            model.num_physical_experts,
            model.num_expert_groups,
            1,
            dist.get_world_size(),
            state.physical_to_logical_map,
        )

    def commit(self, state: Any, new: Any) -> None:
        eplb_state._commit_eplb_maps(state, new_physical_to_logical_map=new)

    def update_mapping(self, model_config: Any, expanded_physical_to_logical: Any) -> None:
        commit(self.model_states[model_config.compute_hash()], expanded_physical_to_logical)


class BaseRouter:
    def __init__(self, top_k: int, global_num_experts: int, eplb_state: Any = None) -> None:
        self.eplb_state = eplb_state

    def _select_experts(self, hidden_states: Any, router_logits: Any) -> tuple[Any, Any]:
        weights, ids = self._compute_routing(hidden_states, router_logits, None)
        state = self.eplb_state
        ids = base_router.eplb_map_to_physical_and_record(
            topk_ids=ids,
            logical_to_physical_map=state.logical_to_physical_map,
            logical_replica_count=state.logical_replica_count,
            expert_load_view=state.expert_load_view,
            record_enabled=state.should_record_tensor,
            num_unpadded_tokens=state.num_unpadded_tokens_tensors[
                base_router.dbo_current_ubatch_id()
            ],
        )
        return weights, ids

    def _compute_routing(self, hidden_states: Any, router_logits: Any, dtype: Any) -> Any:
        raise NotImplementedError


def eplb_map_to_physical_and_record(
    topk_ids: Any,
    expert_load_view: Any,
    logical_to_physical_map: Any,
    logical_replica_count: Any,
    record_enabled: Any,
    num_unpadded_tokens: Any = None,
) -> Any:
    return topk_ids  # as vLLM's on a CPU


class DeepGemmMegaMoEExperts(torch.nn.Module):
    """Maps ids by itself, with its module's own name of the router's function."""

    has_fused_shared_experts = False
    eplb_state: Any
    _synchronize_first_launch: Any

    def forward(self, hidden_states: Any, topk_weights: Any, topk_ids: Any) -> Any:
        self._synchronize_first_launch()
        state = self.eplb_state
        topk_ids = mega_moe.eplb_map_to_physical_and_record(
            topk_ids=topk_ids,
            expert_load_view=state.expert_load_view,
            logical_to_physical_map=state.logical_to_physical_map,
            logical_replica_count=state.logical_replica_count,
            record_enabled=state.should_record_tensor,
            num_unpadded_tokens=state.num_unpadded_tokens_tensors[mega_moe.dbo_current_ubatch_id()],
        )
        mega_moe.prepare_megamoe_inputs(hidden_states, topk_weights, topk_ids)


eplb_state: Any = types.ModuleType("vllm.distributed.eplb.eplb_state")
eplb_state.EplbState, eplb_state.EplbLayerState = EplbState, EplbLayerState
eplb_state._commit_eplb_maps, eplb_state._commit_eplb_maps_for_layer = commit, commit_layer
eplb_state._move_to_workspace = move_to_workspace
policy: Any = types.ModuleType("vllm.distributed.eplb.policy")
policy.AbstractEplbPolicy, policy.EPLB_POLICIES = DefaultPolicy, {"default": DefaultPolicy}
base_router: Any = types.ModuleType("vllm.model_executor.layers.fused_moe.router.base_router")
base_router.BaseRouter = BaseRouter
base_router.eplb_map_to_physical_and_record = eplb_map_to_physical_and_record
base_router.dbo_current_ubatch_id = lambda: 0
mega_moe: Any = types.ModuleType("vllm.model_executor.layers.fused_moe.deep_gemm_mega_moe")
mega_moe.DeepGemmMegaMoEExperts = DeepGemmMegaMoEExperts
mega_moe.eplb_map_to_physical_and_record = eplb_map_to_physical_and_record
mega_moe.dbo_current_ubatch_id = lambda: 0
deep_gemm: Any = types.ModuleType("vllm.utils.deep_gemm")


def install() -> None:
    """Makes `import vllm...` find them in this process."""
    parallel_state = types.ModuleType("vllm.distributed.parallel_state")
    for module in (eplb_state, policy, base_router, mega_moe, deep_gemm, parallel_state):
        parts = module.__name__.split(".")
        for end in range(1, len(parts)):
            name = ".".join(parts[:end])
            parent = sys.modules.setdefault(name, types.ModuleType(name))
            child = ".".join(parts[: end + 1])
            last = module if end + 1 == len(parts) else types.ModuleType(child)
            setattr(parent, parts[end], sys.modules.setdefault(child, last))
    version = importlib.metadata.version
    metadata: Any = importlib.metadata
    metadata.version = lambda name: "0.33.0" if name == "vllm" else version(name)
