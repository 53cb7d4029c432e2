# SPDX-License-Identifier: MIT
"""Checkpoints of layers with replicas: they hold experts, and load into any placement."""

from __future__ import annotations

import dataclasses
from typing import Any

from megatron.core.dist_checkpointing.mapping import (
    ShardedObject,
    ShardedTensor,
    ShardedTensorFactory,
)

import lplb
from lplb.engines._seams import UnsupportedEngine


def as_experts(found: dict[str, Any], prefix: str, axis: int, placement: lplb.Placement) -> None:
    """Gives the entries of `prefix` + "experts." the experts' numbers in place of the slots'.

    `axis` is the one that counts slots. The first slot of an expert is saved; all are loaded.
    """
    first = {slots[0] for slots in placement.logical_to_physical.tolist()}

    def as_expert(entry: Any) -> Any:
        if isinstance(entry, ShardedTensorFactory):
            build = entry.build_fn
            entry.build_fn = lambda *args: [as_expert(part) for part in build(*args)]
            return entry
        return _as_expert(entry, axis, placement, first)

    for name in found:
        if name.startswith(f"{prefix}experts."):
            found[name] = as_expert(found[name])


def _as_expert(entry: Any, axis: int, placement: lplb.Placement, first: set[int]) -> Any:
    experts = placement.physical_to_logical
    sizes = len(experts), placement.num_logical_experts
    if (
        not isinstance(entry, (ShardedTensor, ShardedObject))
        or entry.global_shape[axis] != sizes[0]
    ):
        raise UnsupportedEngine(
            f"{getattr(entry, 'key', entry)}: has no axis of {sizes[0]} slots, expected "
            "metadata without singleton_local_shards"
        )

    def put(values: tuple[int, ...], value: int) -> tuple[int, ...]:
        return (*values[:axis], value, *values[axis + 1 :])

    slot = entry.global_offset[axis]
    replica = entry.replica_id
    if slot not in first:  # no other slot is written; its number keeps the ids apart
        replica = (*replica[:2], 1 + slot + replica[2] * sizes[0])
    changed = {
        "global_shape": put(entry.global_shape, sizes[1]),
        "global_offset": put(entry.global_offset, int(experts[slot])),
        "replica_id": replica,
    }
    if isinstance(entry, ShardedTensor):
        changed["axis_fragmentations"] = put(entry.axis_fragmentations, sizes[1])
    return dataclasses.replace(entry, **changed)
