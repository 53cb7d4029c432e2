# SPDX-License-Identifier: MIT
"""What the tests of lplb.engines.sglang run: SGLang's own code around experts that are simulated.

If SGLang is not installed, sglang_stand_ins.py takes its place. A slot's weight is its expert's
number.
"""

from __future__ import annotations

import contextlib
import importlib.util
import types
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch.distributed as dist
from ranks import DEVICE

import lplb
from lplb.engines import sglang as plugin

IS_REAL = importlib.util.find_spec("sglang") is not None
if not IS_REAL:
    import sglang_stand_ins

    sglang_stand_ins.install()

from sglang.srt import runtime_context  # noqa: E402
from sglang.srt.eplb import (  # noqa: E402
    eplb_algorithms,
    eplb_manager,
    expert_location,
    expert_location_dispatch,
    expert_location_updater,
    lplb_solver,
)
from sglang.srt.layers.moe import hash_topk, topk  # noqa: E402
from sglang.srt.model_executor.model_runner_components import moe_ep_setup  # noqa: E402
from sglang.srt.plugins.hook_registry import HookRegistry  # noqa: E402

LAYERS, EXPERTS, SLOTS, TOPK = 3, 8, 12, 2


def metadata_of(maps: torch.Tensor) -> Any:
    """[LAYERS, SLOTS]: which expert is in each slot."""
    layers, slots = maps.shape
    to_physical = torch.full((layers, EXPERTS, slots), -1)
    count = torch.zeros((layers, EXPERTS), dtype=torch.int64)
    maps = maps.cpu()
    for layer, row in enumerate(maps.tolist()):
        for slot, expert in enumerate(row):
            to_physical[layer, expert, count[layer, expert]] = slot
            count[layer, expert] += 1
    return expert_location.ExpertLocationMetadata(
        physical_to_logical_map=maps.clone().to(DEVICE),
        physical_to_logical_map_cpu=maps.clone(),
        logical_to_all_physical_map=to_physical.to(DEVICE),
        logical_to_all_physical_map_cpu=to_physical.clone(),
        logical_to_all_physical_map_num_valid=count.to(DEVICE),
        ep_size=dist.get_world_size(),
        logical_to_rank_dispatch_physical_map=None,
    )


class Recorder:
    """What SGLang's recorder has seen: the first experts are hot, other ones in each layer."""

    recording = True

    def dump_record(self, output_mode: str) -> dict[str, Any]:
        hot = torch.tensor([900, 500, 100, 60, 50, 40, 30, 20])
        rows = torch.stack([hot.roll(2 * layer) for layer in range(LAYERS)])
        return {"logical_count": rows[None], "average_utilization_rate_over_window": None}


