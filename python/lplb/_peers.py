# SPDX-License-Identifier: MIT
"""The exchange within the plan's kernel: how the ranks come to see each other's memory.

After every step all ranks tell each other whether it worked. So all ranks go on in the same way,
and no rank waits for one that has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from lplb import _lplb
from lplb._comm import Comm
from lplb._exchange import DeviceRounds, Exchange
from lplb._settings import Settings

T = TypeVar("T")

ALIGNMENT = 256
_PREFIX = "the ranks cannot see each other's memory: "

# PyTorch's symmetric memory that peers may still write to: it is kept until close(), or until the
# process ends.
_kept: list[Any] = []


class Peers:
    """This rank's buffer, which the others have mapped, and theirs. Each layer has a channel."""

    def __init__(self, group: _lplb.PeerGroup, transport: str, memory: Any = None) -> None:
        self._group = group
        self._memory = memory
        self.transport = transport
        self.bytes: int = group.bytes
        if memory is not None:
            keep(memory)

    def channel(self, layer: int) -> _lplb.PeerChannel:
        return self._group.channel(layer)

    def disconnect(self) -> None:
        """Gives up the peers' memory. No rank's rounds may be under way."""
        self._group.disconnect()

    def leave(self, exchange: Exchange) -> None:
        """Collective: afterwards no round is under way and no rank maps another one's memory."""
        torch.cuda.synchronize()
        exchange.barrier()  # no rank's rounds are under way
        self.disconnect()
        exchange.barrier()  # no rank maps another one's memory

    def close(self) -> None:
        """Frees this rank's memory, which no peer may use now. For nvshmem it is collective."""
        self._group.close()
        if self._memory is not None:
            forget(self._memory)
        self._memory = None


