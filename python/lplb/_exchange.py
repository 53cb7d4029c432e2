# SPDX-License-Identifier: MIT
"""How the ranks of a torch.distributed group learn each other's counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from lplb._comm import EXCHANGES
from lplb._placement import Placement

# What ranks must agree on, in the order in which a difference is told.
AGREED = (
    "num_ranks",
    "num_logical_experts",
    "num_layers",
    "num_physical_experts",
    "placement",
    "solver",
    "max_steps",
    "exchange",
    "staleness",
)

# Seconds that a rank waits for the others at least, whatever `timeout` is: where placements are
# compared or memory is given up; and at the first batch on a GPU, to which ranks come when they are
# ready.
AGREE_SECONDS = 30.0
START_SECONDS = 300.0


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
        raise TypeError(
            f"group: is {type(group).__name__}, expected a torch.distributed.ProcessGroup"
        )
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
        mine = torch.tensor(
            [facts[name] for name in AGREED],
            dtype=torch.int64,
            device="cuda" if self.is_nccl else "cpu",
        )
        everyone = torch.empty((self.size, len(AGREED)), dtype=torch.int64, device=mine.device)
        self._gather(everyone, mine, "the agreement of all ranks", AGREE_SECONDS)
        table = everyone.cpu().numpy()
        for column, name in enumerate(AGREED):
            values = table[:, column]
            common = np.bincount(np.unique(values, return_inverse=True)[1]).max()
            if common == self.size:
                continue
            usual = next(v for v in values.tolist() if (values == v).sum() == common)
            odd = [
                f"rank {r} has {_shown(name, v)}"
                for r, v in enumerate(values.tolist())
                if v != usual
            ]
            raise ValueError(
                f"{name}: differs between the ranks of the group: {', '.join(odd)}, "
                f"expected {_shown(name, usual)}"
            )

    def all_gather_bytes(self, mine: bytes) -> list[bytes]:
        """What each rank gave, which may differ in length. For set-up."""
        device = "cuda" if self.is_nccl else "cpu"
        sizes = torch.empty(self.size, dtype=torch.int64, device=device)
        self._gather(
            sizes, torch.tensor([len(mine)], device=device), "word of all ranks", START_SECONDS
        )
        most = max(int(sizes.max()), 1)
        row = torch.frombuffer(bytearray(mine.ljust(most, b"\0")), dtype=torch.uint8).to(device)
        everyone = torch.empty((self.size, most), dtype=torch.uint8, device=device)
        self._gather(everyone, row, "word of all ranks", START_SECONDS)
        rows = everyone.cpu().numpy()
        return [rows[rank, :size].tobytes() for rank, size in enumerate(sizes.tolist())]

    def tell(self, texts: Sequence[str]) -> list[list[str]]:
        """What each rank told: as many texts on every rank. None goes on before all have told."""
        return [json.loads(told) for told in self.all_gather_bytes(json.dumps(texts).encode())]

    def barrier(self) -> None:
        mine = torch.zeros(1, dtype=torch.int64, device="cuda" if self.is_nccl else "cpu")
        self._gather(mine.new_empty(self.size), mine, "word of all ranks", AGREE_SECONDS)

    def nccl_comm(self) -> int:
        """The group's own ncclComm_t; 0: it has none, or has exchanged nothing on a GPU yet."""
        try:
            backend = self.group._get_backend(torch.device("cuda"))
            return int(backend._comm_ptr()) if hasattr(backend, "_comm_ptr") else 0
        except RuntimeError:
            return 0

    def start(self, everyone: torch.Tensor, mine: torch.Tensor) -> Any:
        """An all-gather of rows that goes on by itself, and the work to wait() for; both stay as they
        are until then. On a GPU behind the current stream, which wait() alone has wait for it."""
        check_group(self.group)
        return dist.all_gather_into_tensor(everyone.view(-1), mine, group=self.group, async_op=True)

    @contextmanager
    def in_time(self, what: str, seconds: float) -> Iterator[None]:
        """Tells what went wrong in it as a RuntimeError."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(
                f"group: rank {self.rank} did not get {what} within "
                f"{seconds:g} s: a rank has ended, is late, or the group is "
                f"closed ({error})"
            ) from error

    def _gather(
        self, everyone: torch.Tensor, mine: torch.Tensor, what: str, at_least: float
    ) -> None:
        seconds = max(self.timeout, at_least)
        with self.in_time(what, seconds):
            work = self.start(everyone, mine)
            if work is not None:
                work.wait(timedelta(seconds=seconds))


class HostRounds:
    """A layer's all-gathers in the host's memory, as _lplb.HostPlanner calls for them: post(), then
    collect(). With staleness it plans a batch between the two."""

    def __init__(self, exchange: Exchange, layer: int) -> None:
        self._exchange = exchange
        self._layer = layer
        self._what = f"the counts of layer {layer}"
        self._work: Any = None
        self._everyone = torch.empty(0)

    def post(self, mine: NDArray[np.int64]) -> None:
        # The row says what it is of, so that ranks which have lost step are found out.
        row = torch.empty(len(mine) + 1, dtype=torch.int64)
        row[0] = self._layer
        row[1:] = torch.from_numpy(mine)
        self._everyone = torch.empty((self._exchange.size, len(row)), dtype=torch.int64)
        with self._exchange.in_time(self._what, self._exchange.timeout):
            self._work = self._exchange.start(self._everyone, row)

    def collect(self) -> NDArray[np.int64]:
        """Waits `timeout` from here on. Where that is not enough the round is still under way."""
        seconds = self._exchange.timeout
        with self._exchange.in_time(self._what, seconds):
            self._work.wait(timedelta(seconds=seconds))
        self._work = None
        layers = self._everyone[:, 0].tolist()
        if any(other != self._layer for other in layers):
            raise RuntimeError(
                f"group: the ranks run layers {layers}, expected all to run {self._layer}"
            )
        return self._everyone[:, 1:].contiguous().numpy()


class DeviceRounds:
    """The same in a GPU's memory, on the current stream and without waiting there: a kernel writes
    `mine`, another one reads `everyone`. Without an exchange of one rank."""

    def __init__(self, exchange: Exchange | None, max_counts: int, device: torch.device) -> None:
        self._exchange = exchange
        self._size = exchange.size if exchange is not None else 1
        self.mine = torch.zeros(max_counts, dtype=torch.int32, device=device)
        self.everyone = torch.zeros(self._size * max_counts, dtype=torch.int32, device=device)
        self._work: Any = None
        self._in_capture = False  # what is under way began in one

    @property
    def bytes(self) -> int:
        return self.mine.nbytes + self.everyone.nbytes

    def gather(self, num_counts: int) -> None:
        """Once it has passed on the stream, all rows are there."""
        assert self._exchange is not None
        try:
            dist.all_gather_into_tensor(*self._rows(num_counts), group=self._exchange.group)
        except (RuntimeError, ValueError) as error:
            raise _not_exchanged(error) from error

    def start(self, num_counts: int) -> None:
        """The same beside the stream, behind what is in it; until join() the rows are NCCL's."""
        everyone, mine = self._rows(num_counts)
        if self._exchange is None:
            everyone.copy_(mine)
            return
        try:
            self._work = self._exchange.start(everyone, mine)
        except (RuntimeError, ValueError) as error:
            raise _not_exchanged(error) from error
        self._in_capture = torch.cuda.is_current_stream_capturing()

    def join(self) -> None:
        """Has the current stream wait for what is under way."""
        if self._work is None:
            return
        in_capture = torch.cuda.is_current_stream_capturing()
        if in_capture and not self._in_capture:
            raise RuntimeError(
                "planner: counts of a batch from before the capture are under way, "
                "expected Planner.join() between the two"
            )
        work, self._work = self._work, None
        if in_capture != self._in_capture:
            return  # a capture that has ended has ended its rounds too
        try:
            work.wait()
        except (RuntimeError, ValueError) as error:
            raise _not_exchanged(error) from error

    def _rows(self, num_counts: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.everyone[: self._size * num_counts], self.mine[:num_counts]


def _not_exchanged(error: Exception) -> RuntimeError:
    return RuntimeError(f"group: the counts could not be exchanged: {error}")


def _shown(name: str, value: int) -> str:
    return f'"{EXCHANGES[value]}"' if name == "exchange" else str(value)


def facts_of(
    placements: Sequence[Placement], solver: str, max_steps: int, exchange: str, staleness: int
) -> dict[str, int]:
    """What :meth:`Exchange.agree` compares."""
    return {
        "num_ranks": placements[0].num_ranks,
        "num_logical_experts": placements[0].num_logical_experts,
        "num_layers": len(placements),
        "num_physical_experts": placements[0].num_physical_experts,
        "placement": fingerprint(placements),
        "solver": int.from_bytes(solver.encode()[:7], "little"),
        "max_steps": max_steps,
        "exchange": EXCHANGES.index(exchange),
        "staleness": staleness,
    }
