# SPDX-License-Identifier: MIT
"""How the ranks of a torch.distributed group learn each other's counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from lplb._placement import Placement

# What ranks must agree on, in the order in which a difference is told.
AGREED = ("num_ranks", "num_logical_experts", "num_layers", "num_physical_experts", "placement",
          "solver", "max_steps")


def fingerprint(placements: Sequence[Placement]) -> int:
    """63 bits of everything in which placements can differ."""
    digest = hashlib.blake2b(digest_size=8)
    for p in placements:
        digest.update(np.array([p.num_ranks, p.num_nodes, p.num_logical_experts]).tobytes())
        for part in (p.physical_to_logical, p.rank_speed, p.rank_alive):
            digest.update(np.array([part.size]).tobytes() + part.tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1


def check_group(group: Any) -> None:
    """Raises TypeError unless `group` is a process group, RuntimeError where it is closed."""
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"group: is {type(group).__name__}, expected a torch.distributed.ProcessGroup")
    if not dist.is_initialized():
        raise RuntimeError("group: torch.distributed is not initialised, or closed")


class Exchange:
    """A rank's place in a group. One a planner; calls are collective."""

    def __init__(self, group: Any, timeout: float) -> None:
        check_group(group)
        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: this process is not in it")
        self.timeout = timeout
        self.is_nccl = dist.get_backend(group) == "nccl"

    def agree(self, facts: dict[str, int]) -> None:
        """Raises ValueError on all ranks where one of `facts` differs, and says whose."""
        mine = torch.tensor([facts[name] for name in AGREED], dtype=torch.int64,
                            device="cuda" if self.is_nccl else "cpu")
        everyone = torch.empty((self.size, len(AGREED)), dtype=torch.int64, device=mine.device)
        self._gather(everyone, mine, "the agreement of all ranks")
        table = everyone.cpu().numpy()
        for column, name in enumerate(AGREED):
            values = table[:, column]
            common = np.bincount(np.unique(values, return_inverse=True)[1]).max()
            if common == self.size:
                continue
            usual = next(v for v in values.tolist() if (values == v).sum() == common)
            odd = [f"rank {r} has {v}" for r, v in enumerate(values.tolist()) if v != usual]
            raise ValueError(f"{name}: differs between the ranks of the group: {', '.join(odd)}, "
                             f"expected {usual}")

    def host_gather(self, layer: int) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """A function that gathers rows of counts in the host's memory."""

        def gather(mine: NDArray[np.int64]) -> NDArray[np.int64]:
            # The row says what it is of, so that ranks which have lost step are found out.
            row = torch.empty(len(mine) + 1, dtype=torch.int64)
            row[0] = layer
            row[1:] = torch.from_numpy(mine)
            everyone = torch.empty((self.size, len(row)), dtype=torch.int64)
            self._gather(everyone, row, f"the counts of layer {layer}")
            layers = everyone[:, 0].tolist()
            if any(other != layer for other in layers):
                raise RuntimeError(f"group: the ranks run layers {layers}, expected all to run {layer}")
            return everyone[:, 1:].contiguous().numpy()

        return gather

    def device_gather(self, everyone: torch.Tensor, mine: torch.Tensor) -> None:
        """The same in a GPU's memory, on the current stream, without waiting."""
        try:
            dist.all_gather_into_tensor(everyone, mine, group=self.group)
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"group: the counts could not be exchanged: {error}") from error

    def _gather(self, everyone: torch.Tensor, mine: torch.Tensor, what: str) -> None:
        try:
            check_group(self.group)
            work = dist.all_gather_into_tensor(everyone.view(-1), mine, group=self.group,
                                               async_op=True)
            if work is not None:
                work.wait(timedelta(seconds=self.timeout))
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"group: rank {self.rank} did not get {what} within "
                               f"{self.timeout:g} s: a rank has ended, is late, or the group is "
                               f"closed ({error})") from error


def facts_of(placements: Sequence[Placement], solver: str, max_steps: int) -> dict[str, int]:
    """What :meth:`Exchange.agree` compares."""
    return {
        "num_ranks": placements[0].num_ranks,
        "num_logical_experts": placements[0].num_logical_experts,
        "num_layers": len(placements),
        "num_physical_experts": placements[0].num_physical_experts,
        "placement": fingerprint(placements),
        "solver": int.from_bytes(solver.encode()[:7], "little"),
        "max_steps": max_steps,
    }
