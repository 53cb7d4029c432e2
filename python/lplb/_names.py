# SPDX-License-Identifier: MIT
"""The names that arguments take, for type checkers."""

from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

BackendName = Literal["auto", "cpu", "cuda"]
SolverName = Literal["auto", "cut", "flow", "ipm"]
#: Where there may be a cost.
AnySolverName = Literal["auto", "cut", "flow", "ipm", "time", "fast-time"]
TransportName = Literal[
    "auto", "collective", "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory"
]
#: Ids as a tensor, or as another array or a list: a function that takes a tensor returns one.
Ids = TypeVar("Ids", "Tensor", Any)
