# SPDX-License-Identifier: MIT
"""LPLB in SGLang: a plug-in (entry point of sglang.srt.plugins), on with LPLB_SGLANG=1.

It serves `--ep-dispatch-algorithm lp`. docs/engines.md says what it does, and what it does not.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import lplb
from lplb.engines._seams import (
    UnsupportedEngine,
    check_signatures,
    check_version,
    find,
    first_slots,
    is_on,
    logger,
)

SWITCH = "LPLB_SGLANG"
TESTED = ("0.5.23",)

SOLVER = "sglang.srt.eplb.lplb_solver"
DISPATCH = "sglang.srt.eplb.expert_location_dispatch"
ALGORITHMS = "sglang.srt.eplb.eplb_algorithms"
LOCATION = "sglang.srt.eplb.expert_location"
#: They import the function that maps ids by name.
USERS = (DISPATCH, "sglang.srt.layers.moe.topk", "sglang.srt.layers.moe.hash_topk")
MAP = "topk_ids_logical_to_physical"
SIGNATURES = {
    f"{SOLVER}:LPLBSolver.__init__": (
        "self phy2log log2phy num_gpus ep_group logical_to_all_physical_map_num_valid"
    ),
    f"{SOLVER}:LPLBSolver.solve": "self topk_ids",
    f"{SOLVER}:clear_global_lplb_solvers": "",
    f"{DISPATCH}:{MAP}": "topk_ids info log2phy_prob",
    f"{DISPATCH}:_topk_ids_logical_to_physical_dynamic": "topk_ids info",
    f"{LOCATION}:get_global_expert_location_metadata": "",
    f"{ALGORITHMS}:rebalance_experts": (
        "tokens_per_expert num_physical_experts num_local_physical_experts num_groups num_nodes "
        "algorithm"
    ),
}

# A batch of a rank: more tokens than SGLang's chunks have, of any model's experts.
MAX_TOKENS, NUM_TOPK = 65536, 16


def register() -> None:
    """The entry point. Does nothing unless LPLB_SGLANG is set; leaves an untested SGLang as is."""
    try:
        if is_on(SWITCH):
            install()
    except UnsupportedEngine as error:
        logger.error("LPLB is not used, SGLang is as it was: %s", error)


def install() -> None:
    """Registers the hooks; load_plugins() applies them. Raises UnsupportedEngine, without hooks."""
    version = check_version("sglang", TESTED, SWITCH)
    check_signatures(SIGNATURES)
    policy = os.environ.get("LPLB_SGLANG_PLACEMENT", "")
    if policy not in ("", "eplb"):
        lplb.topology.parse(policy)  # raises ValueError if there is no such topology
    registry = find("sglang.srt.plugins.hook_registry:HookRegistry")
    kind = find("sglang.srt.plugins.hook_registry:HookType")
    registry.register(f"{SOLVER}.LPLBSolver", Solver, kind.REPLACE)
    registry.register(f"{SOLVER}.clear_global_lplb_solvers", begin_layers, kind.AFTER)
    registry.register(f"{DISPATCH}.{MAP}", to_physical, kind.AROUND)
    if policy:
        registry.register(f"{ALGORITHMS}.rebalance_experts", choose_placement, kind.AROUND)
    logger.info(
        "LPLB %s is in SGLang %s: maps tokens of --ep-dispatch-algorithm lp (hash routing too)%s",
        lplb.__version__,
        version,
        f", and chooses placements ({policy})" if policy else "",
    )


class Layers:
    """The planner of all layers. It lives as long as ranks and experts stay, through rebalances.

    SGLang makes a solver for each layer, dense ones too, at start and after each chunk of layers
    that it has moved. The planner is made with the first batch, which is collective.
    """

    def __init__(self) -> None:
        self.placements: list[lplb.Placement] = []
        self.known: list[Any] = []  # [slots] of each layer, on the device: captured graphs read it
        self.next = 0
        self.changed: set[int] = set()
        self.planner: lplb.Planner | None = None
        self.group: Any = None
        self.version: tuple[int, int] = (0, 0)
        #: Batches that SGLang mapped, because its maps were not those of the planner.
        self.stale_batches = 0

    def add(self, phy2log: Any, num_ranks: int, num_experts: int, group: Any) -> int:
        """The number of the next layer, which has this map now."""
        layer = self.next
        self.next += 1
        self.version = maps_version()
        placement = lplb.Placement(phy2log.cpu(), num_ranks, num_experts)
        if layer == len(self.placements):
            self.placements.append(placement)
            self.known.append(phy2log.clone())
            self.group = group
        elif self.placements[layer] != placement:
            if len(self.known[layer]) != len(phy2log) or self.group is not group:
                raise UnsupportedEngine(
                    f"physical_to_logical_map: layer {layer} has {len(phy2log)} slots on another "
                    f"group, expected {len(self.known[layer])}: restart SGLang to scale"
                )
            self.placements[layer] = placement
            self.known[layer].copy_(phy2log)
            self.changed.add(layer)
        return layer

    def ready(self) -> lplb.Planner:
        """The planner, with the newest placements. All ranks have the same changes."""
        if self.planner is None:
            for module in USERS:
                check_hooked(module)
            first = self.placements[0]
            self.planner = lplb.Planner(
                self.placements, group=self.group, max_tokens=MAX_TOKENS, num_topk=NUM_TOPK
            )
            logger.info(
                "LPLB %s: %d layers of %d slots on %d ranks, each rank has its own tokens",
                lplb.__version__,
                len(self.placements),
                first.num_physical_experts,
                first.num_ranks,
            )
        elif self.changed:
            self.planner.update_placement(self.placements)
        self.changed.clear()
        return self.planner

    def is_fresh(self) -> bool:
        """Whether SGLang's maps are those of the planner. Costs no look at the device."""
        fresh = maps_version() == self.version
        if not fresh:
            if self.stale_batches == 0:
                logger.warning(
                    "LPLB: the maps were changed without new solvers: SGLang chooses replicas "
                    "until there are some"
                )
            self.stale_batches += 1
        return fresh


