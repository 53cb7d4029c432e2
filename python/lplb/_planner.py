# SPDX-License-Identifier: MIT
"""The fast loop of one rank."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lplb import _lplb
from lplb._arrays import check_int, torch_if_loaded
from lplb._comm import check_exchange, read_comm
from lplb._counts import check_staleness, is_alone
from lplb._placement import Placement
from lplb._results import (
    ExchangeStats,
    PlannerStats,
    Quotas,
    add_up,
    as_layers,
    check_batch,
    check_next,
    check_placements,
    own_rank,
)

if TYPE_CHECKING:
    from lplb._exchange import DeviceRounds, Exchange, HostRounds
    from lplb._peers import Peers

# By handle, for the operators that torch.compile calls.
PLANNERS: weakref.WeakValueDictionary[int, Planner] = weakref.WeakValueDictionary()
_handles = itertools.count()


def _is_original(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return len(args) > 1 or "redundant_to_original" in kwargs or "n_routed_experts" in kwargs


class Planner:
    """Sends each batch's tokens to replicas so that the fullest rank has least.

    Count, exchange, solve and map, on the CPU or in one kernel on a GPU; both give the same ids, to
    the bit. The result of a solved batch is proven optimal, and over the group each replica takes
    exactly its quota; as many tokens as possible stay on their rank, then on their node.

    Called as deepseek-ai/LPLB's class was (`Planner(redundant_to_original, n_routed_experts,
    n_logical_routed_experts, ...)`), it is :class:`lplb.original.Planner`.

    Parameters
    ----------
    placement : Placement or sequence of Placement
        One, or one a layer: same ranks and logical experts.
    rank : int, optional
        Whose tokens run() gets. With `group` it is the group's.
    group : torch.distributed.ProcessGroup, optional
        Of num_ranks ranks, which exchange `placement.packed_size` integers a batch: on a GPU as
        `exchange` says, on the CPU by an all-gather over gloo. Construction, update_placement() and
        the first batch on a GPU are collective then, and check that all ranks agree.
    backend : str
        "auto": where the tokens are; the first batch on a GPU allocates. "cuda": there alone, and
        allocated at once on the current device. "cpu": there alone.
    num_layers : int, optional
        With a single placement: so many layers start with it.
    num_topk, max_tokens : int
        The largest batch: max_tokens x num_topk entries. A batch may have another num_topk.
    max_redundants : int
        Replica slots (num_physical - num_logical) that a later placement may have; 0: those of the
        first. Memory is sized for it once, so that captured CUDA graphs survive a new placement.
    same_tokens : bool
        Every rank has the same tokens (attention tensor-parallel): no exchange, and all ranks choose
        alike. `group` is not needed, nor used.
    solver, max_steps :
        As for :func:`lplb.solve`; "ipm" on the CPU alone.
    keep_history : bool
        Keep the load of past batches: load_history().
    window, decay :
        What of it: the last `window` batches; or each batch takes what was down to `decay` of it.
        Giving one of them keeps a history.
    quotas : bool
        Be ready for run_quotas() on a GPU.
    timeout : float
        Seconds that a batch waits for the other ranks. Within the kernel microseconds are fine, and the
        batch is degraded then; on the CPU it raises; of "collective" NCCL's own holds. Set-up and
        update_placement() wait 30 s at least, the first batch on a GPU 300 s.
    checks : bool
        On a GPU: check each batch from first principles; stats().check_failures. Slow.
    exchange : str
        How counts travel between GPUs (docs/exchange.md), the same on all ranks. "ipc", "fabric",
        "nccl", "nvshmem", "symmetric_memory" (PyTorch's): within the plan's kernel, through memory
        that the ranks map so; RuntimeError at the first batch where a rank cannot. "collective":
        all_gather_into_tensor between two kernels. "auto": the first of ipc, fabric and nccl (and
        nvshmem, where `comm` has started it) that every rank can use, else "collective".
    comm : int, or a DeepEP buffer, optional
        An ncclComm_t of the group for "nccl", beside `group`. Of a `Buffer`, `ElasticBuffer` or
        `EPBuffer` its group and its communicator are taken; its memory is not used. It must outlive
        the planner, or close().
    staleness : int
        1: a batch is split as its counts are exchanged for the next one. Each expert's tokens go to its
        replicas in proportion to the exact split of the batch before; the first batch, and as a rule
        the first with another placement, evenly (stats().unplanned). No rank waits for one that is less
        than a batch behind. It costs half of the gain or more: for slow links (docs/exchange.md).

    Notes
    -----
    Threads: calls may come from any thread; those of one layer run one after another, and the GIL is
    released meanwhile. Every rank must run the same batches of the same layers in the same order.

    Streams: on a GPU run() enqueues on PyTorch's current stream (or on `stream`), does not wait, and
    allocates nothing but the result. It can be captured in a CUDA graph, and under torch.compile it
    is the operator torch.ops.lplb.plan; the compiler may merge two calls on the same tensor, which
    would give the same ids. Batches and updates of one layer must follow each other on the device.

    Staleness: a call has an effect on the next one. The compiler keeps all of them, in order (the
    operator is plan_late). Activation checkpointing must not run it again: the ids would be others.

    Examples
    --------
    >>> import numpy as np, lplb
    >>> placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
    >>> planner = lplb.Planner(placement, rank=0, same_tokens=True)
    >>> planner.run(np.array([[0], [0], [1], [-1]]), num_valid_tokens=3)
    array([[ 0],
           [ 3],
           [ 1],
           [-1]])
    >>> planner.stats().optimal
    1
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Planner:
        if cls is Planner and _is_original(args, kwargs):
            from lplb import original

            return cast("Planner", original.Planner(*args, **kwargs))
        return super().__new__(cls)

    def __init__(
        self,
        placement: Placement | Sequence[Placement],
        *,
        rank: int | None = None,
        group: Any = None,
        backend: str = "auto",
        num_layers: int | None = None,
        num_topk: int = 8,
        max_tokens: int = 32768,
        max_redundants: int = 0,
        same_tokens: bool = False,
        solver: str = "auto",
        max_steps: int = -1,
        keep_history: bool = False,
        window: int = 0,
        decay: float = 1.0,
        quotas: bool = False,
        timeout: float = 10.0,
        checks: bool = False,
        exchange: str = "auto",
        comm: Any = None,
        staleness: int = 0,
    ) -> None:
        self._placements = as_layers(placement, num_layers)
        if backend not in ("auto", "cpu", "cuda"):
            raise ValueError(f'backend: is {backend!r}, expected "auto", "cpu" or "cuda"')
        if not timeout > 0:
            raise ValueError(f"timeout: is {timeout}, expected more than 0 seconds")
        self._backend = backend
        self._same_tokens = same_tokens
        self._staleness = check_staleness(staleness, same_tokens)
        self._remembers = keep_history or window != 0 or decay != 1.0
        self._keeps_split = quotas
        self._checks = checks
        self._way = check_exchange(exchange)
        self._kept_comm = comm  # its communicator lives as long
        self._comm = read_comm(comm, group)
        self._exchange: Exchange | None = None
        self._host_rounds: list[HostRounds] = []
        self._peers: Peers | None = None
        self._reason = ""  # why it is None
        if self._comm.group is not None and not same_tokens:
            from lplb._exchange import Exchange, HostRounds, facts_of

            self._exchange = Exchange(self._comm.group, timeout)
            self._facts = (solver, max_steps, exchange, self._staleness)
            self._exchange.agree(facts_of(self._placements, *self._facts))
            self._host_rounds = [HostRounds(self._exchange, i) for i in range(self.num_layers)]
        elif exchange not in ("auto", "collective") and not same_tokens:
            raise ValueError(f'exchange: is "{exchange}", expected a group of ranks to connect')
        first = self._placements[0]
        self.rank = own_rank(rank, self._exchange, first.num_ranks, same_tokens)
        redundants = max(p.num_physical_experts - p.num_logical_experts for p in self._placements)
        self._max_redundants = check_int(max_redundants, "max_redundants", 0) or redundants
        #: Columns of run_quotas()'s tables: what no placement within the limits exceeds.
        self.max_replicas = max(p.max_replicas for p in self._placements)
        self._max_entries = check_batch(max_tokens, num_topk)
        self._limits = (
            max_tokens,
            num_topk,
            solver,
            check_int(max_steps, "max_steps"),
            self._max_redundants,
            self._staleness,
            check_int(window, "window"),
            float(decay),
        )
        # Also where only a GPU is used: they check the arguments.
        self._host = [
            _lplb.HostPlanner(p, self.rank, same_tokens, *self._limits) for p in self._placements
        ]
        self._gpu: list[_lplb.GpuPlanner] = []
        self._gpu_index = -1
        self._closed = False
        self._gathers = False  # on the GPU counts go between kernels, through what follows
        self._rounds: list[DeviceRounds] = []
        self._last_sizes = [0] * self.num_layers  # packed_size of the last batch; with staleness
        self._torch: Any = torch_if_loaded()
        self._handle = next(_handles)
        PLANNERS[self._handle] = self
        self.num_ranks = first.num_ranks
        self.num_logical_experts = first.num_logical_experts
        if backend == "cuda":
            missing = _lplb.cuda_info()["missing"]
            if missing:
                raise RuntimeError(f"backend: cuda cannot be used: {missing}")
            self._start_gpu(self._torch.current_device() if self._torch is not None else 0)

    @property
    def group(self) -> Any:
        """The process group; None: there is none."""
        return self._comm.group

    @property
    def num_layers(self) -> int:
        """Placements and states that this object holds."""
        return len(self._placements)

    def placement(self, layer: int = 0) -> Placement:
        """The placement of the next batch."""
        return self._placements[self._layer(layer)]

    def run(
        self,
        topk_idx: Any,
        out: Any = None,
        num_valid_tokens: Any = None,
        *,
        layer: int = 0,
        stream: int | None = None,
        all_counts: Any = None,
    ) -> Any:
        """Plans one batch. Every rank calls it once a batch, also with no tokens.

        Parameters
        ----------
        topk_idx : array of int32, int64 or uint32, [num_tokens, num_topk]
            Logical ids, contiguous: a PyTorch, NumPy or CuPy array. -1 is dropped and stays -1; ids
            out of range are counted in stats() and become -1. One dimension is num_topk = 1; of
            more than two the last is num_topk.
        out : array like topk_idx, optional
            Where the result goes; may be topk_idx itself.
        num_valid_tokens : int, or int32 array of one element, optional
            Tokens from here on pad: not counted, and mapped to -1. On a GPU an array is read by the
            kernel, without waiting.
        layer : int
        stream : int, optional
            A cudaStream_t, for arrays that are not PyTorch's. Default: CuPy's current one, else 0.
        all_counts : array of int (int32 on a GPU), [num_ranks, packed_size], optional
            What each rank counted (count()), where there is no group. This rank's row is ignored.
            With staleness those of the batch before, this rank's too; None: there are none.

        Returns
        -------
        array
            Physical ids, as topk_idx in kind, shape, dtype and device.

        Raises
        ------
        TypeError, ValueError
            With nothing launched or exchanged.
        RuntimeError
            The other ranks did not come within `timeout`, or CUDA failed.
        """
        torch = self._torch if self._torch is not None else self._find_torch()
        if torch is not None and isinstance(topk_idx, torch.Tensor):
            return torch.run(self, topk_idx, out, num_valid_tokens, layer, all_counts)
        from lplb import _generic

        return _generic.run(self, topk_idx, out, num_valid_tokens, layer, stream, all_counts)

    def run_quotas(
        self,
        topk_idx: Any,
        out: Any = None,
        num_valid_tokens: Any = None,
        *,
        layer: int = 0,
        all_counts: Any = None,
    ) -> tuple[Any, Quotas]:
        """As run(), and the batch's split: `(physical ids, Quotas)`, on the tokens' device.

        PyTorch and NumPy. On a GPU the planner must have been made with quotas=True.
        """
        torch = self._torch if self._torch is not None else self._find_torch()
        if torch is not None and isinstance(topk_idx, torch.Tensor):
            ids, tables = torch.run_quotas(self, topk_idx, out, num_valid_tokens, layer, all_counts)
            return ids, Quotas(*tables)
        from lplb import _generic

        return _generic.run_quotas(self, topk_idx, out, num_valid_tokens, layer, all_counts)

    def run_dense(
        self, probs: Any, routing_map: Any, *, layer: int = 0, all_counts: Any = None
    ) -> tuple[Any, Any]:
        """Plans a batch that is given densely, as Megatron-style dispatchers have it. PyTorch.

        Parameters
        ----------
        probs : float tensor, [T, E]
            Differentiable through.
        routing_map : bool tensor, [T, E]
            Which experts each token goes to.

        Returns
        -------
        probs : float tensor, [T, P]
            The probability of (token, expert) at the physical expert that takes it, else 0.
        routing_map : bool tensor, [T, P]

        Notes
        -----
        T x E entries are planned: a batch of that many counts against max_tokens x num_topk.
        """
        from lplb import _dense

        return _dense.run_dense(self, probs, routing_map, layer, all_counts)

    def count(self, topk_idx: Any, num_valid_tokens: Any = None, *, layer: int = 0) -> Any:
        """This rank's row of `all_counts`, for an exchange of the caller's own: [packed_size].

        int32 on a GPU (PyTorch, on the current stream), int64 on the CPU.
        """
        torch = self._torch if self._torch is not None else self._find_torch()
        if torch is not None and isinstance(topk_idx, torch.Tensor):
            return torch.count(self, topk_idx, num_valid_tokens, layer)
        from lplb import _generic

        return _generic.count(self, topk_idx, num_valid_tokens, layer)

    def update_placement(
        self, placement: Placement | Sequence[Placement], *, layer: int | None = None
    ) -> None:
        """Plans with another placement from the next batch on. Every rank does it between the same two.

        One placement for `layer`, or (layer None) one for each layer. Same ranks and logical experts,
        replicas within max_redundants. On a GPU it is enqueued on the current stream and takes effect
        in captured graphs too; those that hold a collective of another packed_size must be captured
        again (exchange "collective"). Not within a capture.
        """
        layers = list(range(self.num_layers)) if layer is None else [self._layer(layer)]
        wanted = check_placements(placement, len(layers))
        new = list(self._placements)
        for i, p in zip(layers, wanted, strict=True):
            new[i] = p
        if self._exchange is not None:
            from lplb._exchange import facts_of

            self._exchange.agree(facts_of(new, *self._facts))
        # All ranks have the same placements now, and fail alike; before anything has changed.
        for p in wanted:
            check_next(
                p,
                self._placements[0],
                self._max_redundants,
                self.max_replicas if self._keeps_split else None,
            )
        for i in layers:
            if self._gpu:
                self._gpu[i].update_placement(self._current_stream(), new[i])
            self._host[i].update_placement(new[i])
            self._placements[i] = new[i]
        if not self._keeps_split:
            self.max_replicas = max(p.max_replicas for p in self._placements)

    def join(self) -> None:
        """Has the current stream wait for the counts of all layers that are under way beside it.

        That is with staleness and exchange "collective"; else it does nothing. Call it between eager
        batches and the capture or a replay of a CUDA graph (a batch in a capture raises RuntimeError
        where it is missing), and as the last thing in a capture.
        """
        if self._rounds:
            self._torch.join(self)

    def stats(self, layer: int | None = None, *, wait: bool = True) -> PlannerStats | None:
        """Counters of one layer, or of all. On a GPU it waits for the stream.

        `wait=False` does not: it asks for the counters behind what is in the stream, and returns the
        newest that have arrived; None while there are none.
        """
        layers = range(self.num_layers) if layer is None else [self._layer(layer)]
        found: list[dict[str, Any]] = []
        for i in layers:
            found.append(self._host[i].stats())
            if not self._gpu:
                continue
            stream = self._current_stream()
            polled = self._gpu[i].stats(stream) if wait else self._gpu[i].poll_stats(stream)
            if polled is None:
                return None
            found.append(polled)
        return add_up(found)

    def exchange_stats(self, layer: int | None = None) -> ExchangeStats:
        """How counts travel between GPUs, and what became of the rounds of a layer, or of all.

        Waits for the stream.
        """
        layers = range(self.num_layers) if layer is None else [self._layer(layer)]
        if not self._gpu or self._exchange is None:
            return ExchangeStats()
        from lplb import _peers

        return _peers.stats_of(self, layers)

    def close(self) -> None:
        """Frees what the planner has on the GPU; no batch runs there afterwards.

        Where counts travel within the kernel (exchange_stats().way) it is collective: it waits for
        the device, then for the other ranks, since these write to this rank's memory. Call it on
        every rank while the group is alive; RuntimeError where a rank does not come within 30 s.
        A planner that is dropped without it, at the interpreter's end too, waits for nobody: then the
        exchange's memory, exchange_stats().bytes, is the process's until it ends.
        """
        self._closed = True
        if self._peers is not None:
            from lplb import _peers

            _peers.close(self)
        self.join()
        self._gpu_index = -1
        self._gpu.clear()  # waits for the device: nothing uses what follows any more
        self._rounds.clear()

    def load_history(self, layer: int | None = None) -> Any:
        """The load of past batches on this rank: [num_layers, num_logical_experts], or one row.

        float64, whole numbers where there is no decay; rebalance_experts() takes it once it is summed
        over the ranks. Where batches ran on a GPU: a tensor there, copied on the current stream
        without waiting; else a NumPy array.
        """
        if not self._remembers:
            raise ValueError("keep_history: is False, expected True, a window or a decay")
        if self._gpu:
            return self._torch.load_history(self, layer)
        if layer is not None:
            return self._host[self._layer(layer)].history()
        return np.stack([host.history() for host in self._host])

    def clear_history(self) -> None:
        """Forgets it, of all layers."""
        for host in self._host:
            host.clear_history()
        for gpu in self._gpu:
            gpu.clear_history(self._current_stream())

    def _layer(self, layer: int) -> int:
        if not 0 <= layer < len(self._placements):
            raise ValueError(f"layer: is {layer}, expected 0 to {len(self._placements) - 1}")
        return layer

    def _find_torch(self) -> Any:
        self._torch = torch_if_loaded()
        return self._torch

    def _current_stream(self) -> int:
        return self._torch.raw_stream(self._gpu_index) if self._torch is not None else 0

    def _start_gpu(self, index: int) -> None:
        """Allocates on the current device, which is `index`."""
        if self._backend == "cpu":
            raise ValueError('topk_idx: is on a GPU, expected the CPU (backend="cpu")')
        if self._gpu:
            raise ValueError(
                f"topk_idx: is on GPU {index}, expected GPU {self._gpu_index}, where the planner is"
            )
        if self._closed:
            raise RuntimeError("planner: is closed")
        if self._exchange is None:
            self._gpu = [self._make_gpu(i, None) for i in range(self.num_layers)]
        else:
            from lplb import _peers

            _peers.start(self, self._exchange)
        self._gathers = self._peers is None and (self._exchange is not None or is_alone(self))
        if self._gathers:
            from lplb import _torch

            self._rounds = _torch.device_rounds(self, index)
        self._gpu_index = index

    def _make_gpu(self, layer: int, channel: _lplb.PeerChannel | None) -> _lplb.GpuPlanner:
        # It takes the rank of the map: all alike where tokens are the same.
        return _lplb.GpuPlanner(
            self._placements[layer],
            self.rank,
            *self._limits,
            self._keeps_split,
            self._checks,
            channel,
        )
