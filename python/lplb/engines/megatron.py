# SPDX-License-Identifier: MIT
"""Replicas, and LPLB's split over them, in the MoE layers of Megatron-core.

    balance = lplb.engines.megatron.Balance(placement, max_tokens=tokens_of_a_micro_batch)
    spec = balance.spec(mlp_spec)  # in the place of the MoE layers' spec
    balance.attach(optimizer, config)  # after the model and its optimiser are made

docs/engines.md says what it needs and what it does not do.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.transformer.moe.moe_layer import MoELayer
from torch import Tensor

import lplb
from lplb.engines._megatron_checkpoint import as_experts
from lplb.engines._megatron_move import move_experts, optimizers_of, tensors_of_slots
from lplb.engines._seams import UnsupportedEngine, check_signatures, check_version

__all__ = ["Balance", "BalancedMoELayer", "UnsupportedEngine"]

TESTED = ("0.19.2",)
LAYER = "megatron.core.transformer.moe.moe_layer:MoELayer"
SIGNATURES = {
    f"{LAYER}.__init__": "self config submodules layer_number pg_collection is_mtp_layer name",
    f"{LAYER}.route": "self hidden_states padding_mask",
    "megatron.core.transformer.moe.token_dispatcher:MoETokenDispatcher.dispatch_preprocess": (
        "self tokens routing_map probs"
    ),
}

# The parameters of a slot: SequentialMLP has a module for each, TEGroupedMLP a numbered weight.
OF_A_SLOT = re.compile(r"local_experts\.(\d+)\.(.+)|(linear_fc[12]\.(?:weight|bias))(\d+)")


class Balance:
    """The placement of a model's MoE layers, their planner, and what keeps their replicas equal.

    Parameters
    ----------
    placement : Placement, or mapping of int to Placement
        One for all MoE layers, or one for each layer number (Megatron's, from 1 on, dense layers
        counted; layer i of the MTP block is number num_layers + i). All have the same slots. The
        expert-parallel group has a rank for each of the placement's.
    max_tokens : int
        The most tokens of a micro-batch on one rank.
    options
        Further arguments of :class:`lplb.Planner`: transport, timeout and others. Not `staleness`:
        recomputation would give other slots in the second run.

    Raises
    ------
    UnsupportedEngine
        megatron-core is another version than those tested.
    """

    def __init__(
        self,
        placement: lplb.Placement | Mapping[int, lplb.Placement],
        *,
        max_tokens: int,
        any_version: bool = False,
        **options: Any,
    ) -> None:
        if not any_version:
            check_version("megatron-core", TESTED)
        check_signatures(SIGNATURES)
        if options.get("staleness"):
            raise ValueError("staleness: is 1, expected 0: recomputation would give other slots")
        self._placements = placement
        self._max_tokens = max_tokens
        self._options = options
        self._planner: lplb.Planner | None = None
        self._numbers: list[int] = []
        self.layers: list[BalancedMoELayer] = []
        self._is_summed = False
        self._optimizer: Any = None
        self.num_physical_experts, self.num_logical_experts = check_placement(placement)

    def spec(self, mlp: Callable[..., Any]) -> Callable[..., Any]:
        """The builder of an MoE layer, from Megatron's: `functools.partial(MoELayer, submodules=)`.

        `megatron.core.models.gpt.moe_module_specs.get_moe_module_spec()` returns such a builder.
        """
        if not isinstance(mlp, functools.partial) or mlp.func is not MoELayer or mlp.args:
            raise TypeError(f"mlp: is {mlp}, expected functools.partial(MoELayer, submodules=...)")
        return functools.partial(BalancedMoELayer, balance=self, **mlp.keywords)

    def placement(self, number: int) -> lplb.Placement:
        """The placement of the layer with this number."""
        return _of_layer(self._placements, number)

    def planner(self) -> lplb.Planner:
        """The planner of all layers of this pipeline stage. The first call is collective.

        That call also makes the replicas equal to their experts.
        """
        if self._planner is None:
            self._numbers = [layer.number for layer in self.layers]
            self.copy_weights(is_first=True)
            self._planner = lplb.Planner(
                [self.placement(number) for number in self._numbers],
                group=self.layers[0].ep_group,
                num_topk=self.num_logical_experts,  # a dense batch has an entry for each expert
                max_tokens=self._max_tokens,
                **self._options,
            )
        return self._planner

    def attach(self, optimizer: Any, config: Any = None) -> None:
        """Sums the gradients before, and copies the weights after each step of the optimiser.

        `config` is the model's, whose finalize_model_grads_func must be set by now: the gradients
        are summed before it. That is needed with Megatron's optimisers, which get only a part of
        the gradients (distributed optimiser). Without `config` they are summed in step().
        """
        if getattr(getattr(optimizer, "config", None), "overlap_param_gather", False):
            raise UnsupportedEngine(
                "overlap_param_gather: is True, expected False: weights are copied after the step"
            )
        if config is not None:
            finalize = config.finalize_model_grads_func
            if finalize is None:
                raise ValueError("config: has no finalize_model_grads_func, expected one to wrap")

            @functools.wraps(finalize)
            def summed(*args: Any, **kwargs: Any) -> Any:
                if config.no_sync_func is not None:
                    raise UnsupportedEngine(
                        "overlap_grad_reduce: is True, expected False: gradients are reduced over "
                        "data-parallel ranks before they can be summed over replicas"
                    )
                self.sum_gradients()
                return finalize(*args, **kwargs)

            config.finalize_model_grads_func = summed
        step = optimizer.step

        @functools.wraps(step)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            if config is None:
                self.sum_gradients()
            result = step(*args, **kwargs)
            self.copy_weights()
            return result

        optimizer.step = stepped
        self._optimizer = optimizer

    def move(self, placement: lplb.Placement | Mapping[int, lplb.Placement]) -> None:
        """Moves the experts to a new placement, with the optimiser's state; training goes on.

        Every rank of the expert-parallel group calls it, after a step of the optimiser and before
        the next batch. Costs the transfer of each expert whose first slot changes, with its state,
        and then of all replicas' weights.

        Parameters
        ----------
        placement : Placement, or mapping of int to Placement
            As for the constructor, with the same numbers of slots, experts and ranks.

        Raises
        ------
        UnsupportedEngine
            The optimiser that was attached is Megatron's distributed one. Nothing was changed.
        ValueError
            The placement does not fit, or the ranks' placements differ. Nothing was changed.
        """
        sizes = check_placement(placement)
        if sizes != (self.num_physical_experts, self.num_logical_experts):
            raise ValueError(
                f"placement: has {sizes} (slots, experts), expected "
                f"{(self.num_physical_experts, self.num_logical_experts)}"
            )
        optimizers = [] if self._optimizer is None else optimizers_of(self._optimizer)
        planner = self.planner()
        after = [_of_layer(placement, layer.number) for layer in self.layers]
        held = [tensors_of_slots(layer, optimizers) for layer in self.layers]
        planner.update_placement(after)
        for layer, tensors, new in zip(self.layers, held, after):
            move_experts(layer, tensors, layer.placement, new)
        self._placements = placement
        self.copy_weights(is_first=True)

    def check_attached(self) -> None:
        if self._optimizer is None:
            raise RuntimeError(
                "Balance.attach: was not called, expected it before the model is trained: the "
                "replicas of an expert would drift apart"
            )

    def sum_gradients(self) -> None:
        """Gives the gradients of all replicas to the first slot of each expert; those become zero.

        So the norm of all gradients is that of the plain model, and only the first slot learns.
        Collective over the expert-parallel group. Before gradients are reduced over data-parallel
        ranks or cut into the parts of a distributed optimiser.
        """
        for layer in self.layers:
            layer.sum_gradients()
        self._is_summed = True

    @torch.no_grad()
    def copy_weights(self, *, is_first: bool = False) -> None:
        """Copies each expert's first slot to its replicas. Collective over the same group.

        Raises RuntimeError if the gradients of the step before were not summed.
        """
        if not is_first and not self._is_summed:
            raise RuntimeError(
                "Balance.copy_weights: the gradients were not summed, expected sum_gradients() "
                "before the optimiser's step: was config.finalize_model_grads_func set again?"
            )
        for layer in self.layers:
            layer.copy_weights()
        self._is_summed = False


def _of_layer(
    placement: lplb.Placement | Mapping[int, lplb.Placement], number: int
) -> lplb.Placement:
    if isinstance(placement, lplb.Placement):
        return placement
    if number not in placement:
        raise ValueError(
            f"placement: has layers {sorted(placement)}, expected MoE layer {number} too"
        )
    return placement[number]


class BalancedMoELayer(MoELayer):  # type: ignore[misc]
    """A MoELayer with a slot for each physical expert. Router and checkpoints know experts only.

    The configuration is the plain layer's, with the number of experts. A layer sends each token to
    the replicas that the planner chooses, which changes no result.
    """

    def __init__(
        self, config: Any, submodules: Any = None, *args: Any, balance: Balance, **kwargs: Any
    ) -> None:
        num_experts = config.num_moe_experts
        if num_experts != balance.num_logical_experts:
            raise ValueError(
                f"placement: is of {balance.num_logical_experts} experts, expected "
                f"config.num_moe_experts ({num_experts})"
            )
        check_config(config)
        # Dispatcher and experts are made for the slots, the router for the experts.
        for_slots = copy.copy(config)
        for_slots.num_moe_experts = balance.num_physical_experts
        router = submodules.router

        def make_router(*, config: Any, **options: Any) -> Any:
            return router(config=for_experts, **options)

        for_experts = config
        submodules = dataclasses.replace(submodules, router=make_router)
        super().__init__(for_slots, submodules, *args, **kwargs)
        num_ranks = dist.get_world_size(self.ep_group)
        self.balance = balance
        self.index = len(balance.layers)
        balance.layers.append(self)
        if num_ranks * self.num_local_experts != balance.num_physical_experts:
            raise ValueError(
                f"placement: has {balance.num_physical_experts} slots, expected a multiple of the "
                f"expert-parallel group's ranks ({num_ranks})"
            )

    @property
    def number(self) -> int:
        """The number of this layer in the placements."""
        if self.layer_number is None:
            raise RuntimeError(
                "layer_number: is None, expected it to be set before the first batch"
            )
        return int(self.layer_number) + (self.config.num_layers if self.is_mtp_layer else 0)

    @property
    def placement(self) -> lplb.Placement:
        return self.balance.placement(self.number)

    def route(self, hidden_states: Tensor, padding_mask: Tensor | None = None) -> Any:
        """As MoELayer.route(), with slots in the place of experts."""
        probs, routing_map = super().route(hidden_states, padding_mask)
        if routing_map is None:  # a CUDA graph replays the routing and what follows
            return probs, routing_map
        if self.training and torch.is_grad_enabled():
            self.balance.check_attached()
        return self.balance.planner().run_dense(probs, routing_map, layer=self.index)

    # Replicas.

    def slots(self) -> list[dict[str, Tensor]]:
        """The parameters of each slot on this rank, by name."""
        found: list[dict[str, Tensor]] = [{} for _ in range(self.num_local_experts)]
        for name, parameter in self.experts.named_parameters():
            match = OF_A_SLOT.fullmatch(name)
            if match is None:
                raise UnsupportedEngine(
                    f"{type(self.experts).__name__}.{name}: is not a parameter of one slot"
                )
            slot = match[1] or match[4]
            found[int(slot)][match[2] or match[3]] = parameter
        return found

    def _replicas(self) -> Iterator[tuple[int, int]]:
        """(first slot, another slot) of each expert with several: the same on all ranks."""
        for slots in self.placement.logical_to_physical.tolist():
            for other in slots[1:]:
                if other >= 0:
                    yield slots[0], other

    def transfer(
        self, pairs: list[tuple[int, int]], values: Callable[[int], list[Tensor]]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Sends values(source) of each (source, target); yields (target, what came), in order."""
        rank, width = dist.get_rank(self.ep_group), self.num_local_experts
        requests, came = [], []
        for source, target in pairs:
            here = source // width == rank, target // width == rank
            if here == (True, True):
                came.append((target, [value.clone() for value in values(source % width)]))
            elif here[1]:
                got = [torch.empty_like(value) for value in values(target % width)]
                came.append((target, got))
                peer = dist.get_global_rank(self.ep_group, source // width)
                requests += [dist.P2POp(dist.irecv, v, peer, self.ep_group) for v in got]
            elif here[0]:
                peer = dist.get_global_rank(self.ep_group, target // width)
                requests += [
                    dist.P2POp(dist.isend, v.contiguous(), peer, self.ep_group)
                    for v in values(source % width)
                ]
        if requests:
            for request in dist.batch_isend_irecv(requests):
                request.wait()
        yield from came

    def sum_gradients(self) -> None:
        """See Balance.sum_gradients()."""
        gradients = [[gradient_of(p) for p in slot.values()] for slot in self.slots()]
        pairs = [(other, first) for first, other in self._replicas()]
        rank, width = dist.get_rank(self.ep_group), self.num_local_experts
        for target, values in self.transfer(pairs, lambda slot: gradients[slot]):
            for sum_, value in zip(gradients[target % width], values, strict=True):
                sum_ += value
        for source, _ in pairs:
            if source // width == rank:
                for gradient in gradients[source % width]:
                    gradient.zero_()

    def copy_weights(self) -> None:
        """See Balance.copy_weights()."""
        weights = [[p.data for p in slot.values()] for slot in self.slots()]
        for target, values in self.transfer([*self._replicas()], lambda slot: weights[slot]):
            for weight, value in zip(weights[target % self.num_local_experts], values, strict=True):
                weight.copy_(value)

    # Checkpoints.

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: Any = (), metadata: Any = None
    ) -> Any:
        """As MoELayer's, with experts in the place of slots.

        The first slot of an expert is saved; all of its slots are loaded. So a checkpoint is the
        plain layer's, and loads into any placement.
        """
        found = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        as_experts(found, prefix, len(sharded_offsets), self.placement)
        return found


def check_placement(placement: lplb.Placement | Mapping[int, lplb.Placement]) -> tuple[int, int]:
    """The number of slots and of experts, which all layers share. Raises ValueError otherwise."""
    placements = [*placement.values()] if isinstance(placement, Mapping) else [placement]
    sizes = {(p.num_physical_experts, p.num_logical_experts) for p in placements}
    if len(sizes) > 1:
        raise ValueError(
            f"placement: has layers of {sorted(sizes)} (slots, experts), expected one size"
        )
    for one in placements:
        check_spread(one)
    return sizes.pop()


def check_spread(placement: lplb.Placement) -> None:
    """Raises ValueError if a rank holds an expert twice. Such a checkpoint could not be loaded."""
    for rank, experts in enumerate(placement.physical_to_logical.reshape(placement.num_ranks, -1)):
        twice = [int(e) for e in set(experts.tolist()) if (experts == e).sum() > 1]
        if twice:
            raise ValueError(
                f"placement: rank {rank} holds expert {twice[0]} twice, expected once, as "
                "lplb.rebalance_experts(..., spread=True) places it"
            )


def gradient_of(parameter: Any) -> Tensor:
    """The gradient that Megatron's DDP gathers, or PyTorch's; zeros if there was none."""
    main: Tensor | None = getattr(parameter, "main_grad", None)
    if main is not None:
        return main
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    grad: Tensor = parameter.grad
    return grad


def check_config(config: Any) -> None:
    """Raises UnsupportedEngine if LPLB cannot serve the configuration."""
    if config.tensor_model_parallel_size > 1 and not config.sequence_parallel:
        raise UnsupportedEngine(
            "sequence_parallel: is False, expected True with tensor_model_parallel_size "
            f"({config.tensor_model_parallel_size}): the ranks would choose apart for shared tokens"
        )
    if config.moe_pad_expert_input_to_capacity:
        raise UnsupportedEngine(
            "moe_pad_expert_input_to_capacity: is True, expected False: a slot may get more tokens "
            "than the capacity of an expert"
        )
    if config.transformer_impl == "inference_optimized":
        raise UnsupportedEngine(
            "transformer_impl: is inference_optimized, whose dispatchers were not tested"
        )
