# SPDX-License-Identifier: MIT
"""How loads come to the first rank of a group, and decisions from it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from lplb._exchange import Exchange, check_group
from lplb._planner import Planner


class Link:
    """A gloo group of its own. Its calls are collective, and come from one thread of a rank."""

    def __init__(self, group: Any, timeout: float) -> None:
        check_group(group)
        ranks = dist.get_process_group_ranks(group)
        seconds = timedelta(seconds=max(timeout, 30.0))
        own = dist.new_group(ranks, seconds, "gloo", use_local_synchronization=True)
        self._exchange = Exchange(own, timeout)
        self._first = ranks[0]
        self.timeout = timeout

    @property
    def is_first(self) -> bool:
        return self._exchange.rank == 0

    def sum_to_first(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum over the ranks, on the first rank only."""
        tensor = torch.from_numpy(values)
        self._wait(
            dist.reduce(tensor, self._first, group=self._exchange.group, async_op=True), "loads", 0
        )
        return values

    def tell_all(self, text: str, seconds: float) -> str:
        """What the first rank tells; the others wait `seconds` more than the time-out."""
        data = text.encode()
        size = torch.tensor([len(data)])
        self._broadcast(size, seconds)
        rows = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)
        if not self.is_first:
            rows = torch.empty(int(size), dtype=torch.uint8)
        self._broadcast(rows, 0)
        return rows.numpy().tobytes().decode()

    def _broadcast(self, tensor: torch.Tensor, seconds: float) -> None:
        self._wait(
            dist.broadcast(tensor, self._first, group=self._exchange.group, async_op=True),
            "a decision",
            seconds,
        )

    def _wait(self, work: Any, what: str, seconds: float) -> None:
        seconds += self.timeout
        with self._exchange.in_time(what, seconds):
            work.wait(timedelta(seconds=seconds))


class Snapshot:
    """Copies of a planner's history, which are not waited for where they are taken."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._last: Any = np.zeros((planner.num_layers, planner.num_logical_experts))

    def take(self) -> tuple[Any, Any]:
        """The history now. On a GPU the copy follows what is on the current stream."""
        history = self._planner.load_history()
        if not isinstance(history, torch.Tensor):
            return history, None
        host = torch.empty(history.shape, dtype=history.dtype, pin_memory=True)
        host.copy_(history, non_blocking=True)
        return host, torch.cuda.current_stream(history.device).record_event()

    def difference(self, taken: tuple[Any, Any]) -> NDArray[np.float64]:
        """The load since the snapshot before. Waits until the copy is there."""
        history, event = taken
        while event is not None and not event.query():
            time.sleep(0.0005)
        now = np.asarray(history)
        difference: NDArray[np.float64] = now - self._last
        self._last = now
        return difference