class Rank:
    """A rank of a server: its slots' weights, and what SGLang does with them."""

    def __init__(self) -> None:
        self.model = types.SimpleNamespace(
            hf_config=types.SimpleNamespace(architectures=["DeepseekV3ForCausalLM"])
        )
        self.pretend()
        first = torch.arange(SLOTS) % EXPERTS
        expert_location.set_global_expert_location_metadata(metadata_of(first.repeat(LAYERS, 1)))
        self.weights = first.repeat(LAYERS, 1)[:, self.mine].clone()
        self.updater = expert_location_updater.ExpertLocationUpdater()
        moe_ep_setup.init_lplb_solvers(model_config=self.model)

    def pretend(self) -> None:
        """What SGLang's arguments and its device would say."""
        size = dist.get_world_size()
        parallel = types.SimpleNamespace(
            moe_ep_group=types.SimpleNamespace(device_group=dist.group.WORLD),
            nnodes=1,
            tp_rank=dist.get_rank(),
            tp_group=None,
            ep_size=size,
            elastic_ep_initial_size=None,
        )
        moe = types.SimpleNamespace(
            ep_dispatch_algorithm="lp",
            ep_join_mode=None,
            ep_num_redundant_experts=SLOTS - EXPERTS,
            eplb_algorithm="auto",
            moe_a2a_backend="deepep",
            eplb_min_rebalancing_utilization_threshold=1.0,
            eplb_rebalance_layers_per_chunk=2,
            eplb_rebalance_num_iterations=3,
            expert_distribution_recorder_buffer_size=1,
        )
        device = types.SimpleNamespace(device=DEVICE)
        pretended: dict[str, Any] = {
            "get_parallel": lambda: parallel,
            "get_exec": lambda: types.SimpleNamespace(moe=moe),
            "get_device": lambda: device,
        }
        modules = (
            runtime_context,
            eplb_manager,
            expert_location,
            expert_location_dispatch,
            expert_location_updater,
            topk,
        )
        for module in modules:
            for name, value in pretended.items():
                if hasattr(module, name):
                    setattr(module, name, value)
        sizes = expert_location.ModelConfigForExpertLocation(LAYERS, EXPERTS, None)
        expert_location.ModelConfigForExpertLocation.from_model_config = lambda config: sizes
        eplb_manager.get_global_expert_distribution_recorder = Recorder
        torch_: Any = torch
        if DEVICE.type == "cpu":
            nothing: Any = types.SimpleNamespace(empty_cache=lambda: None, synchronize=lambda: None)
            torch_.get_device_module = lambda device=None: nothing
        torch_._dynamo.config.disable = True  # what SGLang compiles runs as it is
        topk._is_cuda = True  # the branch with `lp`; no kernel is called in it
        topk.use_symmetric_memory = lambda *_, **__: contextlib.nullcontext()
        topk.is_allocation_symmetric = lambda: False

    @property
    def mine(self) -> slice:
        width = SLOTS // dist.get_world_size()
        return slice(dist.get_rank() * width, (dist.get_rank() + 1) * width)

    def map(
        self,
        layer: int,
        ids: torch.Tensor,
        shared: int = 0,
        valid: Any = None,
        is_draft: bool = False,
    ) -> Any:
        """The slots that select_experts() ends with; then `shared` columns of SGLang's own."""
        config = topk.TopKConfig(top_k=ids.shape[1] + shared, allow_routed_experts_capture=False)
        if shared:
            config.shared_experts = types.SimpleNamespace(num_shared_topk_slots=shared)
        columns = torch.full((len(ids), shared), 99, dtype=ids.dtype, device=ids.device)
        whole = torch.cat([ids, columns], 1)
        slots = topk._post_process_topk_ids(
            whole,
            torch.ones(whole.shape, device=ids.device),
            config,
            torch.zeros((len(ids), EXPERTS), device=ids.device),
            layer,
            valid,
            self.info(layer, is_draft),
        )[0]
        if shared:
            assert (slots[:, TOPK:] == columns).all()
        return slots[:, :TOPK]

    def map_hashed(self, layer: int, ids: torch.Tensor) -> Any:
        """As HashTopK.forward() does."""
        shares = lplb_solver.get_global_lplb_solver(layer).solve(ids)
        return hash_topk.topk_ids_logical_to_physical(ids, self.info(layer), shares)

    def info(self, layer: int, is_draft: bool = False) -> Any:
        return expert_location_dispatch.ExpertLocationDispatchInfo.init_new(
            layer, is_draft=is_draft
        )

    def empty(self, layer: int, is_draft: bool = False) -> None:
        """What a rank without tokens does in a layer."""
        router = topk.TopK.__new__(topk.TopK)
        torch.nn.Module.__init__(router)
        router.layer_id, router.is_draft = layer, is_draft
        router.topk_config = topk.TopKConfig(top_k=TOPK)
        router._apply_waterfill = lambda output, _num_tokens: output
        router.empty_topk_output(DEVICE)

    def routed_experts(self) -> Any:
        """A model, of which the weights of each layer's slots are asked."""
        rows = {layer: [self.weights[layer]] for layer in range(LAYERS)}
        return types.SimpleNamespace(routed_experts_weights_of_layer=rows)

    def manager(self) -> Any:
        """SGLang's EPLB manager, which rebalances after each three batches, two layers at once."""
        updates = types.SimpleNamespace(update_weights_from_disk=None)
        return eplb_manager.EPLBManager(
            model_config=self.model,
            get_model=self.routed_experts,
            get_expert_location_updater=lambda: self.updater,
            get_expert_backup_client=lambda: None,
            get_weight_updater=lambda: updates,
        )

    def update(self, maps: torch.Tensor, layers: list[int]) -> None:
        """Weights, then the maps in place; no new solvers."""
        self.updater.update(
            self.routed_experts().routed_experts_weights_of_layer,
            metadata_of(maps),
            update_layer_ids=layers,
            nnodes=1,
            rank=dist.get_rank(),
        )

    def rebalance(self, maps: torch.Tensor, chunk: list[int]) -> None:
        """A chunk of layers of the EPLB manager."""
        eplb_manager.update_expert_location_with_recovery(
            expert_location_updater=self.updater,
            model=self.routed_experts(),
            new_expert_location_metadata=metadata_of(maps),
            update_layer_ids=chunk,
            tp_rank=dist.get_rank(),
            expert_backup_client=None,
            update_weights_from_disk_callable=None,
            ep_dispatch_algorithm="lp",
            init_lplb_solvers_callable=lambda: moe_ep_setup.init_lplb_solvers(
                model_config=self.model
            ),
        )

    def held(self, layer: int) -> torch.Tensor:
        """[SLOTS]: the experts whose weights are there, whatever a map says."""
        told = [torch.empty_like(self.weights[layer]) for _ in range(dist.get_world_size())]
        dist.all_gather(told, self.weights[layer].contiguous())
        return torch.cat(told)

    def expect_right(self, layer: int, ids: torch.Tensor, slots: torch.Tensor) -> None:
        assert slots.shape == ids.shape and slots.dtype == ids.dtype
        slots, ids = slots.cpu(), ids.cpu()
        held = self.held(layer)[slots.long().clamp(min=0)]
        assert torch.equal(torch.where(slots < 0, -1, held), ids.long())

    def expect_balanced(self, layer: int, ids: torch.Tensor, slots: torch.Tensor) -> None:
        size, slots, ids = dist.get_world_size(), slots.cpu(), ids.cpu()
        load = torch.bincount(ids[ids >= 0].long(), minlength=EXPERTS)
        taken = torch.bincount(slots[slots >= 0].long() // (SLOTS // size), minlength=size)
        for counts in (load, taken):
            dist.all_reduce(counts)
        best = lplb.solve(lplb.Placement(self.held(layer).numpy(), size, EXPERTS), load.numpy())
        assert int(taken.max()) == int(best.max_load)


def draw(seed: int, num_tokens: int) -> torch.Tensor:
    """[num_tokens, TOPK] int32: the first experts are hot."""
    random = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, EXPERTS + 1) ** 2
    ids = [
        random.choice(EXPERTS, TOPK, replace=False, p=weight / weight.sum())
        for _ in range(num_tokens)
    ]
    return torch.tensor(np.array(ids).reshape(num_tokens, TOPK), dtype=torch.int32, device=DEVICE)


__all__ = [
    "HookRegistry",
    "eplb_algorithms",
    "expert_location",
    "expert_location_dispatch",
    "lplb_solver",
    "moe_ep_setup",
    "plugin",
    "topk",
]
