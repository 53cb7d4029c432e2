# SPDX-License-Identifier: MIT
"""The names that arguments take, for type checkers."""

from typing import Literal

BackendName = Literal["auto", "cpu", "cuda"]
SolverName = Literal["auto", "cut", "flow", "ipm"]
#: Where there may be a cost.
AnySolverName = Literal["auto", "cut", "flow", "ipm", "time", "fast-time"]
TransportName = Literal[
    "auto", "collective", "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory"
]
