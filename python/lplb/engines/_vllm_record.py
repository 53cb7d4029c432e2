# SPDX-License-Identifier: MIT
"""What vLLM's kernel does after the choice of slots: it adds them to the recorded load.

On a GPU one Triton kernel does it, and also puts vLLM's slots in the place of a stale choice; vLLM
itself needs Triton there. This module is imported with the first batch.
"""

from __future__ import annotations

from typing import Any

import torch

from lplb.engines._seams import first_slots

BLOCK = 256

try:
    import triton
    import triton.language as tl
except ImportError:  # without a GPU
    triton = None


def finish(
    slots: Any, topk_ids: Any, is_stale: Any, logical_to_physical: Any, load: Any, enabled: Any
) -> Any:
    """Returns the slots that count, and adds them to `load`; may write into `slots`.

    slots, topk_ids: [tokens, topk], of one integer type, -1 for what takes no slot. is_stale: bool,
    one element; if true, each entry takes its expert's first slot in logical_to_physical [experts,
    replicas]. load: int32 [slots]. enabled: bool, one element; if false, `load` stays. The tensors
    are on one device, and nothing waits for it: graphs can capture the call.
    """
    if not slots.is_cuda:
        theirs = first_slots(topk_ids, logical_to_physical)
        slots = torch.where(is_stale & (slots >= 0), theirs, slots)
        counted = ((slots >= 0) & enabled).flatten()
        load.scatter_add_(0, slots.clamp(min=0).flatten().long(), counted.to(load.dtype))
        return slots
    launch(slots, topk_ids, is_stale, logical_to_physical, load, enabled)
    return slots


def launch(
    slots: Any, topk_ids: Any, is_stale: Any, logical_to_physical: Any, load: Any, enabled: Any
) -> None:
    size = slots.numel()
    if size == 0:
        return
    _finish[(-(-size // BLOCK),)](
        slots,
        topk_ids.contiguous(),
        is_stale,
        logical_to_physical.contiguous(),
        load,
        enabled,
        size,
        logical_to_physical.shape[1],
        load.shape[0],
        BLOCK=BLOCK,
    )


if triton is not None:
    # One kernel for all shapes: it is compiled before a graph is captured.
    @triton.jit(do_not_specialize=["size", "replicas", "num_slots"])  # type: ignore[untyped-decorator]
    def _finish(  # type: ignore[no-untyped-def]  # Triton takes no other names in annotations
        slots_ptr,
        ids_ptr,
        stale_ptr,
        map_ptr,
        load_ptr,
        enabled_ptr,
        size,
        replicas,
        num_slots,
        BLOCK: tl.constexpr,
    ):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        slot = tl.load(slots_ptr + at, mask=at < size, other=-1)
        # Vectors of one flag: Triton's interpreter takes no scalars into masks.
        stale = (slot >= 0) & (tl.load(stale_ptr + 0 * at) != 0)
        enabled = tl.load(enabled_ptr + 0 * at) != 0
        expert = tl.load(ids_ptr + at, mask=stale, other=0).to(tl.int64)
        theirs = tl.load(map_ptr + expert * replicas, mask=stale, other=-1)
        slot = tl.where(stale, theirs.to(slot.dtype), slot)
        tl.store(slots_ptr + at, slot, mask=stale)
        counts = (slot >= 0) & (slot < num_slots) & enabled
        tl.atomic_add(load_ptr + slot.to(tl.int64), 1, mask=counts)
