# SPDX-License-Identifier: MIT
"""The names that arguments take, for type checkers."""

from typing import Literal

BackendName = Literal["auto", "cpu", "cuda"]
SolverName = Literal["auto", "cut", "flow", "ipm"]
#: Of :func:`lplb.solve`, which may have a cost.
AnySolverName = Literal["auto", "cut", "flow", "ipm", "time"]
TransportName = Literal[
    "auto", "collective", "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory"
]
