# SPDX-License-Identifier: MIT
"""The path of batches on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lplb import _lplb
from lplb._comm import Comm
from lplb._counts import AllCounts
from lplb._placement import Placement
from lplb._results import ExchangeStats
from lplb._settings import Settings

if TYPE_CHECKING:
    from lplb._exchange import DeviceRounds, Exchange
    from lplb._peers import Peers

#: (stream, topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens)
Batch = tuple[int, int, int, int, int, int]
#: (address, bytes, step): an integer on the device that grows by `step` if a batch is solved
Counter = tuple[int, int, int]
NO_COUNTER: Counter = (0, 4, 1)


class GpuPath:
    """A planner's batches on its GPU, from start() to close(): a GpuPlanner for each layer.

    Nothing here needs PyTorch except with a group, or with staleness on one rank. Calls that take a
    stream enqueue on it.

    Attributes
    ----------
    index : int
        The GPU; -1 before start() and after close().
    planners : list of _lplb.GpuPlanner
        One a layer, from start() to close(); otherwise empty.
    gathers : bool
        Counts travel by PyTorch, between kernels. Otherwise they travel within the plan's kernel,
        or are given, or none are needed.
    """

    def __init__(
        self,
        settings: Settings,
        placements: Sequence[Placement],
        packed_sizes: Sequence[int],
        counts: AllCounts,
        exchange: Exchange | None,
        comm: Comm,
    ) -> None:
        """`placements`, and their packed sizes: one a layer; the planner changes the elements."""
        self.settings = settings
        self.counts = counts
        # Copies of what each batch reads: a property of the settings would cost a call.
        self.num_layers = settings.num_layers
        self.needs_counts = settings.needs_counts
        self._is_stale = settings.staleness != 0
        self._keeps_history = settings.keeps_history
        self._max_replicas = settings.max_replicas
        self.index = -1
        self.planners: list[_lplb.GpuPlanner] = []
        self.gathers = False
        self._placements = placements
        self._packed_sizes = packed_sizes
        self._exchange = exchange
        self._comm = comm
        self._peers: Peers | None = None
        self._reason = ""  # why there are no peers
        self._rounds: list[DeviceRounds] = []
        self._on_device: Any = None  # torch.cuda.device(), if there are rounds
        self._is_closed = False

    def start(self, index: int) -> None:
        """Allocates on the current device, which is `index`. With a group it is collective."""
        if self.settings.backend == "cpu":
            raise ValueError('topk_idx: is on a GPU, expected the CPU (backend="cpu")')
        if self.planners:
            raise ValueError(
                f"topk_idx: is on GPU {index}, expected GPU {self.index}, where the planner is"
            )
        if self._is_closed:
            raise RuntimeError("planner: is closed")
        # NOTE: nothing of the planner changes before all of it is made, so that a start that fails
        # can be repeated.
        rounds: list[DeviceRounds] = []
        if self._exchange is None:
            planners = [self._make(i, None) for i in range(self.num_layers)]
            if self.settings.is_stale_alone:
                rounds = self._make_rounds(index)
        else:
            from lplb import _peers

            self._peers, self._reason, planners, rounds = _peers.start(
                self._exchange,
                self.settings,
                self._comm,
                self._make,
                lambda: self._make_rounds(index),
            )
        self.planners, self._rounds, self.index = planners, rounds, index
        self.gathers = self._peers is None and (
            self._exchange is not None or self.settings.is_stale_alone
        )

    def _make_rounds(self, index: int) -> list[DeviceRounds]:
        from lplb import _exchange

        self._on_device = _exchange.on_device
        return _exchange.device_rounds(self._exchange, self.settings, index)

    def plan(
        self,
        layer: int,
        stream: int,
        topk_idx: int,
        id_bytes: int,
        num_tokens: int,
        num_topk: int,
        num_valid_tokens: int,
        physical_idx: int,
        all_counts: int,
        tables: Sequence[int] | None,
        counter: Counter,
    ) -> None:
        """Enqueues a batch. Arrays are addresses on the device, 0 if there is none.

        `tables` are the addresses that the fields of Quotas are written to.
        """
        if self.gathers:
            batch = (stream, topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens)
            run = self._run_stale if self._is_stale else self._run_gathered
            run(layer, batch, physical_idx, tables, counter)
            return
        gpu = self.planners[layer]
        if self._keeps_history:
            gpu.count(stream, topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens, 0, True)
        gpu.run(
            stream,
            topk_idx,
            id_bytes,
            num_tokens,
            num_topk,
            num_valid_tokens,
            physical_idx,
            all_counts,
            0,
            *counter,
        )
        if tables is not None:
            gpu.quotas(stream, all_counts, self._max_replicas, *tables)

    def count(
        self,
        layer: int,
        stream: int,
        topk_idx: int,
        id_bytes: int,
        num_tokens: int,
        num_topk: int,
        num_valid_tokens: int,
        packed: int,
    ) -> None:
        """Writes this rank's counts to the address `packed`: [packed_size] int32."""
        self.planners[layer].count(
            stream, topk_idx, id_bytes, num_tokens, num_topk, num_valid_tokens, packed, False
        )

    def join(self) -> None:
        """Has the current stream wait for the counts of all layers that are under way."""
        if self._rounds:
            with self._on_device(self.index):
                for rounds in self._rounds:
                    rounds.join()

    def update_placement(self, stream: int, layer: int, placement: Placement) -> None:
        if self.planners:
            self.planners[layer].update_placement(stream, placement)

    def exchange_stats(self, stream: int, layers: Sequence[int]) -> ExchangeStats:
        """Sums over `layers`. Waits for the stream if there are peers."""
        if not self.planners or self._exchange is None:
            return ExchangeStats()
        if self._peers is None:
            taken = sum(rounds.bytes for rounds in self._rounds)
            return ExchangeStats("collective", taken, self._reason)
        found = [self.planners[i].exchange_stats(stream) for i in layers]
        total = {
            name: sum(one[name] for one in found)
            for name in ("rounds", "complete", "timed_out", "behind", "mismatched")
        }
        missing = [
            self.settings.members[one["last_missing"]] for one in found if one["last_missing"] >= 0
        ]
        return ExchangeStats(
            self._peers.transport,
            self._peers.bytes,
            **total,
            last_missing=missing[-1] if missing else -1,
        )

    def clear_history(self, stream: int) -> None:
        for planner in self.planners:
            planner.clear_history(stream)

    def close(self) -> None:
        """Frees all of it; start() raises from here on. If there are peers it is collective."""
        self._is_closed = True
        if self._peers is not None:
            assert self._exchange is not None
            from lplb import _exchange

            with _exchange.on_device(self.index):
                self._peers.leave(self._exchange)
                self.planners.clear()
                peers, self._peers = self._peers, None
                peers.close()
        self.join()
        self.index = -1
        self.planners.clear()  # waits for the device: nothing uses what follows any more
        self._rounds.clear()

    def _make(self, layer: int, channel: _lplb.PeerChannel | None) -> _lplb.GpuPlanner:
        settings = self.settings
        # With same_tokens `rank` only numbers the tokens of the map: all ranks then map alike.
        return _lplb.GpuPlanner(
            self._placements[layer],
            settings.rank,
            len(settings.members),
            *settings.limits,
            settings.keeps_split,
            settings.checks,
            channel,
            settings.dynamic.native if settings.dynamic.slots else None,
        )

    def _run_gathered(
        self,
        layer: int,
        batch: Batch,
        physical_idx: int,
        tables: Sequence[int] | None,
        counter: Counter,
    ) -> None:
        """A kernel that counts, a collective, and the plan."""
        gpu, rounds = self.planners[layer], self._rounds[layer]
        gpu.count(*batch, rounds.mine.data_ptr(), self._keeps_history)
        rounds.gather(self._packed_sizes[layer])
        counts = rounds.everyone.data_ptr()
        gpu.run(*batch, physical_idx, counts, 0, *counter)
        if tables is not None:
            gpu.quotas(batch[0], counts, self._max_replicas, *tables)

    def _run_stale(
        self,
        layer: int,
        batch: Batch,
        physical_idx: int,
        tables: Sequence[int] | None,
        counter: Counter,
    ) -> None:
        """The plan by the counts of the previous batch; then a collective, in parallel with what
        follows on the stream."""
        gpu, rounds = self.planners[layer], self._rounds[layer]
        rounds.join()
        counts = rounds.everyone.data_ptr()
        if self._keeps_history:
            gpu.count(*batch, 0, True)
        gpu.run(*batch, physical_idx, counts, rounds.mine.data_ptr(), *counter)
        if tables is not None:
            # NOTE: before the collective starts, which overwrites the rows that quotas() reads.
            gpu.quotas(batch[0], counts, self._max_replicas, *tables)
        rounds.start(self._packed_sizes[layer])
