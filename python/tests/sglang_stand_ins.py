# SPDX-License-Identifier: MIT
"""Stand-ins for what lplb.engines.sglang meets in SGLang 0.5.23, as far as the tests go.

They do what was seen in the real code: names that are imported by name before the hooks come,
views without the shared experts' columns, solvers for all layers after each chunk of a rebalance,
maps that change in place.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.metadata
import sys
import types
from typing import Any

import torch
import torch.distributed as dist

import lplb

resources = types.SimpleNamespace(lplb_solvers={}, expert_location_metadata=None)


@dataclasses.dataclass
class ExpertLocationMetadata:
    physical_to_logical_map: Any
    physical_to_logical_map_cpu: Any
    logical_to_all_physical_map: Any
    logical_to_all_physical_map_cpu: Any
    logical_to_all_physical_map_num_valid: Any
    ep_size: int
    logical_to_rank_dispatch_physical_map: Any

    def update(self, other: Any, update_layer_ids: list[int]) -> None:
        for field in ("physical_to_logical_map", "logical_to_all_physical_map"):
            getattr(self, field)[update_layer_ids] = getattr(other, field)[update_layer_ids]
        count = self.logical_to_all_physical_map_num_valid
        count[update_layer_ids] = other.logical_to_all_physical_map_num_valid[update_layer_ids]

    @staticmethod
    def init_by_eplb(model_config: Any, logical_count: Any) -> ExpertLocationMetadata:
        sizes = expert_location.ModelConfigForExpertLocation.from_model_config(model_config)
        moe = expert_location.get_exec().moe
        parallel = expert_location.get_parallel()
        slots = sizes.num_logical_experts + moe.ep_num_redundant_experts
        maps = eplb_algorithms.rebalance_experts(
            tokens_per_expert=logical_count,
            num_physical_experts=slots,
            num_local_physical_experts=slots // parallel.ep_size,
            num_groups=sizes.num_groups,
            num_nodes=parallel.nnodes,
            algorithm=EplbAlgorithm.deepseek,
        )
        to_logical, to_physical, count = (torch.as_tensor(each) for each in maps)
        room = slots - to_physical.shape[-1]
        to_physical = torch.nn.functional.pad(to_physical, (0, room), value=-1)
        return ExpertLocationMetadata(
            to_logical, to_logical, to_physical, to_physical, count, parallel.ep_size, None
        )


@dataclasses.dataclass
class ModelConfigForExpertLocation:
    num_layers: int
    num_logical_experts: int
    num_groups: int | None = None

    @staticmethod
    def from_model_config(model_config: Any) -> ModelConfigForExpertLocation:
        raise NotImplementedError


def get_global_expert_location_metadata() -> Any:
    return resources.expert_location_metadata


def set_global_expert_location_metadata(value: Any, allow_overwrite: bool = False) -> None:
    assert allow_overwrite or resources.expert_location_metadata is None
    resources.expert_location_metadata = value


class LPLBSolver:
    def __init__(
        self,
        phy2log: Any,
        log2phy: Any,
        num_gpus: int,
        ep_group: Any = None,
        logical_to_all_physical_map_num_valid: Any = None,
    ) -> None:
        raise AssertionError("needs a GPU")

    def solve(self, topk_ids: Any) -> Any:
        raise AssertionError("needs a GPU")


def clear_global_lplb_solvers() -> None:
    resources.lplb_solvers.clear()


def get_global_lplb_solver(layer_id: int) -> Any:
    return resources.lplb_solvers.get(layer_id)


def init_lplb_solvers(*, model_config: Any) -> None:
    """Calls what moe_ep_setup has imported by name."""
    metadata = get_global_expert_location_metadata()
    moe_ep_setup.clear_global_lplb_solvers()
    for layer, row in enumerate(metadata.physical_to_logical_map):
        resources.lplb_solvers[layer] = moe_ep_setup.LPLBSolver(
            phy2log=row,
            log2phy=metadata.logical_to_all_physical_map[layer],
            num_gpus=metadata.ep_size,
            ep_group=runtime_context.get_parallel().moe_ep_group,
            logical_to_all_physical_map_num_valid=None,
        )


@dataclasses.dataclass
class ExpertLocationDispatchInfo:
    ep_dispatch_algorithm: str
    partial_logical_to_rank_dispatch_physical_map: Any
    partial_logical_to_all_physical_map: Any
    partial_logical_to_all_physical_map_num_valid: Any
    num_physical_experts: int

    @classmethod
    def init_new(cls, layer_id: int, *, is_draft: bool = False) -> Any:
        if is_draft:
            return None
        metadata = get_global_expert_location_metadata()
        return cls(
            dispatch.get_exec().moe.ep_dispatch_algorithm,
            None,
            metadata.logical_to_all_physical_map[layer_id],
            metadata.logical_to_all_physical_map_num_valid[layer_id],
            metadata.physical_to_logical_map.shape[1],
        )


def topk_ids_logical_to_physical(topk_ids: Any, info: Any, log2phy_prob: Any = None) -> Any:
    if info is None:
        return topk_ids
    if info.ep_dispatch_algorithm == "dynamic":
        return choose_dynamic(topk_ids, info)
    raise RuntimeError("LP dispatch requires CUDA tensors")


def choose_dynamic(topk_ids: Any, info: Any) -> Any:
    count = info.partial_logical_to_all_physical_map_num_valid[topk_ids]
    chosen = torch.randint(0, 65536, topk_ids.shape) % count
    return info.partial_logical_to_all_physical_map[topk_ids, chosen].to(topk_ids.dtype)


@dataclasses.dataclass
class TopKConfig:
    top_k: int
    allow_routed_experts_capture: bool = True
    shared_experts: Any = dataclasses.field(
        default_factory=lambda: types.SimpleNamespace(num_shared_topk_slots=0)
    )


def post_process(
    topk_ids: Any,
    topk_weights: Any,
    topk_config: Any,
    router_logits: Any,
    layer_id: int,
    num_token_non_padded: Any = None,
    info: Any = None,
) -> tuple[Any, Any]:
    shared = topk_config.shared_experts.num_shared_topk_slots
    routed = topk_ids[:, :-shared] if shared else topk_ids
    shares = None if info is None else get_global_lplb_solver(layer_id).solve(routed)
    routed = topk.topk_ids_logical_to_physical(routed, info, shares)
    if shared:
        routed = torch.cat([routed, topk_ids[:, -shared:]], -1)
    if num_token_non_padded is not None:
        routed[num_token_non_padded:] = -1
    return routed, topk_weights


class TopK(torch.nn.Module):
    topk_config: Any
    layer_id: int
    is_draft: bool

    def empty_topk_output(self, device: Any) -> None:
        if not self.is_draft:
            ids = torch.empty((0, self.topk_config.top_k), dtype=torch.int32)
            get_global_lplb_solver(self.layer_id).solve(ids)


class EplbAlgorithm(enum.Enum):
    deepseek = 1


def rebalance_experts(
    tokens_per_expert: Any,
    num_physical_experts: int,
    num_local_physical_experts: int,
    num_groups: Any,
    num_nodes: int,
    algorithm: Any,
) -> Any:
    num_ranks = num_physical_experts // num_local_physical_experts
    return lplb.rebalance_experts(
        tokens_per_expert.sum(0), num_physical_experts, num_groups or 1, num_nodes, num_ranks
    )


class ExpertLocationUpdater:
    """Sends the weights of the slots that change, then changes the maps in place."""

    def update(
        self,
        routed_experts_weights_of_layer: Any,
        new_expert_location_metadata: Any,
        update_layer_ids: list[int],
        nnodes: int,
        rank: int,
    ) -> dict[int, Any]:
        metadata = get_global_expert_location_metadata()
        for layer in update_layer_ids:
            (mine,) = routed_experts_weights_of_layer[layer]
            held = [torch.empty_like(mine) for _ in range(metadata.ep_size)]
            dist.all_gather(held, mine)
            old = metadata.physical_to_logical_map[layer]
            new = new_expert_location_metadata.physical_to_logical_map[layer]
            source = [int((old == expert).nonzero()[0]) for expert in new.tolist()]
            first = rank * len(mine)
            mine.copy_(torch.cat(held)[source][first : first + len(mine)])
        metadata.update(new_expert_location_metadata, update_layer_ids=update_layer_ids)
        return {}


class EPLBManager:
    """Rebalances after some forward passes, a chunk of layers after each of the next ones."""

    def __init__(
        self,
        *,
        model_config: Any,
        get_model: Any,
        get_expert_location_updater: Any,
        get_expert_backup_client: Any,
        get_weight_updater: Any,
    ) -> None:
        self.config, self.get_model = model_config, get_model
        self.get_updater = get_expert_location_updater
        self.passes = self.run()

    def on_forward_pass_end(self) -> None:
        next(self.passes)

    def run(self) -> Any:
        moe = manager.get_exec().moe
        while True:
            for _ in range(moe.eplb_rebalance_num_iterations):
                yield
            record = manager.get_global_expert_distribution_recorder().dump_record("object")
            new = ExpertLocationMetadata.init_by_eplb(self.config, record["logical_count"])
            layers = sorted(self.get_model().routed_experts_weights_of_layer)
            size = moe.eplb_rebalance_layers_per_chunk
            for first in range(0, len(layers), size):
                yield
                manager.update_expert_location_with_recovery(
                    expert_location_updater=self.get_updater(),
                    model=self.get_model(),
                    new_expert_location_metadata=new,
                    update_layer_ids=layers[first : first + size],
                    tp_rank=manager.get_parallel().tp_rank,
                    ep_dispatch_algorithm=moe.ep_dispatch_algorithm,
                    init_lplb_solvers_callable=lambda: moe_ep_setup.init_lplb_solvers(
                        model_config=self.config
                    ),
                )


def update_expert_location_with_recovery(
    *,
    expert_location_updater: Any,
    model: Any,
    new_expert_location_metadata: Any,
    update_layer_ids: list[int],
    tp_rank: int,
    ep_dispatch_algorithm: str,
    init_lplb_solvers_callable: Any,
    **_rest: Any,
) -> None:
    expert_location_updater.update(
        model.routed_experts_weights_of_layer,
        new_expert_location_metadata,
        update_layer_ids,
        nnodes=manager.get_parallel().nnodes,
        rank=tp_rank,
    )
    init_lplb_solvers_callable()


class HookType(enum.Enum):
    AFTER, AROUND, REPLACE = "after", "around", "replace"


class HookRegistry:
    """Replaces a name, and the same object wherever else it was imported by name."""

    _hooks: dict[str, list[Any]] = {}

    @classmethod
    def register(cls, target: str, hook: Any, hook_type: Any = HookType.AFTER) -> None:
        cls._hooks.setdefault(target, []).append((hook_type, hook))

    @classmethod
    def apply_hooks(cls) -> None:
        for target, hooks in cls._hooks.items():
            module, _, name = target.rpartition(".")
            original = getattr(sys.modules[module], name)
            new = original
            for kind, hook in hooks:
                new = hook if kind is HookType.REPLACE else _wrapped(new, hook, kind)
            for other in list(sys.modules.values()):
                if isinstance(other, types.ModuleType) and other.__name__.startswith("sglang."):
                    for key, value in list(vars(other).items()):
                        if value is original:
                            setattr(other, key, new)

    @classmethod
    def reset(cls) -> None:
        cls._hooks.clear()


def _wrapped(function: Any, hook: Any, kind: HookType) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kind is HookType.AROUND:
            return hook(function, *args, **kwargs)
        result = function(*args, **kwargs)
        changed = hook(result, *args, **kwargs)
        return result if changed is None else changed

    return call


MODULES: dict[str, dict[str, Any]] = {
    "runtime_context": {"get_parallel": None},
    "eplb.lplb_solver": {
        "LPLBSolver": LPLBSolver,
        "clear_global_lplb_solvers": clear_global_lplb_solvers,
        "get_global_lplb_solver": get_global_lplb_solver,
    },
    "eplb.expert_location": {
        "ExpertLocationMetadata": ExpertLocationMetadata,
        "ModelConfigForExpertLocation": ModelConfigForExpertLocation,
        "get_exec": None,
        "get_parallel": None,
        "get_global_expert_location_metadata": get_global_expert_location_metadata,
        "set_global_expert_location_metadata": set_global_expert_location_metadata,
    },
    "eplb.expert_location_dispatch": {
        "ExpertLocationDispatchInfo": ExpertLocationDispatchInfo,
        "get_exec": None,
        "topk_ids_logical_to_physical": topk_ids_logical_to_physical,
        "_topk_ids_logical_to_physical_dynamic": choose_dynamic,
    },
    "eplb.eplb_algorithms": {
        "EplbAlgorithm": EplbAlgorithm,
        "rebalance_experts": rebalance_experts,
    },
    "eplb.expert_location_updater": {"ExpertLocationUpdater": ExpertLocationUpdater},
    "eplb.eplb_manager": {
        "EPLBManager": EPLBManager,
        "get_exec": None,
        "get_parallel": None,
        "update_expert_location_with_recovery": update_expert_location_with_recovery,
    },
    "layers.moe.topk": {
        "TopK": TopK,
        "TopKConfig": TopKConfig,
        "_post_process_topk_ids": post_process,
        "topk_ids_logical_to_physical": topk_ids_logical_to_physical,
    },
    "layers.moe.hash_topk": {"topk_ids_logical_to_physical": topk_ids_logical_to_physical},
    "model_executor.model_runner_components.moe_ep_setup": {
        "LPLBSolver": LPLBSolver,
        "clear_global_lplb_solvers": clear_global_lplb_solvers,
        "init_lplb_solvers": init_lplb_solvers,
    },
    "plugins.hook_registry": {"HookRegistry": HookRegistry, "HookType": HookType},
}

made: dict[str, Any] = {}
for _path, _members in MODULES.items():
    made[_path] = types.ModuleType(f"sglang.srt.{_path}")
    vars(made[_path]).update(_members)
runtime_context, topk = made["runtime_context"], made["layers.moe.topk"]
expert_location, dispatch = made["eplb.expert_location"], made["eplb.expert_location_dispatch"]
manager, eplb_algorithms = made["eplb.eplb_manager"], made["eplb.eplb_algorithms"]
moe_ep_setup = made["model_executor.model_runner_components.moe_ep_setup"]


def install() -> None:
    """Makes `import sglang...` find them in this process."""
    for module in made.values():
        parts = module.__name__.split(".")
        for end in range(1, len(parts)):
            name, child = ".".join(parts[:end]), ".".join(parts[: end + 1])
            parent = sys.modules.setdefault(name, types.ModuleType(name))
            last = module if end + 1 == len(parts) else types.ModuleType(child)
            setattr(parent, parts[end], sys.modules.setdefault(child, last))
    version = importlib.metadata.version
    metadata: Any = importlib.metadata
    metadata.version = lambda name: "0.5.23" if name == "sglang" else version(name)