layers = Layers()


def maps_version() -> tuple[int, int]:
    """Changes with each write to SGLang's maps, which PyTorch counts, and with new ones."""
    metadata = find(f"{LOCATION}:get_global_expert_location_metadata")()
    maps = metadata.physical_to_logical_map
    return id(maps), 0 if maps.is_inference() else maps._version


def begin_layers(_result: Any = None) -> None:
    """After clear_global_lplb_solvers(): the next solver is that of layer 0."""
    layers.next = 0


class Solver:
    """In the place of SGLang's LPLBSolver: whole tokens, in place of shares."""

    def __init__(
        self,
        phy2log: Any,
        log2phy: Any,
        num_gpus: int,
        ep_group: Any = None,
        logical_to_all_physical_map_num_valid: Any = None,
    ) -> None:
        # NOTE: log2phy is narrowed to the nearest replica on some paths, and differs by rank then.
        self.phy2log = phy2log
        self.layer = layers.add(phy2log, num_gpus, len(log2phy), ep_group.device_group)
        if layers.planner is not None and self.layer + 1 == len(layers.placements):
            layers.ready()  # between batches; the next one may be a graph's replay

    def solve(self, topk_ids: Any) -> Choice:
        """The slots of a batch [tokens, topk]. Every rank calls it for every batch."""
        # The planner runs even if the maps are not its own: the other ranks wait for the counts.
        slots = layers.ready().run(topk_ids, layer=self.layer)
        if is_captured(topk_ids):  # the replay decides
            is_known = (self.phy2log == layers.known[self.layer]).all()
            return Choice(slots, is_known)
        return Choice(slots if layers.is_fresh() else None)


class Choice:
    """What solve() gives, and SGLang hands on. No slots: SGLang has to choose."""

    def __init__(self, slots: Any, is_known: Any = None) -> None:
        self.slots, self.is_known = slots, is_known


def is_captured(topk_ids: Any) -> bool:
    import torch

    return bool(topk_ids.is_cuda and torch.cuda.is_current_stream_capturing())


def to_physical(engines: Any, topk_ids: Any, info: Any, log2phy_prob: Any = None) -> Any:
    """Around topk_ids_logical_to_physical(), which is `engines`."""
    if not isinstance(log2phy_prob, Choice):
        return engines(topk_ids, info, log2phy_prob)
    choice = log2phy_prob
    if choice.slots is None:
        import torch

        choose = find(f"{DISPATCH}:_topk_ids_logical_to_physical_dynamic")
        return torch.where(topk_ids < 0, topk_ids, choose(topk_ids.clamp(min=0), info))
    if choice.is_known is None:
        return choice.slots
    import torch

    theirs = first_slots(topk_ids, info.partial_logical_to_all_physical_map)
    return torch.where(choice.is_known, choice.slots, theirs)


def check_hooked(module: str) -> None:
    """Raises UnsupportedEngine if a module that maps ids was loaded and has no hook."""
    if module in sys.modules:
        mark = object()
        if getattr(sys.modules[module], MAP)(None, None, Choice(mark)) is not mark:
            raise UnsupportedEngine(
                f"{module}.{MAP}: is not hooked, expected HookRegistry to do so"
            )


def choose_placement(
    engines: Any,
    tokens_per_expert: Any,
    num_physical_experts: int,
    num_local_physical_experts: int,
    num_groups: int | None,
    num_nodes: int,
    algorithm: Any,
) -> Any:
    """Around rebalance_experts(), with LPLB_SGLANG_PLACEMENT: "eplb", or a topology such as cube.

    tokens_per_expert: [steps, layers, experts]. Returns the three maps that `engines` would.
    """
    policy = os.environ["LPLB_SGLANG_PLACEMENT"]
    load = tokens_per_expert.sum(0)
    num_ranks = num_physical_experts // num_local_physical_experts
    if policy == "eplb":
        groups, nodes = num_groups or 1, num_nodes
        if groups % nodes != 0:
            groups = nodes = 1
        # Two replicas of an expert on one rank are of no use to the split.
        spread = load.shape[1] // nodes >= num_local_physical_experts
        return lplb.rebalance_experts(
            load, num_physical_experts, groups, nodes, num_ranks, spread=spread
        )
    redundants = (num_physical_experts - load.shape[1]) // num_ranks
    return lplb.place_on_topology(load, policy, redundants, num_ranks, num_nodes=num_nodes)
