# SPDX-License-Identifier: MIT
"""The names that arguments take, for type checkers."""

from typing import Literal, TypeVar

BackendName = Literal["auto", "cpu", "cuda"]
SolverName = Literal["auto", "cut", "flow", "ipm"]
#: Where there may be a cost.
AnySolverName = Literal["auto", "cut", "flow", "ipm", "time", "fast-time"]
TransportName = Literal[
    "auto", "collective", "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory"
]
#: Ids as an array of whatever kind; a function that takes and returns it keeps the kind.
Ids = TypeVar("Ids")
