# SPDX-License-Identifier: MIT
"""The exchange within the plan's kernel: how the ranks come to see each other's memory.

Every step is followed by word of how it went on each rank, so that all go on in the same way and
none waits for another one that has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lplb import _lplb
from lplb._comm import Comm
from lplb._exchange import Exchange
from lplb._results import ExchangeStats

if TYPE_CHECKING:
    from lplb._planner import Planner

T = TypeVar("T")

ALIGNMENT = 256
_PREFIX = "the ranks cannot see each other's memory: "

# PyTorch's symmetric memory that peers may still write to: until close(), else to the process's end.
_kept: list[Any] = []


class Peers:
    """This rank's buffer, mapped by the others, and theirs; one channel a layer."""

    def __init__(self, group: _lplb.PeerGroup, way: str, memory: Any = None) -> None:
        self._group = group
        self._memory = memory
        self.way = way
        self.bytes: int = group.bytes
        if memory is not None:
            _kept.append(memory)

    def channel(self, layer: int) -> _lplb.PeerChannel:
        return self._group.channel(layer)

    def disconnect(self) -> None:
        """Gives up the peers' memory. No rank's rounds may be under way."""
        self._group.disconnect()

    def close(self) -> None:
        """Frees this rank's, which no peer may use any more; for nvshmem every rank calls it."""
        self._group.close()
        _kept[:] = [memory for memory in _kept if memory is not self._memory]
        self._memory = None


