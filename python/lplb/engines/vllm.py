# SPDX-License-Identifier: MIT
"""LPLB in vLLM: a plug-in (entry point of vllm.general_plugins), on with LPLB_VLLM=1.

docs/engines.md says what it does, and what it does not serve.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import lplb
from lplb.engines._seams import (
    UnsupportedEngine,
    check_signatures,
    check_version,
    find,
    is_on,
    logger,
)
from lplb.engines._vllm_model import Model, check_config
from lplb.engines._vllm_policy import make_policy

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
    f"{ROUTER}:{MAP}": (
        "topk_ids expert_load_view logical_to_physical_map logical_replica_count record_enabled "
        "num_unpadded_tokens"
    ),
    f"{POLICY}:AbstractEplbPolicy.rebalance_experts": (
        "weight num_replicas num_groups num_nodes num_ranks old_global_expert_indices"
    ),
}
# A vLLM without hooks for EPLB: these functions are replaced.
FUNCTIONS = {
    f"{STATE}:_commit_eplb_maps": "model_state new_physical_to_logical_map",
    f"{STATE}:_commit_eplb_maps_for_layer": "model_state new_physical_to_logical_map layer",
}
# A vLLM with hooks, as pull request 49700 has them: EplbState.on_layer_committed(model_state,
# layer), a layer state's map_and_record(topk_ids, num_unpadded_tokens), and policies as objects.
HOOK = "on_layer_committed"
HOOKS = {f"{POLICY}:AbstractEplbPolicy.plan_rebalance": "self context policy_state"}

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
    has_hooks = hasattr(state, HOOK)
    check_signatures(HOOKS if has_hooks else FUNCTIONS)
    _follow_models(state, version, router if has_hooks else None)
    if has_hooks:
        _use_hooks(state)
    else:
        _replace_functions(router)
    default = policies.EPLB_POLICIES["default"]
    policies.EPLB_POLICIES["default"] = make_policy(policies.AbstractEplbPolicy)
    _undo.append(lambda: policies.EPLB_POLICIES.update(default=default))
    logger.info(
        "LPLB %s is in vLLM %s: maps tokens (%s), follows commits, chooses placements",
        lplb.__version__,
        version,
        "by each layer's map_and_record" if has_hooks else "MegaMoE's too",
    )


def _follow_models(state: Any, version: str, router: Any) -> None:
    """Models that come, and maps that are set as a whole. `router`: layers get map_and_record."""
    add_model, prepare, update_mapping = (
        state.add_model,
        state.prepare_forward,
        state.update_mapping,
    )

    @functools.wraps(add_model)
    def add(self: Any, model: Any, model_config: Any, *args: Any, **kwargs: Any) -> None:
        check_config(self.parallel_config)
        add_model(self, model, model_config, *args, **kwargs)
        added = Model(self.model_states[model_config.compute_hash()], self.parallel_config, version)
        _models.append(added)
        for layer, row in enumerate(added.state.expert_load_pass_buffer):
            _rows[row.data_ptr()] = added, layer
        if router is not None:
            for moe_layer in model.moe_layers:
                one = moe_layer.eplb_state
                one.map_and_record = functools.partial(map_layer, router, one)

    @functools.wraps(prepare)
    def prepared(self: Any, *args: Any, **kwargs: Any) -> None:
        prepare(self, *args, **kwargs)
        _check_all()  # a captured graph runs no code of ours: this is before its replay

    @functools.wraps(update_mapping)
    def updated(self: Any, model_config: Any, expanded_physical_to_logical: Any) -> None:
        update_mapping(self, model_config, expanded_physical_to_logical)
        changed = self.model_states[model_config.compute_hash()]
        _follow(changed, changed.physical_to_logical_map)

    _replace(state, "add_model", add)
    _replace(state, "prepare_forward", prepared)
    _replace(state, "update_mapping", updated)


def _replace_functions(router: Any) -> None:
    """Both commits, and the function that maps ids, which two modules have."""
    module = sys.modules[STATE]
    commit, commit_layer = module._commit_eplb_maps, module._commit_eplb_maps_for_layer

    @functools.wraps(commit)
    def committed(model_state: Any, new_physical_to_logical_map: Any) -> None:
        commit(model_state, new_physical_to_logical_map)
        _follow(model_state, new_physical_to_logical_map)

    @functools.wraps(commit_layer)
    def committed_layer(model_state: Any, new_physical_to_logical_map: Any, layer: int) -> None:
        _check_all()  # what this commit writes must not hide what something else wrote before
        commit_layer(model_state, new_physical_to_logical_map, layer)
        _follow(model_state, new_physical_to_logical_map[None], layer)

    mapped = functools.wraps(router)(functools.partial(map_and_record, router))
    _replace(module, "_commit_eplb_maps", committed)
    _replace(module, "_commit_eplb_maps_for_layer", committed_layer)
    _replace(sys.modules[ROUTER], MAP, mapped)
    if MEGA_MOE in sys.modules:  # otherwise it will import ours
        _replace(sys.modules[MEGA_MOE], MAP, mapped)


def _use_hooks(state: Any) -> None:
    """vLLM calls the hook after each layer of a commit, before the next batch."""
    committed = getattr(state, HOOK)

    @functools.wraps(committed)
    def followed(self: Any, model_state: Any, layer: int) -> None:
        committed(self, model_state, layer)
        _follow(model_state, model_state.physical_to_logical_map[layer][None], layer)

    _replace(state, HOOK, followed)


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


def _check_all() -> None:
    for model in _models:
        model.check()


def _follow(model_state: Any, new_map: Any, layer: int | None = None) -> None:
    for model in _models:
        if model.state is model_state:
            model.follow(new_map, layer)


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
    if not model.check() and not is_captured(topk_ids):  # of a captured batch, the replay decides
        model.stale_batches += 1
        return engines(topk_ids, *maps, record_enabled, num_unpadded_tokens)
    from lplb.engines._vllm_record import finish

    is_unsigned = physical.dtype == torch.uint32
    slots, ids = [t.view(torch.int32) if is_unsigned else t for t in (physical, topk_ids)]
    slots = finish(
        slots, ids, model.is_stale, logical_to_physical_map, expert_load_view, record_enabled
    )
    return slots.view(topk_ids.dtype)


def map_layer(engines: Callable[..., Any], layer_state: Any, topk_ids: Any, valid: Any) -> Any:
    """map_and_record() as a layer state's hook; `valid` is the micro-batch's number of tokens."""
    return map_and_record(
        engines,
        topk_ids,
        layer_state.expert_load_view,
        layer_state.logical_to_physical_map,
        layer_state.logical_replica_count,
        layer_state.should_record_tensor,
        valid,
    )


def is_captured(topk_ids: Any) -> bool:
    import torch

    return bool(topk_ids.is_cuda and torch.cuda.is_current_stream_capturing())
