# SPDX-License-Identifier: MIT
"""What the tests of lplb.engines.vllm run: vLLM's own EPLB code around a model that is simulated.

If vLLM is not installed, vllm_stand_ins.py takes its place. A slot's weight is its expert's number.
"""

from __future__ import annotations

import importlib.util
import logging
import types
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ranks import DEVICE

import lplb
from lplb.engines import vllm as plugin

IS_REAL = importlib.util.find_spec("vllm") is not None
if not IS_REAL:
    import vllm_stand_ins

    vllm_stand_ins.install()

from vllm.distributed import parallel_state  # noqa: E402
from vllm.distributed.eplb import eplb_state, policy  # noqa: E402
from vllm.model_executor.layers.fused_moe import deep_gemm_mega_moe as mega_moe  # noqa: E402
from vllm.model_executor.layers.fused_moe.router import base_router  # noqa: E402
from vllm.utils import deep_gemm  # noqa: E402

LAYERS, EXPERTS, TOPK = 3, 8, 2


def hash_and_record(
    topk_ids: Any,
    expert_load_view: Any,
    logical_to_physical_map: Any,
    logical_replica_count: Any,
    record_enabled: Any,
    num_unpadded_tokens: Any = None,
) -> Any:
    """What vLLM's Triton kernel does. Its function for CPUs maps nothing."""
    ids = topk_ids.long()
    rows = torch.arange(len(ids))[:, None]
    replica = (rows * 2654435769 & 0xFFFFFFFF) % logical_replica_count[ids.clamp(min=0)]
    physical = logical_to_physical_map[ids.clamp(min=0), replica]
    physical = torch.where(ids < 0, -1, physical)
    real = rows < (len(ids) if num_unpadded_tokens is None else num_unpadded_tokens)
    counted = (physical >= 0) & record_enabled & real
    expert_load_view.scatter_add_(
        0, physical.clamp(min=0).flatten(), counted.flatten().to(expert_load_view.dtype)
    )
    return physical.to(topk_ids.dtype)


class Event:
    """A torch.Event without a device."""

    def __init__(self, enable_timing: bool = False) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Any) -> float:
        return 0.0


class Group:
    """What is asked of a GroupCoordinator."""

    def __init__(self) -> None:
        self.device_group = self.cpu_group = dist.group.WORLD
        self.world_size = dist.get_world_size()


def move_weights(old: Any, new: Any, weights: Any, _buffer: Any, _group: Any, *_rest: Any) -> None:
    """In the place of rearrange_expert_weights_inplace(): slots get what `new` says."""
    width = weights[0][0].shape[0]
    mine = slice(dist.get_rank() * width, (dist.get_rank() + 1) * width)
    if not any(_rest[1:2]):  # a profile run moves nothing
        for layer, (weight,) in enumerate(weights):
            weight[:, 0] = new[layer, mine].to(weight.dtype)


def start() -> None:
    """Puts this process's group, and no GPU, into vLLM."""
    if DEVICE.type == "cpu":
        torch_: Any = torch
        torch_.Event = Event
        eplb_state.PIN_MEMORY = False
        for module in (base_router, mega_moe):
            module.eplb_map_to_physical_and_record = hash_and_record
    group = Group()
    for module in (parallel_state, eplb_state):
        for name in ("get_ep_group", "get_eplb_group"):
            setattr(module, name, lambda: group)
        module.get_node_count = lambda: 1
    parallel_state.get_tensor_model_parallel_rank = lambda: dist.get_rank()
    eplb_state.create_eplb_communicator = lambda **_: None
    eplb_state.rearrange_expert_weights_inplace = move_weights


def make_config(tp: int, dp: int, **options: Any) -> Any:
    """A parallel configuration."""
    given = {"use_sequence_parallel_moe": tp > 1 and dp > 1, "all2all_backend": "deepep_v2"}
    return types.SimpleNamespace(
        eplb_config=types.SimpleNamespace(
            window_size=4,
            step_interval=8,
            use_async=False,
            policy="default",
            communicator="torch_gloo",
            log_balancedness_interval=1,
        ),
        tensor_parallel_size=tp,
        data_parallel_size=dp,
        prefill_context_parallel_size=1,
        enable_elastic_ep=False,
        enable_expert_parallel=True,
        **{"num_ubatches": 0, **given, **options},
    )


class Router(base_router.BaseRouter):  # type: ignore[misc]
    """A router whose choice is given."""

    def __init__(self) -> None:
        super().__init__(TOPK, EXPERTS, eplb_state.EplbLayerState())

    def _compute_routing(
        self, hidden_states: Any, router_logits: Any, indices_type: Any, *, input_ids: Any = None
    ) -> Any:
        return torch.ones(router_logits.shape), router_logits

    routing_method_type = None


class Layer:
    """A MoERunner."""

    def __init__(self, max_tokens: int) -> None:
        self.router = Router()
        self.do_naive_dispatch_combine = False
        self.moe_config = types.SimpleNamespace(
            max_num_tokens=max_tokens,
            pcp_size=1,
            moe_parallel_config=types.SimpleNamespace(use_all2all_kernels=True),
        )

    @property
    def eplb_state(self) -> Any:
        return self.router.eplb_state

    def map(self, ids: torch.Tensor) -> torch.Tensor:
        """The slots that select_experts() gives."""
        select = getattr(self.router, "select_experts", None) or self.router._select_experts
        slots: torch.Tensor = select(hidden_states=ids, router_logits=ids)[1]
        return slots


class Mapped(Exception):
    """Ends MegaMoE's forward() where its kernels would begin."""


