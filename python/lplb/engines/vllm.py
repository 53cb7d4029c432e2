# SPDX-License-Identifier: MIT
"""LPLB in vLLM: a plug-in (entry point of vllm.general_plugins), on with LPLB_VLLM=1.

docs/engines.md says what it does, and what it does not serve.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import lplb
from lplb.engines._seams import (
    UnsupportedEngine,
    check_signatures,
    check_version,
    find,
    is_on,
    logger,
)

SWITCH = "LPLB_VLLM"
TESTED = ("0.33.0",)

STATE = "vllm.distributed.eplb.eplb_state"
ROUTER = "vllm.model_executor.layers.fused_moe.router.base_router"
MEGA_MOE = (
    "vllm.model_executor.layers.fused_moe.deep_gemm_mega_moe"  # has the router's function too
)
POLICY = "vllm.distributed.eplb.policy"
MAP = "eplb_map_to_physical_and_record"
SIGNATURES = {
    f"{STATE}:EplbState.add_model": "self model model_config model_name",
    f"{STATE}:EplbState.prepare_forward": "self model_config num_unpadded_tokens ubatch_slices",
    f"{STATE}:EplbState.update_mapping": "self model_config expanded_physical_to_logical",
    f"{STATE}:_commit_eplb_maps": "model_state new_physical_to_logical_map",
    f"{STATE}:_commit_eplb_maps_for_layer": "model_state new_physical_to_logical_map layer",
    f"{ROUTER}:{MAP}": (
        "topk_ids expert_load_view logical_to_physical_map logical_replica_count record_enabled "
        "num_unpadded_tokens"
    ),
    f"{POLICY}:AbstractEplbPolicy.rebalance_experts": (
        "weight num_replicas num_groups num_nodes num_ranks old_global_expert_indices"
    ),
}

# What the log says.
WHOSE = {
    "all": "all ranks have the same tokens",
    "own": "each rank has its own tokens",
    "block": "the ranks of a tensor-parallel group share their tokens",
}

# More tokens than a batch has. vLLM's kernel multiplies it by the experts of a token, in int32.
ALL_TOKENS = 1 << 24

_models: list[Model] = []
_rows: dict[int, tuple[Model, int]] = {}  # by the address of a layer's load: its model and number
_undo: list[Callable[[], None]] = []


def register() -> None:
    """The entry point. Does nothing unless LPLB_VLLM is set; leaves an untested vLLM as it is."""
    try:
        if is_on(SWITCH) and not _undo:
            install()
    except UnsupportedEngine as error:
        logger.error("LPLB is not used, vLLM is as it was: %s", error)


def install() -> None:
    """Puts LPLB into this process's vLLM. Raises UnsupportedEngine, with nothing changed."""
    version = check_version("vllm", TESTED, SWITCH)
    check_signatures(SIGNATURES)
    state, router, policies = find(f"{STATE}:EplbState"), find(f"{ROUTER}:{MAP}"), find(POLICY)
    module = sys.modules[STATE]

    add_model, prepare = state.add_model, state.prepare_forward
    commit, commit_layer = module._commit_eplb_maps, module._commit_eplb_maps_for_layer
    update_mapping = state.update_mapping

    @functools.wraps(add_model)
    def add(self: Any, model: Any, model_config: Any, *args: Any, **kwargs: Any) -> None:
        check_config(self.parallel_config)
        add_model(self, model, model_config, *args, **kwargs)
        added = Model(self.model_states[model_config.compute_hash()], self.parallel_config, version)
        _models.append(added)
        for layer, row in enumerate(added.state.expert_load_pass_buffer):
            _rows[row.data_ptr()] = added, layer

    @functools.wraps(prepare)
    def prepared(self: Any, *args: Any, **kwargs: Any) -> None:
        prepare(self, *args, **kwargs)
        for model in _models:  # a captured graph runs no code of ours: this is before its replay
            model.check()

    @functools.wraps(commit)
    def committed(model_state: Any, new_physical_to_logical_map: Any) -> None:
        commit(model_state, new_physical_to_logical_map)
        _follow(model_state, new_physical_to_logical_map)

    @functools.wraps(commit_layer)
    def committed_layer(model_state: Any, new_physical_to_logical_map: Any, layer: int) -> None:
        commit_layer(model_state, new_physical_to_logical_map, layer)
        _follow(model_state, new_physical_to_logical_map[None], layer)

    @functools.wraps(update_mapping)
    def updated(self: Any, model_config: Any, expanded_physical_to_logical: Any) -> None:
        update_mapping(self, model_config, expanded_physical_to_logical)
        changed = self.model_states[model_config.compute_hash()]
        _follow(changed, changed.physical_to_logical_map)

    mapped = functools.wraps(router)(functools.partial(map_and_record, router))
    _replace(state, "add_model", add)
    _replace(state, "prepare_forward", prepared)
    _replace(state, "update_mapping", updated)
    _replace(module, "_commit_eplb_maps", committed)
    _replace(module, "_commit_eplb_maps_for_layer", committed_layer)
    _replace(sys.modules[ROUTER], MAP, mapped)
    if MEGA_MOE in sys.modules:  # otherwise it will import ours
        _replace(sys.modules[MEGA_MOE], MAP, mapped)
    default = policies.EPLB_POLICIES["default"]
    policies.EPLB_POLICIES["default"] = make_policy(policies.AbstractEplbPolicy)
    _undo.append(lambda: policies.EPLB_POLICIES.update(default=default))
    logger.info(
        "LPLB %s is in vLLM %s: maps tokens (MegaMoE's too), follows commits, chooses placements",
        lplb.__version__,
        version,
    )


