# SPDX-License-Identifier: MIT
"""How the ranks of a torch.distributed group learn each other's counts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from lplb import _lplb
from lplb._comm import TRANSPORTS
from lplb._dynamic import DynamicSlots, facts_of_copies, shown_target
from lplb._placement import Placement
from lplb._settings import Settings

# What the ranks must agree on. If several differ, the first is told.
AGREED = (
    "num_ranks",
    "num_logical_experts",
    "num_layers",
    "num_physical_experts",
    "placement",
    "solver",
    "max_steps",
    "transport",
    "staleness",
    "cost",
    "dynamic_slots",
    "copy_target",
    "copy_min_tokens",
    "copy_domains",
)

# Seconds that a rank waits for the others at least, however small `timeout` is.
AGREE_SECONDS = 30.0  # when placements are compared or memory is given up
START_SECONDS = 300.0  # in the first batch on a GPU, to which ranks come when they are ready


def fingerprint(placements: Sequence[Placement]) -> int:
    """A hash, 63 bits, of all that two placements can differ in."""
    digest = hashlib.blake2b(digest_size=8)
    for p in placements:
        digest.update(np.array([p.num_ranks, p.num_nodes, p.num_logical_experts]).tobytes())
        for part in (p.physical_to_logical, p.rank_speed, p.rank_alive):
            digest.update(np.array([part.size]).tobytes() + part.tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1


def check_group(group: Any) -> None:
    """Raises TypeError unless `group` is a process group, RuntimeError if it is closed."""
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"group: is {type(group).__name__}, expected a torch.distributed.ProcessGroup"
        )
    if not dist.is_initialized():
        raise RuntimeError("group: torch.distributed is not initialised, or closed")


class Exchange:
    """A rank's place in a group. Each planner has one of its own. Calls are collective."""

    def __init__(self, group: Any, timeout: float) -> None:
        check_group(group)
        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: this process is not in it")
        self.timeout = timeout
        self.is_nccl = dist.get_backend(group) == "nccl"

    def own_rank(self, rank: int | None, members: tuple[int, ...]) -> int:
        """This rank in the placements. Raises ValueError if the caller's `rank` is another one."""
        own = members[self.rank]
        if rank is not None and rank != own:
            raise ValueError(f"rank: is {rank}, expected that in the group ({own})")
        return own

    def agree(self, facts: dict[str, int], placements: Sequence[Placement]) -> None:
        """Raises ValueError on all ranks if one of `facts` differs, and names the ranks."""
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
            if name == "placement":
                # All ranks come here, because all have the same table.
                self._tell_difference(placements, values.tolist().index(usual))
            odd = [
                f"rank {r} has {_shown(name, v)}"
                for r, v in enumerate(values.tolist())
                if v != usual
            ]
            raise ValueError(
                f"{name}: differs between the ranks of the group: {', '.join(odd)}, "
                f"expected {_shown(name, usual)}"
            )

    def _tell_difference(self, placements: Sequence[Placement], usual: int) -> None:
        """Raises ValueError, which says where the placements differ from those of rank `usual`."""
        told = [json.loads(text) for (text,) in self.tell([json.dumps(_details(placements))])]
        for rank, mine in enumerate(told):
            for layer, (own, theirs) in enumerate(zip(mine, told[usual], strict=True)):
                for name, values in own.items():
                    if values != theirs[name]:
                        raise ValueError(
                            "placement: differs between the ranks of the group: "
                            + _first_difference(
                                rank, usual, f"layer {layer}, {name}", values, theirs[name]
                            )
                        )

    def all_gather_bytes(self, mine: bytes) -> list[bytes]:
        """What each rank gave; lengths may differ. It serves set-up."""
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
        """What each rank told: the same number of texts. No rank returns before all have told."""
        return [json.loads(told) for told in self.all_gather_bytes(json.dumps(texts).encode())]

    def barrier(self) -> None:
        """Returns when all ranks have come."""
        mine = torch.zeros(1, dtype=torch.int64, device="cuda" if self.is_nccl else "cpu")
        self._gather(mine.new_empty(self.size), mine, "word of all ranks", AGREE_SECONDS)

    def nccl_comm(self) -> int:
        """The group's own ncclComm_t. 0: it has none, or has exchanged nothing on a GPU yet."""
        try:
            backend = self.group._get_backend(torch.device("cuda"))
            return int(backend._comm_ptr()) if hasattr(backend, "_comm_ptr") else 0
        except RuntimeError:
            return 0

    def start(self, everyone: torch.Tensor, mine: torch.Tensor) -> Any:
        """Starts an all-gather of rows; returns the work to wait() for.

        Neither tensor may change until then. On a GPU the all-gather begins after what is on the
        current stream, and runs in parallel with what follows; wait() has the current stream wait.
        """
        check_group(self.group)
        return dist.all_gather_into_tensor(everyone.view(-1), mine, group=self.group, async_op=True)

    @contextmanager
    def in_time(self, what: str, seconds: float) -> Iterator[None]:
        """Turns what its block raises into a RuntimeError that says what did not come.

        What PyTorch says is its cause.
        """
        started = time.monotonic()
        try:
            yield
        except (RuntimeError, ValueError) as error:
            waited = time.monotonic() - started
            why = (
                f"within {seconds:g} s: a rank is late, or has ended"
                if waited >= seconds
                else f"(after {waited:.1f} s): a rank has ended, or the group is closed"
            )
            raise RuntimeError(f"group: rank {self.rank} did not get {what} {why}") from error

    def _gather(
        self, everyone: torch.Tensor, mine: torch.Tensor, what: str, at_least: float
    ) -> None:
        seconds = max(self.timeout, at_least)
        with self.in_time(what, seconds):
            work = self.start(everyone, mine)
            if work is not None:
                work.wait(timedelta(seconds=seconds))


