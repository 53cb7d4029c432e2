# SPDX-License-Identifier: MIT
"""A model that vLLM's EPLB balances: whose tokens its ranks have, and its planners."""

from __future__ import annotations

from typing import Any

import lplb
from lplb.engines._seams import UnsupportedEngine, find, logger

# What the log says.
WHOSE = {
    "all": "all ranks have the same tokens",
    "own": "each rank has its own tokens",
    "block": "the ranks of a tensor-parallel group share their tokens",
}

# More tokens than a batch has. vLLM's kernel multiplies it by the experts of a token, in int32.
ALL_TOKENS = 1 << 24


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
        #: Layers whose planners do not have vLLM's placement.
        self._stale: set[int] = set()
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
        if self.planners and self._versions() != self._known:
            self._known = self._versions()
            self._set_stale(set(range(len(self.state.physical_to_logical_map))))
        return not self._stale

    def _set_stale(self, layers: set[int]) -> None:
        if bool(layers) != bool(self._stale):
            self.is_stale.fill_(bool(layers))
        self._stale = layers
        if layers and not self._told:
            self._told = True
            logger.warning(
                "LPLB: %s: its maps were changed, and not by a commit: vLLM chooses replicas until "
                "all layers are committed again",
                self.state.model_name,
            )

    def follow(self, new_map: Any, layer: int | None) -> None:
        """Takes over what vLLM has just committed: [layers, slots], or [1, slots] of `layer`."""
        self._known = self._versions()
        if not self.planners:
            return  # they will be made from these maps
        stale = set() if layer is None else self._stale - {layer}
        try:
            new = self._placements(new_map)
            for planner in self.planners:
                planner.update_placement(new if layer is None else new[0], layer=layer)
        except (ValueError, RuntimeError) as error:
            logger.error("LPLB: %s: cannot follow a commit: %s", self.state.model_name, error)
            stale = set(range(len(self.state.physical_to_logical_map)))
        self._set_stale(stale)

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
        self._set_stale(set())
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
        if not self.config.use_sequence_parallel_moe:
            return num_unpadded.to(torch.int32)  # the planner clamps it
        # This rank has a part of the batch.
        rank = find("vllm.distributed.parallel_state:get_tensor_model_parallel_rank")()
        return (num_unpadded - num_tokens * rank).clamp(0, num_tokens).to(torch.int32)


def _max_tokens(layer: Any) -> int:
    config = getattr(layer, "moe_config", layer)  # MegaMoE's layers have no such configuration
    return int(getattr(config, "max_num_tokens", 32768))