class MegaMoELayer:
    """A layer that is computed by MegaMoE: its own forward() maps the ids."""

    def __init__(self, max_tokens: int) -> None:
        experts = mega_moe.DeepGemmMegaMoEExperts.__new__(mega_moe.DeepGemmMegaMoEExperts)
        torch.nn.Module.__init__(experts)
        experts.max_num_tokens, experts.top_k, experts.prefix = max_tokens, TOPK, "layers.0.experts"
        experts.num_shared_experts, experts.capture_fn, experts.shared_spec = 0, None, None
        experts.eplb_state = eplb_state.EplbLayerState()
        experts.weight_format = types.SimpleNamespace(uses_nvfp4_api=False, hidden_quant=None)
        experts._kernel_kwargs = {}
        experts._synchronize_first_launch = lambda: None
        nothing = torch.empty(max_tokens)
        buffer = types.SimpleNamespace(x=nothing, x_sf=nothing, topk_idx=nothing)
        buffer.topk_weights = nothing
        experts.get_symm_buffer = lambda: buffer
        self.experts, self.eplb_state, self.max_num_tokens = experts, experts.eplb_state, max_tokens

    def map(self, ids: torch.Tensor) -> torch.Tensor:
        """The slots that MegaMoE's kernels would get."""

        def stop(_hidden: Any, _weights: Any, topk_ids: torch.Tensor, *_: Any, **__: Any) -> None:
            raise Mapped(topk_ids)

        mega_moe.prepare_megamoe_inputs = stop
        deep_gemm._import_deep_gemm = lambda: None
        try:
            self.experts(torch.zeros(len(ids), 8), torch.ones(ids.shape), ids)
        except Mapped as mapped:
            slots: torch.Tensor = mapped.args[0]
            return slots
        raise AssertionError("no ids came to MegaMoE's kernels")


class Model:
    """A MixtureOfExperts."""

    def __init__(
        self, redundants: int = 4, max_tokens: int = 256, layers: int = LAYERS, kind: Any = Layer
    ) -> None:
        size = dist.get_world_size()
        self.num_moe_layers = layers
        self.num_routed_experts = self.num_logical_experts = EXPERTS
        self.num_redundant_experts = redundants
        self.num_physical_experts = EXPERTS + redundants
        self.num_local_physical_experts = self.num_physical_experts // size
        self.num_expert_groups = 1
        self.moe_layers = [kind(max_tokens) for _ in range(layers)]
        first = dist.get_rank() * self.num_local_physical_experts
        held = (first + torch.arange(self.num_local_physical_experts)) % EXPERTS
        self.expert_weights = [[held.float()[:, None].to(DEVICE)] for _ in range(layers)]

    def set_eplb_state(self, load: Any, to_physical: Any, count: Any) -> None:
        for i, layer in enumerate(self.moe_layers):
            layer.eplb_state.set_layer_state(i, load, to_physical, count)


class Name:
    """A ModelConfig."""

    def __init__(self, model: str) -> None:
        self.model = model

    def compute_hash(self) -> str:
        return self.model


def make_state(config: Any, *models: tuple[str, Model]) -> Any:
    """vLLM's EplbState of these models."""
    state = eplb_state.EplbState(config, DEVICE)
    for name, model in models:
        state.add_model(model, Name(name))
    return state


def draw(seed: int, num_tokens: int, dtype: Any = torch.int32) -> torch.Tensor:
    """[num_tokens, TOPK]: the first experts are hot."""
    random = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, EXPERTS + 1) ** 2
    rows = [
        random.choice(EXPERTS, TOPK, replace=False, p=weight / weight.sum())
        for _ in range(num_tokens)
    ]
    return torch.tensor(np.array(rows).reshape(num_tokens, TOPK), dtype=dtype, device=DEVICE)


def everyone(mine: torch.Tensor) -> torch.Tensor:
    """[ranks, ...]: the tensors of all ranks, on the CPU."""
    mine = mine.cpu()
    told = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(told, mine.contiguous())
    return torch.stack(told)


def weights_of(model: Model, layer: int) -> torch.Tensor:
    """The expert whose weights each slot holds, [slots]: what is true, whatever a map says."""
    return everyone(model.expert_weights[layer][0][:, 0]).flatten().long()


def expect_right(model: Model, layer: int, ids: torch.Tensor, slots: torch.Tensor) -> None:
    """Each entry goes to a slot that holds its expert; -1 stays -1."""
    assert slots.shape == ids.shape and slots.dtype == ids.dtype
    slots, ids = slots.cpu(), ids.cpu()
    held = weights_of(model, layer)[slots.long().clamp(min=0)]
    assert torch.equal(torch.where(slots < 0, -1, held), ids.long())


def rank_loads(slots: torch.Tensor, model: Model, same: bool) -> torch.Tensor:
    """[ranks]: the tokens of all ranks' batches."""
    width, slots = model.num_local_physical_experts, slots.cpu()
    loads = torch.bincount(slots[slots >= 0].long() // width, minlength=dist.get_world_size())
    if not same:
        dist.all_reduce(loads)
    return loads


def expect_balanced(model: Model, layer: int, ids: torch.Tensor, slots: torch.Tensor) -> None:
    """The largest rank load is the proven optimum: ranks with tokens of their own."""
    load = torch.bincount(ids.cpu().flatten().long(), minlength=EXPERTS)
    dist.all_reduce(load)
    held = weights_of(model, layer).numpy()
    best = lplb.solve(lplb.Placement(held, dist.get_world_size(), EXPERTS), load.numpy())
    assert int(rank_loads(slots, model, False).max()) == int(best.max_load)


class Messages(logging.Handler):
    """What lplb.engines logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger("lplb.engines").addHandler(self)
        logging.getLogger("lplb.engines").setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def about(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


__all__ = ["base_router", "eplb_state", "mega_moe", "parallel_state", "plugin", "policy"]