def connect(
    exchange: Exchange, way: str, comm: Comm, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    """Collective, on each rank's current device. None: counts go by the collective, and why.

    `way` is one of EXCHANGES and the same on every rank. Raises RuntimeError on all ranks where a
    transport that is named cannot be used: which rank lacks what; ValueError where sizes differ.
    """
    if way == "collective":
        return None, ""
    ways = [way]
    if way == "auto":
        # NVSHMEM is not started without being asked for: its world is one a process, for good.
        ways = ["ipc", "fabric", "nccl", *(["nvshmem"] if comm.has_nvshmem else [])]
    sizes = f"{num_layers} layers of {max_counts} counts by {', '.join(ways)}"
    told = exchange.tell([sizes, _lplb.cuda_info()["missing"]])
    for rank, (theirs, _) in enumerate(told):
        if theirs != told[0][0]:
            raise ValueError(
                f"exchange: rank {rank} exchanges {theirs}, rank 0 {told[0][0]}: "
                "max_redundants or comm differ"
            )
    reasons = [_first_trouble([lack for _, lack in told])]
    if not reasons[0]:
        reasons = []
        for one in ways:
            by = _by_symmetric_memory if one == "symmetric_memory" else _by_library
            peers, trouble = by(exchange, one, comm.nccl_comm, num_layers, max_counts)
            if peers is not None:
                return peers, ""
            reasons.append(trouble.replace(_PREFIX, ""))
    reason = "; ".join(reasons)
    if way != "auto":
        raise RuntimeError(f'exchange: "{way}" cannot be used: {reason}')
    return None, reason


def start(planner: Planner, exchange: Exchange) -> None:
    """Collective: sets `_peers` and `_gpu`. Where something fails on one rank, all raise."""
    num_layers = planner.num_layers
    most = min(planner.num_logical_experts, planner._max_redundants) + planner.num_ranks
    peers, reason = connect(exchange, planner._way, planner._comm, num_layers, most)
    error: Exception | None = None
    made: list[_lplb.GpuPlanner] = []
    try:
        for layer in range(num_layers):
            made.append(
                planner._make_gpu(layer, peers.channel(layer) if peers is not None else None)
            )
    except Exception as caught:
        error = caught
    trouble = _first_trouble([text for (text,) in exchange.tell([_text_of(error)])])
    if not trouble:
        planner._peers, planner._reason, planner._gpu = peers, reason, made
        return
    made.clear()
    if peers is not None:
        peers.disconnect()
        exchange.barrier()
        peers.close()
    if error is not None:
        raise error
    raise RuntimeError(f"group: the planner cannot start: {trouble}")


def stats_of(planner: Planner, layers: Sequence[int]) -> ExchangeStats:
    """Of a planner with a group that has started on a GPU."""
    if planner._peers is None:
        taken = sum(rounds.bytes for rounds in planner._rounds)
        return ExchangeStats("collective", taken, planner._reason)
    stream = planner._current_stream()
    found = [planner._gpu[i].exchange_stats(stream) for i in layers]
    total = {
        name: sum(one[name] for one in found)
        for name in ("rounds", "complete", "timed_out", "behind", "mismatched")
    }
    missing = [one["last_missing"] for one in found if one["last_missing"] >= 0]
    return ExchangeStats(
        planner._peers.way,
        planner._peers.bytes,
        **total,
        last_missing=missing[-1] if missing else -1,
    )


def close(planner: Planner) -> None:
    """Collective: ends a planner's exchange, with nothing freed that a peer still uses."""
    peers, exchange = planner._peers, planner._exchange
    assert peers is not None and exchange is not None
    with torch.cuda.device(planner._gpu_index):
        torch.cuda.synchronize()
        exchange.barrier()  # no rank's rounds are under way
        peers.disconnect()
        exchange.barrier()  # no rank maps another one's memory
        planner._gpu.clear()
        planner._peers = None
        peers.close()


def _text_of(error: Exception | None) -> str:
    return "" if error is None else str(error) or type(error).__name__


def _first_trouble(texts: list[str]) -> str:
    """Of what each rank says, "" for well. What all say alike is told once."""
    if len(set(texts)) == 1:
        return texts[0]
    return next(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text)


def _together(exchange: Exchange, step: Callable[[], T]) -> tuple[T | None, str]:
    """What `step` gives where it goes well on every rank; else None, and what went wrong."""
    result, error = None, None
    try:
        result = step()
    except Exception as caught:
        error = caught
    reason = _first_trouble([text for (text,) in exchange.tell([_text_of(error)])])
    return (result if not reason else None), reason


def _by_library(
    exchange: Exchange, way: str, nccl_comm: int, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    if way == "nccl" and nccl_comm == 0:
        nccl_comm = exchange.nccl_comm()
    return _together(
        exchange,
        lambda: Peers(
            _lplb.PeerGroup.connect(
                exchange.rank,
                exchange.size,
                exchange.all_gather_bytes,
                max_counts,
                num_layers,
                exchange.timeout,
                way,
                nccl_comm,
            ),
            way,
        ),
    )


def _by_symmetric_memory(
    exchange: Exchange, way: str, _nccl_comm: int, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    size = _lplb.peer_buffer_bytes(exchange.size, max_counts, num_layers)
    memory, reason = _together(exchange, lambda: _allocate(size))
    if memory is None:
        return None, reason
    # PyTorch's own rendezvous waits for all ranks; each of them comes here.
    pointers, reason = _together(exchange, lambda: _rendezvous(exchange, memory))
    if pointers is None:
        return None, reason
    # A tensor may begin anywhere in what its rank has shared.
    mine = memory.data_ptr() - pointers[exchange.rank]
    offsets = [int(text) for (text,) in exchange.tell([str(mine)])]
    return _together(
        exchange,
        lambda: Peers(
            _lplb.PeerGroup.from_pointers(
                exchange.rank,
                [p + o for p, o in zip(pointers, offsets, strict=True)],
                max_counts,
                num_layers,
                exchange.timeout,
            ),
            way,
            memory,
        ),
    )


def _allocate(size: int) -> torch.Tensor:
    from torch.distributed import _symmetric_memory as symmetric

    rounded = -(-size // ALIGNMENT) * ALIGNMENT
    memory = symmetric.empty(
        rounded, dtype=torch.uint8, device=torch.device("cuda", torch.cuda.current_device())
    )
    memory.zero_()
    torch.cuda.synchronize()  # the peers write only after this rank has told of it
    return memory


def _rendezvous(exchange: Exchange, memory: torch.Tensor) -> list[int]:
    from torch.distributed import _symmetric_memory as symmetric

    name = exchange.group.group_name
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 11) and not symmetric.is_symm_mem_enabled_for_group(name):
        symmetric.enable_symm_mem_for_group(name)
    handle = symmetric.rendezvous(memory, name)
    pointers = [int(p) for p in handle.buffer_ptrs]
    if (handle.rank, len(pointers)) != (exchange.rank, exchange.size):
        raise RuntimeError(
            f"symmetric memory of rank {handle.rank} of {len(pointers)}, expected rank "
            f"{exchange.rank} of {exchange.size}"
        )
    if 0 in pointers:
        raise RuntimeError(f"the symmetric memory of rank {pointers.index(0)} is out of reach")
    begin = memory.data_ptr() - pointers[exchange.rank]
    if not 0 <= begin <= handle.buffer_size - memory.numel():
        raise RuntimeError(
            f"symmetric memory of {handle.buffer_size} bytes, in which the tensor begins at {begin}"
        )
    return pointers
