# SPDX-License-Identifier: MIT
"""What the tests of lplb.engines.megatron run in each rank: real layers, on the CPU over gloo."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import queue
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import lplb

if importlib.util.find_spec("triton") is None:
    # The only module that needs Triton (200 MB) to be imported. Its kernels run on a GPU.
    kernels: Any = types.ModuleType("megatron.core.transformer.moe.ops.paged_stash")
    kernels.GLOBAL_BLOCK_SIZE = 1024
    kernels.paged_stash_copy_kernel = kernels.paged_stash_pop_kernel = None
    sys.modules[kernels.__name__] = kernels

with warnings.catch_warnings(action="ignore"):
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.dist_checkpointing.optimizer import make_sharded_optimizer_tensor
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.models.gpt.moe_module_specs import get_moe_module_spec
    from megatron.core.tensor_parallel import random as tensor_random
    from megatron.core.transformer.moe import moe_layer, token_dispatcher
    from megatron.core.transformer.transformer_config import TransformerConfig

    from lplb.engines.megatron import Balance, BalancedMoELayer, gradient_of

HIDDEN, EXPERTS, TOPK = 8, 8, 2


class NoStream:
    """A CUDA stream or event of a machine without a GPU: what is on it has been done."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self


def without_a_gpu() -> None:
    """Replaces what the dispatchers and recomputation ask of CUDA."""
    cuda: Any = torch.cuda
    cuda.Stream = cuda.Event = NoStream
    cuda.current_stream = lambda device=None: NoStream()
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.synchronize = lambda device=None: None
    cuda.current_device = lambda: torch.device("cpu")
    # gloo wants lists where NCCL takes arrays.
    dispatcher: Any = token_dispatcher
    dispatcher.maybe_move_tensor_to_cpu = lambda tensor, as_numpy=False, record_stream=False: (
        tensor.tolist() if as_numpy else tensor
    )
    # Otherwise a process is started for it, which outlives the rank.
    writer: Any = filesystem_async
    writer._results_queue = queue.Queue()
    states: Any = tensor_random
    states._get_cuda_rng_state = lambda *args, **kwargs: torch.empty(0)
    states._set_cuda_rng_state = lambda *args, **kwargs: None


def start(size: int) -> None:
    without_a_gpu()
    parallel_state.initialize_model_parallel(expert_model_parallel_size=size)


def make_config(size: int, dispatcher: str, **options: Any) -> Any:
    return TransformerConfig(
        num_layers=2,
        hidden_size=HIDDEN,
        num_attention_heads=2,
        num_moe_experts=EXPERTS,
        moe_router_topk=TOPK,
        moe_token_dispatcher_type=dispatcher,
        expert_model_parallel_size=size,
        moe_router_load_balancing_type="none",
        add_bias_linear=False,
        use_cpu_initialization=True,
        gated_linear_unit=True,
        moe_ffn_hidden_size=12,
        **options,
    )


def plain_builder() -> Any:
    return get_moe_module_spec(use_te=False, num_experts=EXPERTS, moe_grouped_gemm=False)


def make_placement(size: int, seed: int) -> lplb.Placement:
    """EXPERTS + 2 * `size` slots. Expert 0 is on every rank."""
    load = np.roll(np.arange(EXPERTS, 0, -1.0), seed)
    load[0] = 100
    maps = lplb.rebalance_experts(load[None], EXPERTS + 2 * size, 1, 1, size, spread=True)
    return lplb.Placement(maps[0][0], size)


def make_layers(
    size: int, dispatcher: str, build: Any = None, **options: Any
) -> tuple[Any, BalancedMoELayer]:
    """A plain layer, and a balanced one with the same weights. Both have number 2.

    `build` gives the builder of layers, by default one with SequentialMLP.
    """
    build = build or plain_builder
    torch.manual_seed(3 + dist.get_rank())
    plain = build()(config=make_config(size, dispatcher, **options))
    balance = Balance(make_placement(size, 1), max_tokens=64)
    balanced = balance.spec(build())(config=make_config(size, dispatcher, **options))
    for layer in (plain, balanced):
        layer.set_layer_number(2)
    dist.broadcast(plain.router.weight.data, 0)
    # Tokens prefer the first experts, so that there is something to balance.
    plain.router.weight.data[:3, 0] += 1
    give_weights(plain, balanced)
    return plain, balanced


def experts_of(layer: Any) -> list[dict[str, torch.Tensor]]:
    """The parameters of the experts in this rank's slots."""
    if hasattr(layer.experts, "local_experts"):
        return [dict(expert.named_parameters()) for expert in layer.experts.local_experts]
    found: list[dict[str, torch.Tensor]] = [{} for _ in range(layer.num_local_experts)]
    for name, parameter in layer.experts.named_parameters():
        linear, _, slot = name.partition(".weight")
        found[int(slot)][linear] = parameter
    return found


