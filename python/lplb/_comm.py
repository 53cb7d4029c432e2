# SPDX-License-Identifier: MIT
"""The arguments `transport` and `comm` of Planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lplb._arrays import check_text, describe

#: "auto" takes the first of "ipc", "fabric" and "nccl" that every rank can use, otherwise
#: "collective".
TRANSPORTS = ("auto", "collective", "ipc", "fabric", "nccl", "nvshmem", "symmetric_memory")


def check_transport(transport: Any) -> str:
    if check_text(transport, "transport") not in TRANSPORTS:
        raise ValueError(f"transport: is {transport!r}, expected one of {', '.join(TRANSPORTS)}")
    return str(transport)


@dataclass(frozen=True)
class Comm:
    """How to reach the other ranks."""

    group: Any = None
    #: An ncclComm_t; 0: none.
    nccl_comm: int = 0
    #: NVSHMEM has been started in this process: its world may be joined.
    has_nvshmem: bool = False
    #: What the communicator was taken from: it must live as long as the communicator is used.
    owner: Any = None


def read_comm(comm: Any, group: Any) -> Comm:
    """Reads an ncclComm_t, or a DeepEP buffer: V1 `Buffer`, V2 `ElasticBuffer`, V2.5 `EPBuffer`.

    Only public attributes of a buffer are read: `group`, `nccl_comm_handle.get()` (None and 0 mean
    that there is no communicator) and, of V1, `num_rdma_bytes`. Its memory is not touched.
    """
    if comm is None:
        return Comm(group)
    if isinstance(comm, int) and not isinstance(comm, bool):
        if comm <= 0:
            raise ValueError(f"comm: is {comm}, expected the address of an ncclComm_t")
        if group is None:
            raise ValueError(
                "comm: is an ncclComm_t, expected a group too, over which the ranks agree"
            )
        return Comm(group, comm)
    found = getattr(comm, "group", None)
    handle = getattr(comm, "nccl_comm_handle", None)
    if found is None and not callable(getattr(handle, "get", None)):
        raise TypeError(
            f"comm: is {describe(comm)}, expected an ncclComm_t as an int, or a DeepEP "
            "buffer: an attribute `group`, or `nccl_comm_handle.get()`"
        )
    if found is not None and not callable(getattr(found, "rank", None)):
        # DeepEP V1 made with comm=: an MPI communicator, whose `rank` is a number.
        if group is None:
            raise TypeError(
                f"comm: is a {type(comm).__name__} with a group of type {type(found).__name__}, "
                "expected the argument group too, a torch.distributed.ProcessGroup"
            )
        found = None
    elif found is None and group is None:
        raise ValueError(
            f"comm: is a {type(comm).__name__} without a `group`, expected the argument group too"
        )
    if (
        found is not None
        and group is not None
        and found is not group
        and (found.rank(), found.size()) != (group.rank(), group.size())
    ):
        raise ValueError(
            f"group: is rank {group.rank()} of {group.size()}, expected that of comm's "
            f"group: rank {found.rank()} of {found.size()}"
        )
    nccl_comm = handle.get() if handle is not None and callable(getattr(handle, "get", None)) else 0
    return Comm(
        found if group is None else group,
        int(nccl_comm or 0),
        (getattr(comm, "num_rdma_bytes", None) or 0) > 0,
        comm,
    )