class HostRounds:
    """A layer's all-gathers in the host's memory.

    _lplb.HostPlanner calls post(), then collect(). With staleness it plans a batch between the two.
    """

    def __init__(self, exchange: Exchange, layer: int) -> None:
        self._exchange = exchange
        self._layer = layer
        self._what = f"the counts of layer {layer}"
        self._work: Any = None
        self._everyone = torch.empty(0)

    def post(self, mine: NDArray[np.int64]) -> None:
        # The row begins with its layer, so that ranks which run different layers are found.
        row = torch.empty(len(mine) + 1, dtype=torch.int64)
        row[0] = self._layer
        row[1:] = torch.from_numpy(mine)
        self._everyone = torch.empty((self._exchange.size, len(row)), dtype=torch.int64)
        with self._exchange.in_time(self._what, self._exchange.timeout):
            self._work = self._exchange.start(self._everyone, row)

    def collect(self) -> NDArray[np.int64]:
        """Waits up to `timeout` from now on. If that is too short, the round stays under way."""
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
    """A layer's all-gathers in a GPU's memory, on the current stream. The host does not wait.

    A kernel writes `mine`, another kernel reads `everyone`. No exchange: the group is this rank.
    """

    def __init__(self, exchange: Exchange | None, max_counts: int, device: torch.device) -> None:
        self._exchange = exchange
        self._size = exchange.size if exchange is not None else 1
        self.mine = torch.zeros(max_counts, dtype=torch.int32, device=device)
        self.everyone = torch.zeros(self._size * max_counts, dtype=torch.int32, device=device)
        self._work: Any = None
        self._in_capture = False  # the work under way began in a capture

    @property
    def bytes(self) -> int:
        return self.mine.nbytes + self.everyone.nbytes

    def gather(self, num_counts: int) -> None:
        """Enqueues an all-gather: what follows on the stream finds the rows of all ranks."""
        assert self._exchange is not None
        try:
            dist.all_gather_into_tensor(*self._rows(num_counts), group=self._exchange.group)
        except (RuntimeError, ValueError) as error:
            raise _not_exchanged(error) from error

    def start(self, num_counts: int) -> None:
        """Starts an all-gather after what is on the stream, in parallel with what follows.

        Until join() NCCL reads and writes the rows.
        """
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
        """Has the current stream wait for the all-gather that is under way, if any."""
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
            return  # the capture has ended, and its rounds with it
        try:
            work.wait()
        except (RuntimeError, ValueError) as error:
            raise _not_exchanged(error) from error

    def _rows(self, num_counts: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.everyone[: self._size * num_counts], self.mine[:num_counts]


def _not_exchanged(error: Exception) -> RuntimeError:
    return RuntimeError(f"group: the counts could not be exchanged: {error}")


def on_device(index: int) -> Any:
    """A context in which GPU `index` is current."""
    return torch.cuda.device(index)


def device_rounds(exchange: Exchange | None, settings: Settings, index: int) -> list[DeviceRounds]:
    """Rounds for each layer on GPU `index`, with room for the largest placement."""
    device = torch.device("cuda", index)
    return [DeviceRounds(exchange, settings.max_counts, device) for _ in range(settings.num_layers)]


def _details(placements: Sequence[Placement]) -> list[dict[str, Any]]:
    """All that two placements of the same sizes can differ in."""
    return [
        {
            "num_nodes": p.num_nodes,
            "rank_speed": p.rank_speed.tolist(),
            "rank_alive": p.rank_alive.tolist(),
            "physical_to_logical": p.physical_to_logical.tolist(),
        }
        for p in placements
    ]


def _first_difference(rank: int, other: int, where: str, mine: Any, theirs: Any) -> str:
    if isinstance(mine, list) and len(mine) != len(theirs):
        return f"{where} has {len(mine)} entries on rank {rank}, {len(theirs)} on rank {other}"
    if isinstance(mine, list):
        at = next(i for i, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1])
        where, mine, theirs = f"{where}[{at}]", mine[at], theirs[at]
    return f"{where} is {mine} on rank {rank}, {theirs} on rank {other}"


def _shown(name: str, value: int) -> str:
    if name == "cost":
        return f"a model with fingerprint {value:x}" if value else "None"
    if name == "copy_target":
        return shown_target(value)
    return f'"{TRANSPORTS[value]}"' if name == "transport" else str(value)


def facts_of(
    placements: Sequence[Placement],
    solver: str,
    max_steps: int,
    transport: str,
    staleness: int,
    cost: _lplb.CostModel | None,
    dynamic: DynamicSlots,
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
        "transport": TRANSPORTS.index(transport),
        "staleness": staleness,
        "cost": 0 if cost is None else cost.fingerprint >> 1,
        **facts_of_copies(dynamic),
    }