def all_experts(plain: Any, what: str = "data") -> list[dict[str, torch.Tensor]]:
    """Those of all experts of the plain layer, or their gradients, on every rank."""
    mine = [{k: getattr(v, what) for k, v in e.items()} for e in experts_of(plain)]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, mine)
    return [expert for rank in told for expert in rank]


def slots_of(layer: BalancedMoELayer) -> list[int]:
    """The experts in this rank's slots."""
    held: list[int] = layer.placement.physical_to_logical.reshape(dist.get_world_size(), -1)[
        dist.get_rank()
    ].tolist()
    return held


def give_weights(plain: Any, balanced: BalancedMoELayer) -> None:
    """Not through a checkpoint. Only the first slot of an expert: the rest is not ours to do."""
    experts, rank = all_experts(plain), dist.get_rank()
    width = balanced.num_local_experts
    for slot, (expert, mine) in enumerate(zip(slots_of(balanced), experts_of(balanced))):
        if balanced.placement.logical_to_physical[expert][0] == rank * width + slot:
            for name, parameter in mine.items():
                parameter.data.copy_(experts[expert][name])
    balanced.router.weight.data.copy_(plain.router.weight.data)


def expect_weights(plain: Any, balanced: BalancedMoELayer) -> None:
    experts = all_experts(plain)
    for expert, mine in zip(slots_of(balanced), experts_of(balanced)):
        for name, parameter in mine.items():
            torch.testing.assert_close(parameter.data, experts[expert][name])
    torch.testing.assert_close(balanced.router.weight, plain.router.weight)


def tokens(seed: int) -> torch.Tensor:
    """[sequence, batch, HIDDEN]; each rank has its own. The dispatchers want equal numbers."""
    generator = torch.Generator().manual_seed(100 * seed + dist.get_rank())
    drawn = torch.randn((24, 2, HIDDEN), generator=generator)
    drawn[..., 0] += 1
    return drawn


def run(layer: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward and backward: the output, and the gradient of x."""
    x = x.clone().requires_grad_()
    y, _ = layer(x)
    (y * y.detach().cos()).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@contextlib.contextmanager
def watch_experts(layer: Any) -> Iterator[list[int]]:
    """Collects how many tokens this rank's experts get, batch by batch."""
    got: list[int] = []

    def look(_module: Any, args: Any) -> None:
        got.append(len(args[0]))

    hook = layer.experts.register_forward_pre_hook(look)
    yield got
    hook.remove()


def train(layer: Any, optimizer: Any, seeds: range) -> torch.Tensor:
    for seed in seeds:
        optimizer.zero_grad(set_to_none=True)
        y, _ = run(layer, tokens(seed))
        dist.all_reduce(layer.router.weight.grad)  # all ranks have the same router
        optimizer.step()
    return y


def save(layer: Any, folder: str, name: str) -> str:
    return save_entries(layer.sharded_state_dict(prefix="mlp."), folder, name)


def save_entries(entries: dict[str, Any], folder: str, name: str) -> str:
    target = pathlib.Path(folder, name)
    if dist.get_rank() == 0:
        target.mkdir()
    dist.barrier()
    dist_checkpointing.save(entries, str(target))
    return str(target)


def load(layer: Any, folder: str) -> None:
    found = dist_checkpointing.load(layer.sharded_state_dict(prefix="mlp."), folder)
    layer.load_state_dict({name.removeprefix("mlp."): value for name, value in found.items()})


# The scenarios.


def check_equal(_rank: int, size: int, _folder: str, dispatcher: str, **options: Any) -> None:
    """Outputs, gradients and three steps of Adam are the plain layer's; ranks are balanced."""
    start(size)
    plain, balanced = make_layers(size, dispatcher, **options)
    layers = plain, balanced
    adam = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in layers]
    balanced.balance.attach(adam[1])
    with watch_experts(plain) as before, watch_experts(balanced) as after:
        for seed in range(3):
            results = [run(layer, tokens(seed)) for layer in layers]
            torch.testing.assert_close(*results)
            torch.testing.assert_close(plain.router.weight.grad, balanced.router.weight.grad)
            gradients = all_experts(plain, "grad")
            for optimizer in adam:
                optimizer.step()
            for expert, mine in zip(slots_of(balanced), experts_of(balanced)):
                for name, parameter in mine.items():
                    if gradient_of(parameter).any():  # the first slot, which has the sum
                        torch.testing.assert_close(parameter.grad, gradients[expert][name])
            # What gradients are clipped by.
            torch.testing.assert_close(*[gradient_norm(layer) for layer in layers])
            expect_weights(plain, balanced)
            for optimizer in adam:
                optimizer.zero_grad(set_to_none=True)
    stats = balanced.balance.planner().stats()
    assert stats is not None and stats.optimal == stats.batches == len(after)
    loads = torch.tensor([before, after])  # [2, batches]
    everyone = [torch.empty_like(loads) for _ in range(size)]
    dist.all_gather(everyone, loads)
    fullest, total = torch.stack(everyone).amax(0), torch.stack(everyone).sum(0)
    assert torch.equal(total[0], total[1])
    assert (fullest[1] < fullest[0]).all(), "nothing was balanced"
    assert fullest[1][-1] == stats.last_max_load == stats.last_lower_bound