def uninstall() -> None:
    """Leaves vLLM as it was before install(). Models that were added go on with vLLM's choice."""
    while _undo:
        _undo.pop()()
    _models.clear()
    _rows.clear()


def _replace(owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    setattr(owner, name, value)
    _undo.append(lambda: setattr(owner, name, before))


def _follow(model_state: Any, new_map: Any, layer: int | None = None) -> None:
    for model in _models:
        if model.state is model_state:
            model.follow(new_map, layer)


# Which configurations.


def check_config(config: Any) -> None:
    """Raises UnsupportedEngine if a parallel configuration cannot be served right."""
    if config.enable_elastic_ep:
        raise UnsupportedEngine("enable_elastic_ep: is on, expected off: the ranks would change")
    if not config.enable_expert_parallel:
        raise UnsupportedEngine("enable_expert_parallel: is off, expected on")


def whose_tokens(config: Any, layers: Any) -> str:
    """ "all": every rank has the same tokens when experts are chosen. "own": each rank has its own.

    "block": those of a tensor-parallel group share theirs. Raises UnsupportedEngine otherwise.
    """
    gathers = {_gathers_first(layer) for layer in layers}
    if len(gathers) > 1:
        raise UnsupportedEngine("moe_layers: some gather tokens before routing, others do not")
    if gathers == {True}:
        return "all"
    if config.data_parallel_size == 1 and config.prefill_context_parallel_size == 1:
        return "all"
    if config.tensor_parallel_size == 1 or config.use_sequence_parallel_moe:
        return "own"
    if config.prefill_context_parallel_size == 1:
        return "block"
    raise UnsupportedEngine(
        f"prefill_context_parallel_size: is {config.prefill_context_parallel_size} with "
        f"tensor_parallel_size {config.tensor_parallel_size}, expected sequence-parallel MoE: the "
        "ranks of a tensor-parallel group share their tokens, and would choose apart"
    )


def _gathers_first(layer: Any) -> bool:
    """Whether the layer gathers the tokens of all ranks, and then routes them on each."""
    if getattr(layer, "do_naive_dispatch_combine", False):
        return True
    config = getattr(layer, "moe_config", None)
    return (
        config is not None
        and config.pcp_size > 1
        and not config.moe_parallel_config.use_all2all_kernels
    )


class Model:
    """A model that vLLM's EPLB balances: its planners, one for each micro-batch of DBO.

    The planners are made with the first batch, which is a profile run. That is collective.
    """

    def __init__(self, state: Any, config: Any, version: str) -> None:
        import torch

        self.state, self.config, self.version = state, config, version
        self.planners: list[lplb.Planner | lplb.SharedPlanner] = []
        self.tokens = "own"
        #: Batches that vLLM mapped, because its maps were not those of the planners.
        self.stale_batches = 0
        maps = state.physical_to_logical_map
        if maps.is_inference():
            raise UnsupportedEngine("physical_to_logical_map: is an inference tensor")
        #: On the device: captured graphs read it. True: the maps are not those of the planners.
        self.is_stale = torch.zeros((), dtype=torch.bool, device=maps.device)
        self.micro_batches = {t.data_ptr(): i for i, t in enumerate(self.counts())}
        for tensor in self.counts():
            # NOTE: runner V1 sets no number for profile runs: 0 would hide all experts from them.
            tensor.fill_(ALL_TOKENS)
        self._known = self._versions()
        self._fresh = True
        self._told = False

    def counts(self) -> list[Any]:
        return self.state.num_unpadded_tokens_tensors or []

    def _versions(self) -> tuple[Any, ...]:
        """Changes with each write to vLLM's maps. PyTorch counts them, through views too."""
        state = self.state
        maps = state.physical_to_logical_map, state.logical_to_physical_map
        return tuple((id(m), m._version) for m in (*maps, state.logical_replica_count))

    def check(self) -> bool:
        """Whether vLLM's maps are those of the planners. Costs no look at the device."""
        if self._fresh and self._versions() != self._known:
            self._set_fresh(False)
        return self._fresh

    def _set_fresh(self, fresh: bool) -> None:
        if fresh != self._fresh:
            self.is_stale.fill_(not fresh)
        self._fresh = fresh
        if not fresh and not self._told:
            self._told = True
            logger.warning(
                "LPLB: %s: its maps were changed, and not by a commit: vLLM chooses replicas until "
                "the next commit",
                self.state.model_name,
            )

    def follow(self, new_map: Any, layer: int | None) -> None:
        """Takes over what vLLM has just committed: [layers, slots], or [1, slots] of `layer`."""
        if not self.planners:
            self._known = self._versions()  # they will be made from these maps
            return
        # A commit of one layer cannot make up for other layers that were changed before.
        was_fresh = self._fresh
        try:
            new = self._placements(new_map)
            for planner in self.planners:
                planner.update_placement(new if layer is None else new[0], layer=layer)
        except (ValueError, RuntimeError) as error:
            logger.error("LPLB: %s: cannot follow a commit: %s", self.state.model_name, error)
            self._set_fresh(False)
            return
        self._known = self._versions()
        self._set_fresh(layer is None or was_fresh)

    def _placements(self, maps: Any) -> list[lplb.Placement]:
        num_ranks = find("vllm.distributed.parallel_state:get_ep_group")().device_group.size()
        return lplb.layers_of(
            maps.cpu(), num_ranks, num_logical_experts=self.state.logical_replica_count.shape[1]
        )

    def _start(self, num_topk: int) -> None:
        group = find("vllm.distributed.parallel_state:get_ep_group")().device_group
        layers = self.state.model.moe_layers
        self.tokens = whose_tokens(self.config, layers)
        most = max((_max_tokens(layer) for layer in layers), default=32768)
        placements = self._placements(self.state.physical_to_logical_map)
        self.planners = [
            self._plan(placements, group, num_topk=num_topk, max_tokens=most) for _ in self.counts()
        ]
        self._known = self._versions()
        logger.info(
            "LPLB %s in vLLM %s: %s: %d layers of %d slots on %d ranks, %s, %d micro-batches",
            lplb.__version__,
            self.version,
            self.state.model_name,
            len(placements),
            placements[0].num_physical_experts,
            group.size(),
            WHOSE[self.tokens],
            len(self.planners),
        )

    def _plan(
        self, placements: list[lplb.Placement], group: Any, *, num_topk: int, max_tokens: int
    ) -> lplb.Planner | lplb.SharedPlanner:
        if self.tokens == "own":
            return lplb.Planner(placements, group=group, num_topk=num_topk, max_tokens=max_tokens)
        if self.tokens == "block":
            return lplb.SharedPlanner(
                placements,
                group=find("vllm.distributed.parallel_state:get_dp_group")().device_group,
                shared_by=self.config.tensor_parallel_size,
                num_topk=num_topk,
                max_tokens=max_tokens,
            )
        most = max_tokens * group.size()  # it may be the tokens of all ranks
        return lplb.Planner(placements, same_tokens=True, num_topk=num_topk, max_tokens=most)

    def choose(self, topk_ids: Any, layer: int, num_unpadded: Any) -> Any:
        """The slots of a batch."""
        if not self.planners:
            self._start(topk_ids.shape[-1])
        micro_batch = 0
        valid = None
        if num_unpadded is not None:
            micro_batch = self.micro_batches.get(num_unpadded.data_ptr(), 0)
            valid = self._num_valid(num_unpadded, topk_ids.shape[0])
        planner = self.planners[micro_batch]
        return planner.run(topk_ids, num_valid_tokens=valid, layer=layer)

    def _num_valid(self, num_unpadded: Any, num_tokens: int) -> Any:
        """How many of this rank's tokens are real. vLLM counts those of the whole batch."""
        import torch

        if self.tokens == "all" and _gathers_first(self.state.model.moe_layers[0]):
            return None  # the padding of each rank is in between
        first = 0
        if self.config.use_sequence_parallel_moe:  # this rank has a part of the batch
            first = (
                num_tokens
                * find("vllm.distributed.parallel_state:get_tensor_model_parallel_rank")()
            )
        return (num_unpadded - first).clamp(0, num_tokens).to(torch.int32)


def _max_tokens(layer: Any) -> int:
    config = getattr(layer, "moe_config", layer)  # MegaMoE's layers have no such configuration
    return int(getattr(config, "max_num_tokens", 32768))


def map_and_record(
    engines: Callable[..., Any],
    topk_ids: Any,
    expert_load_view: Any,
    logical_to_physical_map: Any,
    logical_replica_count: Any,
    record_enabled: Any,
    num_unpadded_tokens: Any = None,
) -> Any:
    """In the place of vLLM's eplb_map_to_physical_and_record(), which is `engines`.

    Every rank calls it for every batch of every layer, so all ranks exchange their counts.
    """
    import torch

    maps = expert_load_view, logical_to_physical_map, logical_replica_count
    found = _rows.get(expert_load_view.data_ptr())
    if found is None:
        return engines(topk_ids, *maps, record_enabled, num_unpadded_tokens)
    model, layer = found
    # The planner runs even if the maps are not its own: the other ranks wait for the counts.
    physical = model.choose(topk_ids, layer, num_unpadded_tokens)
    captured = is_captured(topk_ids)
    if not model.check() and not captured:
        model.stale_batches += 1
        return engines(topk_ids, *maps, record_enabled, num_unpadded_tokens)
    if captured:  # the replay decides
        theirs = engines(topk_ids, *maps, torch.zeros_like(record_enabled), num_unpadded_tokens)
        physical = torch.where(model.is_stale, theirs, physical)
    slots = physical.view(torch.int32) if physical.dtype == torch.uint32 else physical
    counted = ((slots >= 0) & record_enabled).flatten()
    expert_load_view.scatter_add_(
        0, slots.clamp(min=0).flatten().long(), counted.to(expert_load_view.dtype)
    )
    return physical


def is_captured(topk_ids: Any) -> bool:
    import torch

    return bool(topk_ids.is_cuda and torch.cuda.is_current_stream_capturing())


def make_policy(base: Any) -> Any:
    """The class that takes the place of vLLM's policy "default"."""

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