def connect(
    exchange: Exchange, transport: str, comm: Comm, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    """Connects the ranks, on the current device of each. Collective.

    `transport` is one of TRANSPORTS, the same on every rank. Returns no peers if counts travel by
    the collective, and why. All ranks raise RuntimeError if a transport that is named cannot be
    used, with the rank and what it lacks; ValueError if the ranks' sizes differ.
    """
    if transport == "collective":
        return None, ""
    wanted = [transport]
    if transport == "auto":
        # NVSHMEM is never started here: a process can have one NVSHMEM world, until it ends.
        wanted = ["ipc", "fabric", "nccl", *(["nvshmem"] if comm.has_nvshmem else [])]
    sizes = f"{num_layers} layers of {max_counts} counts by {', '.join(wanted)}"
    told = exchange.tell([sizes, _lplb.cuda_info()["missing"]])
    for rank, (theirs, _) in enumerate(told):
        if theirs != told[0][0]:
            raise ValueError(
                f"transport: rank {rank} exchanges {theirs}, rank 0 {told[0][0]}: "
                "max_redundants or comm differ"
            )
    reasons = [_first_trouble([lack for _, lack in told])]
    if not reasons[0]:
        reasons = []
        for one in wanted:
            by = _by_symmetric_memory if one == "symmetric_memory" else _by_library
            peers, trouble = by(exchange, one, comm.nccl_comm, num_layers, max_counts)
            if peers is not None:
                return peers, ""
            reasons.append(trouble.replace(_PREFIX, ""))
    reason = "; ".join(reasons)
    if transport != "auto":
        raise RuntimeError(f'transport: "{transport}" cannot be used: {reason}')
    return None, reason


def start(
    exchange: Exchange,
    settings: Settings,
    comm: Comm,
    make: Callable[[int, _lplb.PeerChannel | None], _lplb.GpuPlanner],
    make_rounds: Callable[[], list[DeviceRounds]],
) -> tuple[Peers | None, str, list[_lplb.GpuPlanner], list[DeviceRounds]]:
    """Connects the ranks and makes the planner of each layer. Collective.

    Returns what connect() does, the planners, and the rounds, which are only made if there are no
    peers. If a step fails on one rank, all ranks raise.
    """
    num_layers = settings.num_layers
    peers, reason = connect(exchange, settings.transport, comm, num_layers, settings.max_counts)
    error: Exception | None = None
    made: list[_lplb.GpuPlanner] = []
    rounds: list[DeviceRounds] = []
    try:
        for layer in range(num_layers):
            made.append(make(layer, peers.channel(layer) if peers is not None else None))
        if peers is None:
            rounds = make_rounds()
    except Exception as caught:
        error = caught
    trouble = _first_trouble([text for (text,) in exchange.tell([_text_of(error)])])
    if not trouble:
        return peers, reason, made, rounds
    made.clear()
    if peers is not None:
        peers.disconnect()
        exchange.barrier()
        peers.close()
    if error is not None:
        raise error
    raise RuntimeError(f"group: the planner cannot start: {trouble}")


def _text_of(error: Exception | None) -> str:
    return "" if error is None else str(error) or type(error).__name__


def _first_trouble(texts: list[str]) -> str:
    """The first text that is not empty, with its rank; if all texts are equal, the text alone."""
    if len(set(texts)) == 1:
        return texts[0]
    return next(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text)


def together(exchange: Exchange, step: Callable[[], T]) -> tuple[T | None, str]:
    """The result of `step` if it succeeds on every rank; otherwise None, and what went wrong."""
    result, error = None, None
    try:
        result = step()
    except Exception as caught:
        error = caught
    reason = _first_trouble([text for (text,) in exchange.tell([_text_of(error)])])
    return (result if not reason else None), reason


def _by_library(
    exchange: Exchange, transport: str, nccl_comm: int, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    if transport == "nccl" and nccl_comm == 0:
        nccl_comm = exchange.nccl_comm()
    return together(
        exchange,
        lambda: Peers(
            _lplb.PeerGroup.connect(
                exchange.rank,
                exchange.size,
                exchange.all_gather_bytes,
                max_counts,
                num_layers,
                exchange.timeout,
                transport,
                nccl_comm,
            ),
            transport,
        ),
    )


def _by_symmetric_memory(
    exchange: Exchange, transport: str, _nccl_comm: int, num_layers: int, max_counts: int
) -> tuple[Peers | None, str]:
    shared, reason = share_symmetric(
        exchange, _lplb.peer_buffer_bytes(exchange.size, max_counts, num_layers)
    )
    if shared is None:
        return None, reason
    memory, pointers = shared
    return together(
        exchange,
        lambda: Peers(
            _lplb.PeerGroup.from_pointers(
                exchange.rank, pointers, max_counts, num_layers, exchange.timeout
            ),
            transport,
            memory,
        ),
    )


def share_symmetric(
    exchange: Exchange, size: int
) -> tuple[tuple[torch.Tensor, list[int]] | None, str]:
    """PyTorch's symmetric memory of `size` bytes on each rank, zero: this rank's, and where the
    ranks' buffers begin for this rank. Collective. None, and why, if a rank lacks something.
    """
    memory, reason = together(exchange, lambda: _allocate(size))
    if memory is None:
        return None, reason
    # PyTorch's rendezvous waits for all ranks, and all ranks come here.
    pointers, reason = together(exchange, lambda: _rendezvous(exchange, memory))
    if pointers is None:
        return None, reason
    # The tensor may begin anywhere in the memory that its rank shares.
    mine = memory.data_ptr() - pointers[exchange.rank]
    offsets = [int(text) for (text,) in exchange.tell([str(mine)])]
    return (memory, [p + o for p, o in zip(pointers, offsets, strict=True)]), ""


def keep(memory: torch.Tensor) -> None:
    """Keeps memory that peers may still write to, until forget()."""
    _kept.append(memory)


def forget(memory: torch.Tensor) -> None:
    """No peer uses the memory any more."""
    _kept[:] = [one for one in _kept if one is not memory]


def _allocate(size: int) -> torch.Tensor:
    from torch.distributed import _symmetric_memory as symmetric

    rounded = -(-size // ALIGNMENT) * ALIGNMENT
    memory = symmetric.empty(
        rounded, dtype=torch.uint8, device=torch.device("cuda", torch.cuda.current_device())
    )
    memory.zero_()
    torch.cuda.synchronize()  # peers write only after this rank has told them of it
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
