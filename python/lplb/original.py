# SPDX-License-Identifier: MIT
"""The interface of deepseek-ai/LPLB's Planner on top of this library: see docs/drop-in.md.

`lplb.Planner(redundant_to_original, ...)` makes one, so code written for the original runs
unchanged.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling

from lplb import _lplb, _torch
from lplb import _planner as new
from lplb._arrays import check_int, describe, to_numpy
from lplb._exchange import check_group
from lplb._placement import Placement
from lplb._rebalance import place_on_topology
from lplb._results import Quotas

__all__ = ["Planner"]


class _Counting(new.Planner):
    """A planner whose batches on a GPU grow a counter of the caller's."""

    def run_counted(self, idx: Tensor, counter: Tensor, step: int) -> Tensor:
        return _torch.run_counted(self._paths, idx, counter, step)


class Planner:
    """deepseek-ai/LPLB's Planner. An expert has at most one copy, on a rank that a topology names.

    Parameters
    ----------
    redundant_to_original : array of int, [group_size, num_redundants]
        Redundant d of rank g copies an expert of rank redundant_to_original[g][d]. Each column is a
        permutation of the group without fixed points.
    n_routed_experts : int
        Physical experts, replicas included.
    n_logical_routed_experts : int
        Logical experts.
    ep_size : int, optional
        The number of ranks; by default those of `group`.
    group : torch.distributed.ProcessGroup, optional
        None: counts are not exchanged. Each rank plans as if its counts were those of the group.

    Attributes
    ----------
    planner : lplb.Planner
        What does the work, with stats().
    r2o, o2r, group_size, num_redundants, n_routed_experts, n_logical_routed_experts, ep_size, \
n_group, n_local_routed_experts, n_local_logical_routed_experts, combined_redundant_experts, \
phy2log, ep_group, deep_ep_initialized
        As the original has them.

    Examples
    --------
    >>> import lplb, torch
    >>> planner = lplb.Planner(torch.tensor([[1], [0]]), 6, 4, ep_size=2)
    >>> counter = torch.zeros(1, dtype=torch.int32)
    >>> planner.run(torch.tensor([0, 0, 0, 1]), counter).tolist()
    [0, 5, 5, 1]
    >>> counter.item()
    1
    """

    def __init__(
        self,
        redundant_to_original: Any,
        n_routed_experts: int,
        n_logical_routed_experts: int,
        ep_size: int | None = None,
        group: Any = None,
    ) -> None:
        shape = ("group_size", "num_columns")
        table = to_numpy(redundant_to_original, "redundant_to_original", np.int32, shape)
        self._topology = _lplb.topology_custom(table, table.shape[0], table.shape[1], "r2o")
        if group is not None:
            check_group(group)
        elif ep_size is None:
            raise ValueError("ep_size: is None, expected a number of ranks, or a group")
        self.ep_group = group
        self.ep_size = check_int(ep_size if ep_size is not None else group.size(), "ep_size", 1)
        self.n_routed_experts = check_int(n_routed_experts, "n_routed_experts", 1)
        self.n_logical_routed_experts = check_int(
            n_logical_routed_experts, "n_logical_routed_experts", 1
        )
        self.group_size, self.num_redundants = table.shape
        self._check_sizes()
        self.n_group = self.ep_size // self.group_size
        self.n_local_routed_experts = self.n_routed_experts // self.ep_size
        self.n_local_logical_routed_experts = self.n_logical_routed_experts // self.ep_size
        self._redundants = self.n_local_routed_experts - self.n_local_logical_routed_experts
        self.combined_redundant_experts = self._redundants // self.num_redundants
        given = redundant_to_original
        self._device = given.device if isinstance(given, Tensor) else torch.device("cpu")
        if (
            self._device.type == "cpu"
            and not _lplb.cuda_info()["missing"]
            and torch.cuda.is_available()
        ):
            self._device = torch.device("cuda", torch.cuda.current_device())
        self.r2o = torch.from_numpy(table).to(self._device)
        self.o2r = self.r2o.argsort(dim=0).int().contiguous()
        self.deep_ep_initialized = False
        self.phy2log: Tensor
        self._shares: tuple[int, _lplb.KeptShares] | None = None
        placement = self._place(None)
        self.planner = self._make(placement, group)
        self._solver = self._make_solver(placement)
        self._set_tables(placement)

    def init_from_deep_ep(self, buffer: Any) -> None:
        """Exchanges counts over the group and the communicator of a DeepEP buffer. Collective.

        They are `group` and `nccl_comm_handle.get()`: see `comm` of :class:`lplb.Planner`. A second
        call does nothing. From a buffer without a group only the communicator is taken, and used
        with the planner's own group. If the buffer has neither, a warning says what is missing and
        the planner stays as it is; ValueError if there is no group at all.
        """
        if self.deep_ep_initialized:
            return
        group = getattr(buffer, "group", None)
        if not isinstance(group, torch.distributed.ProcessGroup):
            group = None
            missing = (
                f"buffer: a {type(buffer).__name__} has no attribute `group` that is a "
                "torch.distributed.ProcessGroup"
            )
            if self.ep_group is None:
                raise ValueError(f"{missing}, and the planner has no group of its own")
            if not callable(getattr(getattr(buffer, "nccl_comm_handle", None), "get", None)):
                warnings.warn(
                    f"{missing}, nor an `nccl_comm_handle.get()`; counts go over the "
                    "planner's own group",
                    stacklevel=2,
                )
                return
        elif group.size() != self.ep_size:
            raise ValueError(
                f"buffer: its group has {group.size()} ranks, expected ep_size ({self.ep_size})"
            )
        before = self.planner
        self.planner = self._make(
            before.placement(), self.ep_group if group is None else group, buffer
        )
        self.ep_group = self.planner.group
        self.deep_ep_initialized = True
        before.close()

    def update_redundancy_mapping(self, workload: Any = None) -> tuple[Tensor, Tensor, Tensor]:
        """Places experts by their past load `workload` [n_logical]; None: in order.

        It moves no weights. With a group it is collective, and all ranks give the same workload.

        Returns
        -------
        phy2log : [n_physical] int32
        log2phy : [n_logical, 2] int32, the original first, -1 where there is no replica
        logcnt : [n_logical] int32
        """
        placement = self._place(workload)
        self.planner.update_placement(placement)
        self._solver.update_placement(placement)
        self._set_tables(placement)
        return self.phy2log, self._log2phy.clone(), self._logcnt.clone()

    def count_workload(self, idx: Tensor, n_sms: int) -> tuple[Tensor, Tensor]:
        """Counts the tokens of each expert: [n_logical] int32; -1 and bad ids are not counted.

        The second result is their inclusive prefix sums over `n_sms` parts of idx:
        [n_sms, n_logical] int32.
        """
        flat = self._check_idx(idx).reshape(-1)
        check_int(n_sms, "n_sms", 1)
        slices = torch.arange(flat.numel(), device=flat.device) // max(-(-flat.numel() // n_sms), 1)
        known = (flat >= 0) & (flat < self.n_logical_routed_experts)
        place = slices * self.n_logical_routed_experts + torch.where(known, flat.long(), 0)
        counts = torch.zeros(
            n_sms * self.n_logical_routed_experts, dtype=torch.int32, device=flat.device
        )
        counts.scatter_add_(0, place, known.int())
        by_sm = counts.view(n_sms, -1).cumsum(0, dtype=torch.int32)
        return by_sm[-1].clone(), by_sm

    def solve_probs(self, workload: Tensor, avail_counter: Tensor) -> tuple[Tensor, Tensor]:
        """Solves for the share of its tokens that each original keeps.

        `workload` [n_logical] is first summed over the ranks if there is a group. `avail_counter`,
        one int32 or int64, grows by n_group. Returns the shares [n_group, group_size,
        num_redundants] float32, over all experts that are combined in a slot; and the workload
        [n_group, group_size, n_local_logical] float32, divided by its largest entry.
        """
        self._check_counter(avail_counter)
        if workload.numel() != self.n_logical_routed_experts:
            raise ValueError(
                f"workload: is {describe(workload)}, expected n_logical_routed_experts "
                f"({self.n_logical_routed_experts}) integers"
            )
        load = workload.reshape(-1).to(torch.int32)
        if self.ep_group is not None:
            load = load.clone()
            torch.distributed.all_reduce(load, group=self.ep_group)
        if load.is_cuda and avail_counter.get_device() == load.get_device() and not is_compiling():
            return self._shares_on_gpu(load, avail_counter)
        quotas = self._solve(load)
        avail_counter.add_(
            quotas.solved.to(avail_counter.dtype).view(avail_counter.shape) * self.n_group
        )
        experts = self._combined.to(load.device)
        end = quotas.quota_end[:, :2].long()
        kept = torch.where(
            self._original_is_first.to(load.device), end[:, 0], end[:, 1] - end[:, 0]
        )
        total = end[:, 1][experts].sum(2)
        share = torch.where(total > 0, kept[experts].sum(2) / total.clamp_min(1), 1.0).float()
        shape = (self.n_group, self.group_size, self.n_local_logical_routed_experts)
        return share, (load.float() / load.max().clamp_min(1)).view(shape)

    def weighted_select_target(
        self, idx: Tensor, o_weight: Tensor, local_workload_by_sm: Tensor, n_sms: int
    ) -> Tensor:
        """The physical expert of each entry, as idx in shape and dtype; -1 stays -1.

        The original gets the part `o_weight` (clamped to 0..1) of its expert's entries on this
        rank, to within one entry. `local_workload_by_sm` and `n_sms` are ignored.
        """
        flat = self._check_idx(idx).reshape(-1)
        shape = (self.n_group, self.group_size, self.num_redundants)
        if tuple(o_weight.shape) != shape:
            raise ValueError(f"o_weight: has shape {list(o_weight.shape)}, expected {list(shape)}")
        known = (flat >= 0) & (flat < self.n_logical_routed_experts)
        expert = torch.where(known, flat, self.n_logical_routed_experts).long()
        order = torch.argsort(expert, stable=True)
        counts = torch.zeros(
            self.n_logical_routed_experts + 1, dtype=torch.long, device=flat.device
        ).scatter_add_(0, expert, torch.ones_like(expert))
        begin = counts.cumsum(0) - counts
        number = torch.empty_like(expert)
        number[order] = torch.arange(flat.numel(), device=flat.device) - begin[expert[order]]
        expert = torch.where(known, flat, 0).long()
        variable = self._variable.to(flat.device)[expert]
        weight = (
            o_weight.reshape(-1).to(flat.device, torch.float64).clamp(0, 1)[variable.clamp_min(0)]
        )
        # NOTE: the phase differs by rank and expert, or all small counts would round the same way.
        phase = (expert * 0.5698402909980532 + self.planner.rank * 0.7548776662466927) % 1
        stays = ((number + 1) * weight + phase).floor() > (number * weight + phase).floor()
        log2phy = self._log2phy.to(flat.device)[expert]
        target = torch.where(stays | (variable < 0), log2phy[:, 0], log2phy[:, 1])
        return torch.where(known, target, -1).to(idx.dtype).view(idx.shape)

    def run(self, idx: Tensor, avail_counter: Tensor, n_sms: int | None = None) -> Tensor:
        """Exchanges, solves and maps: the physical expert of each entry of `idx`.

        Each expert has a split of its own, in whole tokens. Over the group the largest rank load is
        the least possible. `avail_counter` grows by n_group, or by 0 for a degraded batch.
        """
        self._check_counter(avail_counter)
        if idx.is_cuda and avail_counter.get_device() == idx.get_device() and not is_compiling():
            return self.planner.run_counted(self._check_idx(idx), avail_counter, self.n_group)
        ids, quotas = self.planner.run_quotas(self._check_idx(idx))
        avail_counter.add_(
            quotas.solved.to(avail_counter.dtype).view(avail_counter.shape) * self.n_group
        )
        result: Tensor = ids
        return result

    def _check_sizes(self) -> None:
        for name, value, divisor in (
            ("ep_size", self.ep_size, self.group_size),
            ("n_routed_experts", self.n_routed_experts, self.ep_size),
            ("n_logical_routed_experts", self.n_logical_routed_experts, self.ep_size),
        ):
            if value % divisor != 0:
                raise ValueError(f"{name}: is {value}, expected a multiple of {divisor}")
        redundants = (self.n_routed_experts - self.n_logical_routed_experts) // self.ep_size
        if redundants < 0 or redundants % self.num_redundants != 0:
            raise ValueError(
                f"n_routed_experts: leaves {redundants} redundants a rank, expected a "
                f"multiple of num_redundants ({self.num_redundants})"
            )

    def _check_idx(self, idx: Tensor) -> Tensor:
        if not isinstance(idx, Tensor) or idx.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"idx: is {describe(idx)}, expected torch.int64 or torch.int32")
        return idx.contiguous()

    def _check_counter(self, counter: Tensor) -> None:
        if (
            not isinstance(counter, Tensor)
            or counter.dtype not in (torch.int32, torch.int64)
            or counter.numel() != 1
        ):
            raise TypeError(
                f"avail_counter: is {describe(counter)}, expected one torch.int32 or torch.int64"
            )

    def _make(self, placement: Placement, group: Any, buffer: Any = None) -> _Counting:
        return _Counting(
            placement,
            group=group,
            comm=buffer,
            same_tokens=group is None,
            num_topk=1,
            max_tokens=2**31 - 1,
            quotas=True,
        )

    def _make_solver(self, placement: Placement) -> new.Planner:
        """A planner to split a known load: it takes the load as the counts of another rank."""
        return new.Planner(placement, rank=0, num_topk=1, max_tokens=1, quotas=True)

    def _solve(self, load: Tensor) -> Quotas:
        placement = self._solver.placement()
        counts = torch.zeros(
            (self.ep_size, placement.packed_size),
            device=load.device,
            dtype=torch.int32 if load.is_cuda else torch.int64,
        )
        counts[-1].scatter_add_(0, self._columns.to(load.device), load.to(counts.dtype))
        nothing = torch.empty((0, 1), dtype=torch.int32, device=load.device)
        return self._solver.run_quotas(nothing, all_counts=counts)[1]

    def _shares_on_gpu(self, load: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
        """The result of solve_probs(), in two launches."""
        index = load.get_device()
        with torch.cuda.device(index):
            if self._shares is None or self._shares[0] != index:
                if torch.cuda.is_current_stream_capturing():
                    raise RuntimeError(
                        "workload: is the first since a change of placement, within a capture; "
                        "expected one before it"
                    )
                self._shares = index, self._make_shares()
            share = load.new_empty(
                (self.n_group, self.group_size, self.num_redundants), dtype=torch.float32
            )
            scaled = load.new_empty(
                (self.n_group, self.group_size, self.n_local_logical_routed_experts),
                dtype=torch.float32,
            )
            self._shares[1].run(
                _torch.raw_stream(index),
                load.data_ptr(),
                share.data_ptr(),
                scaled.data_ptr(),
                counter.data_ptr(),
                counter.element_size(),
                self.n_group,
            )
        return share, scaled

    def _make_shares(self) -> _lplb.KeptShares:
        """What solves for shares on the current GPU."""
        by_share = self._combined.permute(0, 1, 3, 2).reshape(-1).int().cpu().numpy()
        original = self._log2phy[:, 0].contiguous().cpu().numpy()
        num_shares = self.ep_size * self.num_redundants
        return _lplb.KeptShares(self._solver.placement(), num_shares, original, by_share)

    def _place(self, workload: Any) -> Placement:
        if workload is None:
            load = np.ones(self.n_logical_routed_experts)
            columns = self.n_local_logical_routed_experts
            own = np.arange(self.n_logical_routed_experts).reshape(self.ep_size, columns)
        else:
            load = to_numpy(workload, "workload", np.float64).reshape(-1)
            if load.size != self.n_logical_routed_experts:
                raise ValueError(
                    f"workload: has {load.size} entries, expected "
                    f"n_logical_routed_experts ({self.n_logical_routed_experts})"
                )
            placed = place_on_topology(load[None], self._topology, self._redundants, self.ep_size)[
                0
            ]
            own = placed[0].reshape(self.ep_size, -1)[:, : self.n_local_logical_routed_experts]
        # Redundant j * D + d of rank g: the expert in that slot of rank r2o[g][d].
        base = np.arange(self.ep_size) // self.group_size * self.group_size
        r2o = self._topology.r2o[np.arange(self.ep_size) % self.group_size] + base[:, None]
        slots = np.arange(self._redundants)
        copies = own[r2o[:, slots % self.num_redundants], slots[None]]
        return Placement(
            np.concatenate([own, copies], axis=1).reshape(-1),
            self.ep_size,
            self.n_logical_routed_experts,
        )

    def _set_tables(self, placement: Placement) -> None:
        self._shares = None  # the first solve_probs() makes new ones
        device, slots = self._device, self.n_local_routed_experts
        own = self.n_local_logical_routed_experts
        phy2log = placement.physical_to_logical.copy()
        physical = np.arange(phy2log.size)
        is_original = physical % slots < own
        log2phy = np.full((self.n_logical_routed_experts, 2), -1, dtype=np.int32)
        log2phy[phy2log[is_original], 0] = physical[is_original]
        log2phy[phy2log[~is_original], 1] = physical[~is_original]
        rows = phy2log.reshape(self.ep_size, slots)[:, : self._redundants]
        combined = rows.reshape(
            self.n_group, self.group_size, self.combined_redundant_experts, self.num_redundants
        ).astype(np.int64)
        variable = np.full(self.n_logical_routed_experts, -1, dtype=np.int64)
        names = np.arange(self.ep_size * self.num_redundants).reshape(
            self.n_group, self.group_size, 1, self.num_redundants
        )
        variable[combined.reshape(-1)] = np.broadcast_to(names, combined.shape).reshape(-1)
        home = np.where(placement.replica_count > 1, -1, log2phy[:, 0] // slots)
        replicated = np.cumsum(home < 0) - 1
        num_replicated = int((home < 0).sum())
        columns = np.where(home < 0, replicated, num_replicated + home)
        self.phy2log = torch.from_numpy(phy2log).to(device)
        self._log2phy = torch.from_numpy(log2phy).to(device)
        self._logcnt = torch.from_numpy(placement.replica_count.copy()).to(device)
        self._combined = torch.from_numpy(combined).to(device)
        self._variable = torch.from_numpy(variable).to(device)
        self._columns = torch.from_numpy(columns.astype(np.int64)).to(device)
        self._original_is_first = torch.from_numpy(
            (log2phy[:, 1] < 0) | (log2phy[:, 0] < log2phy[:, 1])
        ).to(device)