def gradient_norm(layer: Any) -> torch.Tensor:
    """The norm of all experts' gradients, over the ranks."""
    squares = [(gradient_of(p) ** 2).sum() for e in experts_of(layer) for p in e.values()]
    norm = torch.stack(squares).sum()
    dist.all_reduce(norm)
    return norm


def check_checkpoint(_rank: int, size: int, folder: str) -> None:
    """Plain -> balanced -> another placement -> plain, trained in between."""
    start(size)
    plain, balanced = make_layers(size, "alltoall")
    path = save(plain, folder, "plain")
    for parameter in balanced.parameters():
        parameter.data.normal_()
    load(balanced, path)
    expect_weights(plain, balanced)
    adam = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in (plain, balanced)]
    balanced.balance.attach(adam[1])
    want = train(plain, adam[0], range(2))
    torch.testing.assert_close(train(balanced, adam[1], range(2)), want)
    path = save(balanced, folder, "balanced")
    other = Balance(make_placement(size, 2), max_tokens=64)
    assert other.placement(2) != balanced.placement
    moved = other.spec(plain_builder())(config=make_config(size, "alltoall"))
    moved.set_layer_number(2)
    load(moved, path)
    expect_weights(plain, moved)
    back = plain_builder()(config=make_config(size, "alltoall"))
    load(back, path)
    for mine, theirs in zip(back.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(moved(tokens(9))[0], plain(tokens(9))[0])
    # Megatron's optimisers save their state by the entries of the weights.
    path = save_entries(moments(balanced, adam[1]), folder, "optimizer")
    loaded = dist_checkpointing.load(moments(moved, None), path)
    experts = all_moments(plain, adam[0])
    for slot, expert in enumerate(slots_of(moved)):
        for name, wanted in experts[expert].items():
            torch.testing.assert_close(loaded[f"mlp.experts.local_experts.{slot}.{name}"], wanted)


def moments(layer: Any, adam: Any) -> dict[str, Any]:
    """Adam's first moments of the experts, as Megatron's optimisers save them; else empty ones."""
    entries = layer.sharded_state_dict(prefix="mlp.")
    found = {}
    for name, parameter in layer.named_parameters():
        if name.startswith("experts."):
            moment = (
                torch.empty_like(parameter) if adam is None else adam.state[parameter]["exp_avg"]
            )
            key = f"mlp.{name}"
            found[key] = make_sharded_optimizer_tensor(entries[key], moment, "exp_avg")
    return found


def all_moments(plain: Any, adam: Any) -> list[dict[str, torch.Tensor]]:
    """The same of all experts of the plain layer, on every rank."""
    mine = [{k: adam.state[v]["exp_avg"] for k, v in e.items()} for e in experts_of(plain)]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, mine)
    return [expert for rank in told for expert in rank]


def check_finalize(_rank: int, size: int, _folder: str) -> None:
    """Megatron's way: gradients are summed before config.finalize_model_grads_func."""
    start(size)
    plain, balanced = make_layers(size, "alltoall")
    adam = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in (plain, balanced)]
    norms: list[torch.Tensor] = []
    config = balanced.router.config
    config.finalize_model_grads_func = lambda model: norms.append(gradient_norm(model))
    balanced.balance.attach(adam[1], config)
    for layer in (plain, balanced):
        run(layer, tokens(0))
    config.finalize_model_grads_func(balanced)
    torch.testing.assert_close(norms, [gradient_norm(plain)])
    for optimizer in adam:
        optimizer.step()
    expect_weights(plain, balanced)


def check_graphs(_rank: int, size: int, _folder: str) -> None:
    """What Transformer Engine's partial CUDA graphs do at replay: parts come from the store."""
    start(size)
    plain, balanced = make_layers(size, "alltoall")
    x = tokens(0)
    balanced.eval()
    with torch.no_grad():
        want, _ = plain(x)
        balanced.config.cuda_graph_impl = "transformer_engine"
        torch.testing.assert_close(balanced(x)[0], want)
        # With moe_router alone the graph ends within MoELayer.route(): experts are in the store.
        probs, routing_map = moe_layer.MoELayer.route(balanced, x)
        assert routing_map.shape == (48, EXPERTS)
        balanced.cudagraph_tensor_store.set(probs=probs, routing_map=routing_map)
        torch.testing.assert_close(balanced(x)[0], want)
        balanced.cudagraph_tensor_store.clear()
        probs, routing_map = balanced.route(x)
        assert routing_map.shape == (48, balanced.placement.num_physical_experts)
        # With moe_preprocess it ends after preprocess(); route() then has no routing map.
        hidden, probs = balanced.preprocess(x, probs, routing_map)
        balanced.cudagraph_tensor_store.set(hidden_states=hidden, probs=probs)
        torch.testing.assert_close(balanced(x)[0], want)
