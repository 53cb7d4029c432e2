# SPDX-License-Identifier: MIT
"""The fast loop of one rank."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

from lplb import _lplb
from lplb._arrays import check_int, check_number
from lplb._base import PlannerBase
from lplb._cost import CostModel
from lplb._dynamic import Copies, dynamic_slots_of
from lplb._group import Group
from lplb._names import AnySolverName, BackendName, Ids, TransportName
from lplb._paths import Paths
from lplb._placement import Placement
from lplb._results import Quotas
from lplb._settings import (
    Settings,
    as_layers,
    check_next,
    check_placements,
    is_original_call,
    most_replicas,
    room_for_redundants,
)


class Planner(PlannerBase):
    """Sends each batch's tokens to replicas so that the fullest rank has least.

    A batch is counted, the ranks exchange their counts, the split is solved, and the tokens are
    mapped: on the CPU, or in one kernel on a GPU. Both give the same ids, bit for bit. The split is
    proven optimal, and over the group each replica takes exactly its quota. As many tokens as
    possible stay on their rank, then on their node.

    Called as deepseek-ai/LPLB's class was (`Planner(redundant_to_original, n_routed_experts,
    n_logical_routed_experts, ...)`), it makes an :class:`lplb.original.Planner`.

    | group of parameters | parameters, in the order of the list below |
    |---|---|
    | Placement | placement, num_layers, num_topk, max_tokens, max_redundants |
    | Split | solver, max_steps, cost |
    | Copies | dynamic_slots, copy_target, copy_min_tokens, copy_domains |
    | Group and exchange | rank, group, same_tokens, transport, comm, timeout, staleness |
    | History | keep_history, window, decay |
    | GPU | backend, quotas, checks |

    Parameters
    ----------
    placement : Placement or sequence of Placement
        One for all layers, or one for each. All have the same ranks and logical experts.
    num_layers : int, optional
        With a single placement: the number of layers that start with it, 1 unless given.
    num_topk : int
        Entries of a token: see max_tokens. A batch may have another num_topk.
    max_tokens : int
        The largest batch has max_tokens x num_topk entries.
    max_redundants : int
        The most redundant slots (num_physical - num_logical) that a later placement may have. 0: as
        many as the first placements have. Memory is allocated for them once, so that captured CUDA
        graphs survive a new placement.
    solver : str
        "auto", "cut" (up to 8 ranks), "flow", or "ipm" (CPU only): see :func:`lplb.solve`. With a
        cost "auto", which is "fast-time", or "time" (CPU only).
    max_steps : int
        The most steps of "flow"; -1: no limit.
    cost : CostModel, optional
        What tokens cost, the same on all ranks: each batch is split so that the largest cost of a
        rank is small, in place of its largest load. So one planner serves prefill and decode
        (docs/time.md). Packed rows then have num_logical_experts integers; on a GPU no staleness.
    dynamic_slots : int
        S, 0 to 8: from 1 on, each batch has copies of experts in S dynamic slots a rank, as
        :func:`replicate` chooses them (docs/replicas.md). Physical ids are then
        rank * (M + S) + slot, with M main slots; copies() says what the dynamic slots hold. Packed
        rows have num_logical_experts integers. Without cost and staleness; on a GPU of compute
        capability 9.0 or newer, without checks.
    copy_target : float
        Copies are made until no rank has more than this multiple of the mean load: 1 to 1000.
    copy_min_tokens : int
        What a copy carries at least.
    copy_domains : int
        Copies stay among num_ranks / copy_domains consecutive ranks.
    rank : int, optional
        The rank in the placement whose tokens run() gets. With `group` it follows from this
        process's rank in the group.
    group : torch.distributed.ProcessGroup, optional
        The ranks that exchange `placement.packed_size` integers a batch: on a GPU as `transport`
        says, on the CPU by an all-gather over gloo. Then construction, update_placement() and the
        first batch on a GPU are collective: they check that all ranks agree. The group has a member
        for each rank of the placement, or for each live rank: member i is then the i-th live rank,
        and dead ranks never call (docs/exchange.md).
    same_tokens : bool
        Every rank has the same tokens, as with tensor-parallel attention. Nothing is exchanged, and
        all ranks choose alike. `group` is neither needed nor used.
    transport : str
        How counts travel between GPUs, the same on all ranks (docs/exchange.md).

        - "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory" (PyTorch's): within the plan's
          kernel, through memory that the ranks map in this way. If a rank cannot, all ranks raise
          RuntimeError at the first batch.
        - "collective": all_gather_into_tensor between two kernels.
        - "auto": the first of ipc, fabric and nccl (and nvshmem, if `comm` has started it) that
          every rank can use, otherwise "collective".
    comm : int, or a DeepEP buffer, optional
        An ncclComm_t of the group for "nccl", in addition to `group`. From a `Buffer`,
        `ElasticBuffer` or `EPBuffer` the group and the communicator are taken; its memory is not
        used. It must live as long as the planner, or until close().
    timeout : float
        Seconds to wait for the other ranks. On the CPU a batch then raises RuntimeError; if counts
        travel within the kernel, it is degraded, and microseconds are fine
        (docs/exchange.md has all time-outs).
    staleness : int
        1: a batch is split by the counts of the previous batch, while its own counts travel. It is
        for slow links, and costs half of the gain or more (docs/staleness.md).
    keep_history : bool
        Keep the load of past batches, for load_history(): the sum of all of them.
    window : int
        Keep a history of this length: the sum of the last `window` batches. 0: no limit.
    decay : float
        Keep a history with exponential decay: each new batch multiplies the old sum by `decay`.
        1: no decay. It excludes `window`.
    backend : str
        "auto": each batch runs where its tokens are; the first one on a GPU allocates. "cuda": only
        on the GPU that is current at construction, which allocates. "cpu": only on the CPU.
    quotas : bool
        Be ready for run_quotas() on a GPU.
    checks : bool
        Check each batch on a GPU from first principles: stats().check_failures. Slow.

    Notes
    -----
    Threads: any thread may call; calls of one layer run one after another, without the GIL. Every
    rank must run the same batches of the same layers in the same order.

    Streams: on a GPU run() enqueues on PyTorch's current stream (or on `stream`), does not wait,
    and allocates nothing but the result. A CUDA graph can capture it. Batches and updates of one
    layer must follow each other on the device.

    Copies: copy.copy(), copy.deepcopy() and pickle make a new planner with the same settings and
    the placements of now; counters and history begin again. A copy uses the same process group, and
    making it is collective, as construction is. A planner with a group cannot be pickled. It has no
    part in a module's state_dict(). `with planner:` calls close() at the end.

    torch.compile: run() is the operator torch.ops.lplb.plan; of two calls on the same tensor the
    compiler may keep one. With staleness (plan_stale) it keeps all calls, in order, and activation
    checkpointing must not run one again, since the ids would differ.

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

    def __init__(
        self,
        placement: Placement | Sequence[Placement],
        *,
        num_layers: int | None = None,
        num_topk: int = 8,
        max_tokens: int = 32768,
        max_redundants: int = 0,
        solver: AnySolverName = "auto",
        max_steps: int = -1,
        cost: CostModel | None = None,
        dynamic_slots: int = 0,
        copy_target: float = 1.0,
        copy_min_tokens: int = 1,
        copy_domains: int = 1,
        rank: int | None = None,
        group: Any = None,
        same_tokens: bool = False,
        transport: TransportName = "auto",
        comm: Any = None,
        timeout: float = 10.0,
        staleness: int = 0,
        keep_history: bool = False,
        window: int = 0,
        decay: float = 1.0,
        backend: BackendName = "auto",
        quotas: bool = False,
        checks: bool = False,
    ) -> None:
        placements = as_layers(placement, num_layers)
        first = placements[0]
        dynamic = dynamic_slots_of(dynamic_slots, copy_target, copy_min_tokens, copy_domains)
        self._group = Group(
            group,
            comm,
            timeout,
            same_tokens,
            solver,
            max_steps,
            transport,
            staleness,
            cost,
            dynamic,
        )
        self._group.agree(placements)
        members = self._group.members(placements)
        self.rank = self._group.own_rank(rank, members, same_tokens)
        self.num_ranks = first.num_ranks
        self.num_logical_experts = first.num_logical_experts
        self._settings = Settings(
            num_ranks=first.num_ranks,
            num_logical_experts=first.num_logical_experts,
            num_layers=len(placements),
            max_replicas=most_replicas(placements, dynamic),
            max_redundants=room_for_redundants(max_redundants, placements),
            num_topk=num_topk,
            max_tokens=max_tokens,
            solver=solver,
            max_steps=check_int(max_steps, "max_steps"),
            rank=self.rank,
            members=members,
            has_group=self._group.exchange is not None,
            same_tokens=same_tokens,
            transport=transport,
            staleness=self._group.staleness,
            keeps_history=keep_history or window != 0 or decay != 1.0,
            window=check_int(window, "window"),
            decay=check_number(decay, "decay"),
            backend=backend,
            keeps_split=quotas,
            checks=checks,
            cost=cost,
            dynamic=dynamic,
        )
        self._paths = Paths(self._settings, placements, self._group)
        self._host, self._gpu = self._paths.host, self._paths.gpu
        self._torch: Any = None
        self._find_torch()
        if backend == "cuda":
            if missing := _lplb.cuda_info()["missing"]:
                raise RuntimeError(f"backend: cuda cannot be used: {missing}")
            self._gpu.start(self._torch.current_device() if self._torch is not None else 0)

    def __new__(cls, *args: Any, **kwargs: Any) -> Planner:
        if cls is Planner and is_original_call(args, kwargs):
            from lplb import original

            return cast("Planner", original.Planner(*args, **kwargs))
        self = super().__new__(cls)
        self._arguments = kwargs
        return self

    # NOTE: without it inspect.signature() and help() would show those of __new__.
    cast("Any", __new__).__signature__ = inspect.signature(__init__)

    @property
    def group(self) -> Any:
        """The process group; None if there is none."""
        return self._group.comm.group

    @property
    def num_layers(self) -> int:
        """The number of layers, each with a placement and a state of its own."""
        return self._settings.num_layers

    @property
    def max_replicas(self) -> int:
        """Columns of run_quotas()'s tables: the most replicas of an expert in any placement.

        With dynamic slots num_ranks - 1 more. With quotas=True it stays what it was at first.
        """
        return self._host.max_replicas

    def placement(self, layer: int = 0) -> Placement:
        """The placement of the next batch."""
        return self._paths.placements[self._layer(layer)]

    def run(
        self,
        topk_idx: Ids,
        out: Ids | None = None,
        num_valid_tokens: Any = None,
        *,
        layer: int = 0,
        stream: int | None = None,
        all_counts: Any = None,
    ) -> Ids:
        """Plans one batch. Every rank calls it once a batch, also with no tokens.

        Parameters
        ----------
        topk_idx : array of int32, int64 or uint32, [num_tokens, num_topk]
            Logical ids: a PyTorch, NumPy or CuPy array. -1 is dropped and stays -1; ids out of
            range are counted in stats() and become -1. An array of one dimension has num_topk = 1;
            if there are more than two, the last is num_topk. A view that is not contiguous is
            copied first, on a GPU by one more kernel, which a CUDA graph captures too.
        out : array like topk_idx, optional
            Takes the result; may be topk_idx itself, or a view, which costs one more copy.
        num_valid_tokens : int, or int32 array of one element, optional
            Tokens from here on are padding: not counted, and mapped to -1. An int must be 0 to
            num_tokens; an array is clamped to that. On a GPU the kernel reads it, without waiting.
        layer : int
            The layer that the batch belongs to.
        stream : int, optional
            A cudaStream_t, for arrays that are not PyTorch's. Default: CuPy's current one, else 0.
        all_counts : array of int (int32 on a GPU), [num_ranks, packed_size], optional
            What each rank counted (count()), for a planner without a group. This rank's row is
            ignored. With staleness: the counts of the previous batch, this rank's too; None: there
            are none.

        Returns
        -------
        array
            Physical ids, as topk_idx in kind, shape, dtype and device.

        Raises
        ------
        TypeError, ValueError
            An argument is wrong. Nothing was launched or exchanged.
        RuntimeError
            The other ranks did not come within `timeout`, or CUDA failed.
        """
        torch = self._torch if self._torch is not None else self._find_torch()
        if torch is not None and isinstance(topk_idx, torch.Tensor):
            ids: Ids = torch.run(self._paths, topk_idx, out, num_valid_tokens, layer, all_counts)
            return ids
        from lplb import _generic

        ids = _generic.run(self._paths, topk_idx, out, num_valid_tokens, layer, stream, all_counts)
        return ids

    def run_quotas(
        self,
        topk_idx: Any,
        out: Any = None,
        num_valid_tokens: Any = None,
        *,
        layer: int = 0,
        all_counts: Any = None,
    ) -> tuple[Any, Quotas]:
        """Does what run() does, and returns the batch's split too: `(physical ids, Quotas)`.

        The tables are on the tokens' device. PyTorch and NumPy; on a GPU with Planner(quotas=True).
        """
        found: tuple[Any, Quotas] = self._adapter(topk_idx).run_quotas(
            self._paths, topk_idx, out, num_valid_tokens, layer, all_counts
        )
        return found

    def run_dense(
        self, probs: Any, routing_map: Any, *, layer: int = 0, all_counts: Any = None
    ) -> tuple[Any, Any]:
        """Plans a batch that is given densely, as Megatron-style dispatchers have it. PyTorch only.

        Parameters
        ----------
        probs : float tensor, [T, E]
            The weight of each token and logical expert. Gradients flow through it.
        routing_map : bool tensor, [T, E]
            Which experts each token goes to.

        Returns
        -------
        probs : float tensor, [T, P]
            The probability of (token, expert) at the physical expert that takes it, else 0.
        routing_map : bool tensor, [T, P]
            Which physical experts each token goes to.

        Notes
        -----
        The batch has T x E entries, which max_tokens x num_topk must allow.
        """
        from lplb import _dense

        def run_in_place(topk_idx: Any) -> Any:
            return self.run(topk_idx, topk_idx, layer=layer, all_counts=all_counts)

        num_physical = self._settings.num_physical(self.placement(layer))
        return _dense.run_dense(
            run_in_place, self.num_logical_experts, num_physical, probs, routing_map
        )

    def count(self, topk_idx: Any, num_valid_tokens: Any = None, *, layer: int = 0) -> Any:
        """This rank's row of `all_counts`, for an exchange of the caller's own: [packed_size].

        int32 on a GPU (PyTorch, on the current stream), int64 on the CPU.
        """
        return self._adapter(topk_idx).count(self._paths, topk_idx, num_valid_tokens, layer)

    def copies(self, layer: int = 0) -> Copies:
        """What dynamic slots hold for the layer's last batch, and what must travel to them."""
        if not self._settings.dynamic.slots:
            raise ValueError("dynamic_slots: is 0, expected at least 1")
        return self._paths.copies(self._layer(layer))

    def slot_experts(self, layer: int = 0) -> Any:
        """copies(layer).slot_expert: [num_ranks, S] int32, -1 for unused slots."""
        return self.copies(layer).slot_expert

    def update_placement(
        self, placement: Placement | Sequence[Placement], *, layer: int | None = None
    ) -> None:
        """Plans with another placement from the next batch on, which is the same on every rank.

        Takes one placement for `layer`, or (layer None) one for each layer. It must have the same
        ranks and logical experts, and no more than max_redundants redundant slots. If the group has
        only the live ranks, these must be the same: after another rank is lost, make a new planner
        over a new group.

        On a GPU the update is enqueued on the current stream, not within a capture, and takes
        effect in captured graphs too. Only a graph that holds a collective (transport "collective")
        must be captured again if packed_size changes.
        """
        layers = list(range(self.num_layers)) if layer is None else [self._layer(layer)]
        wanted = check_placements(placement, len(layers))
        new = dict(zip(layers, wanted, strict=True))
        self._group.agree([new.get(i, p) for i, p in enumerate(self._paths.placements)])
        # All ranks have the same placements now: if one raises here, all do, with nothing changed.
        for p in wanted:
            check_next(p, self._settings)
        self._paths.update_placements(self._stream(), new)

    def join(self) -> None:
        """Has the current stream wait for the counts of all layers that are under way.

        Such counts exist only with staleness and transport "collective"; otherwise it does nothing.
        Call it between eager batches and the capture or a replay of a CUDA graph (without it a
        batch in a capture raises RuntimeError), and as the last thing in a capture.
        """
        self._gpu.join()

    def close(self) -> None:
        """Frees what the planner has on the GPU; no batch runs there afterwards.

        If counts travel within the kernel (exchange_stats().transport) it is collective: it waits
        for the device, then for the other ranks, since these write to this rank's memory. Call it
        on every rank while the group is alive.

        A planner that is dropped without it, at the end of the process too, waits for nobody. Then
        the exchange's memory, exchange_stats().bytes, stays allocated until the process ends.
        """
        self._gpu.close()
