# SPDX-License-Identifier: MIT
"""The dynamic slots of a planner: copies of experts for each batch."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from lplb import _lplb
from lplb._arrays import check_int, check_number
from lplb._placement import Placement


@dataclass(frozen=True)
class DynamicSlots:
    """How a planner chooses copies: the arguments of its constructor."""

    slots: int
    target: float
    min_tokens: int
    num_domains: int

    @property
    def native(self) -> _lplb.ReplicateOptions:
        """What HostPlanner takes. It checks the ranges."""
        return _lplb.ReplicateOptions(
            self.slots, self.target, self.min_tokens, self.num_domains, 0.0, 0.0, 0.0, 0.0
        )


def dynamic_slots_of(slots: Any, target: Any, min_tokens: Any, num_domains: Any) -> DynamicSlots:
    """The arguments, as the types that they must have."""
    found = DynamicSlots(
        check_int(slots, "dynamic_slots"),
        check_number(target, "copy_target"),
        check_int(min_tokens, "copy_min_tokens"),
        check_int(num_domains, "copy_domains"),
    )
    if found.slots == 0 and found != DynamicSlots(0, 1.0, 1, 1):
        raise ValueError(
            "dynamic_slots: is 0 with copy_target, copy_min_tokens or copy_domains, expected 1 to 8"
        )
    return found


def facts_of_copies(dynamic: DynamicSlots) -> dict[str, int]:
    """What the ranks of a group must agree on, as integers."""
    return {
        "dynamic_slots": dynamic.slots,
        "copy_target": struct.unpack("<q", struct.pack("<d", dynamic.target))[0],
        "copy_min_tokens": dynamic.min_tokens,
        "copy_domains": dynamic.num_domains,
    }


def shown_target(fact: int) -> str:
    """The copy_target of facts_of_copies(), for messages."""
    return str(struct.unpack("<d", struct.pack("<q", fact))[0])


@dataclass(frozen=True)
class Copies:
    """The copies of a layer's last batch: what its dynamic slots hold, the same on all ranks.

    The arrays are [num_ranks, S], with S dynamic slots a rank: NumPy's of the last batch on the
    CPU. Once a batch has run on a GPU they are int32 tensors there, of the last batch on the GPU,
    for work on the same stream: views of the planner's memory, which the next batch overwrites.

    Attributes
    ----------
    slot_expert : int32
        The expert in each slot; -1: unused.
    slot_source : int32
        The rank that sends it: it has the expert in a main slot. -1: unused.
    is_new : bool
        The slot is in use and holds another expert than after the batches before, so that its
        weights must come. A slot keeps what it holds while it is not in use; update_placement()
        empties all slots. On a GPU 0 or 1. A degraded batch there empties all slots too.
    """

    slot_expert: Any
    slot_source: Any
    is_new: Any
    _placement: Placement = field(repr=False)
    _num_domains: int = field(repr=False)
    _replication: _lplb.Replication | None = field(repr=False)  # None: on a GPU

    def redundancy_mapping(self) -> Any:
        """The same copies as DeepEP 2.5 takes them: [num_ranks, S] int32; -1: unused.

        Source rank * M + main slot there, with ranks numbered within a domain and M main slots.
        """
        if self._replication is None:
            from lplb import _torch_memory

            return _torch_memory.redundancy_mapping(
                self.slot_expert, self.slot_source, self._placement
            )
        mapping = _lplb.replication_mapping(self._placement, self._replication, self._num_domains)
        return mapping.reshape(self.slot_expert.shape)

    def experts_to_copy(self, columns: int) -> Any:
        """The same copies as Megatron-LM's pull request 7450 takes them: [num_ranks, columns].

        int32; further columns hold -1. Megatron has num_logical_experts / num_ranks columns.
        """
        if self._replication is None:
            from lplb import _torch_memory

            return _torch_memory.experts_to_copy(self.slot_expert, columns)
        num_ranks = len(self.slot_expert)
        return _lplb.experts_to_copy(self._replication, num_ranks, columns).reshape(num_ranks, -1)


def copies_of(
    placement: Placement, dynamic: DynamicSlots, replication: _lplb.Replication, is_new: Any
) -> Copies:
    """What HostPlanner.copies() gave."""
    rows = placement.num_ranks, dynamic.slots
    return Copies(
        replication.slot_expert.reshape(rows),
        replication.slot_source.reshape(rows),
        is_new.astype(bool).reshape(rows),
        placement,
        dynamic.num_domains,
        replication,
    )
