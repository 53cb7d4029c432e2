# SPDX-License-Identifier: MIT
"""Device memory of the library as PyTorch's tensors, and the forms of copies that lie there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lplb._placement import Placement


class _Memory:
    """An array at an address on a GPU, in the form that torch.as_tensor() takes."""

    def __init__(self, address: int, shape: tuple[int, ...], typestr: str, owner: Any) -> None:
        self._owner = owner
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "typestr": typestr,
            "version": 3,
        }


def tensor_at(
    address: int, shape: tuple[int, ...], typestr: str, device: torch.device, owner: Any = None
) -> Tensor:
    """A view of device memory, which keeps `owner` alive. typestr: as NumPy's, such as "<i4"."""
    return torch.as_tensor(_Memory(address, shape, typestr, owner), device=device)


def experts_to_copy(slot_expert: Tensor, columns: int) -> Tensor:
    num_ranks, slots = slot_expert.shape
    if columns < slots:
        raise ValueError(f"columns: {columns} is less than the {slots} dynamic slots")
    padded = slot_expert.new_full((num_ranks, columns), -1)
    padded[:, :slots] = slot_expert
    return padded


def redundancy_mapping(slot_expert: Tensor, slot_source: Tensor, placement: Placement) -> Tensor:
    """In one domain: rank * M + i, if the rank has the expert in main slot i; -1: unused."""
    slots = placement.num_physical_experts // placement.num_ranks
    # If several slots of a rank have the same expert, the first one counts, as on the CPU.
    main = np.full((placement.num_ranks, placement.num_logical_experts), -1, np.int32)
    experts = placement.physical_to_logical
    for slot in range(len(experts) - 1, -1, -1):
        main[slot // slots, experts[slot]] = slot
    table = torch.from_numpy(main).to(slot_expert.device, non_blocking=True)
    found = table[slot_source.clamp(min=0).long(), slot_expert.clamp(min=0).long()]
    return torch.where(slot_expert >= 0, found, -1)
