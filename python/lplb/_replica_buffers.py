# SPDX-License-Identifier: MIT
"""Weights of experts in memory that all ranks of a group see, and slots for copies of others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lplb._arrays import check_int
from lplb._comm import read_comm
from lplb._placement import Placement
from lplb._settings import as_layers, members_of


class Fetched(NamedTuple):
    """How a call of :class:`ReplicaBuffers` ended, as tensors on the GPU that the call writes.

    The next call for the same layer writes the same tensors.
    """

    outcome: Any
    """[1] int32. 0: the slots of all ranks hold what the plan says."""
    is_held: Any
    """[S] int32. 1: this slot does. 0: it does not, or is not in use."""


class ReplicaBuffers:
    """Moves the weights of copies between GPUs, and their gradients back.

    A plan with dynamic slots says which experts each rank needs for a batch. fetch() brings them by
    one kernel, which reads the plan on the GPU; reduce_gradients() adds the gradients of copies to
    those of their sources. docs/weights.md says what a call promises if a rank is late or lost.

    Parameters
    ----------
    weights : sequence of sequences of torch.Tensor
        weights[i] are the tensors of layer i, each [M, ...]: a row for each main slot of this rank.
        Contiguous, on one GPU, any dtype, the same shapes in all layers. They are copied into the
        buffers; use the tensors of main() or weights() from then on.
    placements : Placement, or a sequence of one for each layer
        Which expert each main slot holds: equal on all ranks.
    group : torch.distributed.ProcessGroup
        A member for each rank, or for each live rank, as in :class:`Planner`.
    comm : int or a DeepEP buffer, optional
        As in :class:`Planner`.
    transport : str
        "ipc", "fabric", "nccl", "nvshmem" or "symmetric_memory" (PyTorch's); "auto" takes the first
        of the first three that every rank can use.
    dynamic_slots : int
        S, 1 to 8.
    slot_sets : int
        0: each layer has its own dynamic slots, which follow its main slots in memory. Otherwise
        layer l uses set l % slot_sets.
    gradients : torch.dtype, optional
        torch.float32 or torch.bfloat16: dynamic slots also have gradients of each tensor, and
        reduce_gradients() can be called. None: no gradients.
    num_sms, num_buffers : int
        Multiprocessors that a call takes, and buffers of 32 KiB on each.
    timeout : float
        Seconds for which a call waits for the other ranks, on the GPU.

    Notes
    -----
    Construction, fetch(), reduce_gradients() and close() are collective. Calls are enqueued on the
    current stream, do not wait for the GPU, and may be captured in CUDA graphs.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong.
    RuntimeError
        On all ranks: their arguments differ, or they cannot see each other's memory.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Any]],
        placements: Placement | Sequence[Placement],
        *,
        group: Any = None,
        comm: Any = None,
        transport: str = "auto",
        dynamic_slots: int = 1,
        slot_sets: int = 0,
        gradients: Any = None,
        num_sms: int = 16,
        num_buffers: int = 4,
        timeout: float = 10.0,
    ) -> None:
        from lplb import _device_weights

        if not timeout > 0:
            raise ValueError(f"timeout: is {timeout}, expected more than 0 seconds")
        layers = as_layers(placements, None if not isinstance(placements, Placement) else 1)
        if isinstance(placements, Placement):
            layers = layers * max(len(weights), 1)
        tensors = _device_weights.Tensors(weights, layers, gradients)
        settings = tensors.settings(
            layers,
            check_int(dynamic_slots, "dynamic_slots"),
            check_int(slot_sets, "slot_sets"),
            check_int(num_sms, "num_sms"),
            check_int(num_buffers, "num_buffers"),
            float(timeout),
        )
        settings.buffer_bytes()  # checks the arguments before the ranks meet
        self._connected = _device_weights.connect(
            read_comm(comm, group),
            transport,
            float(timeout),
            settings,
            tensors.describe(layers, dynamic_slots, slot_sets),
            lambda n: members_of(layers, n),
        )
        self._buffers = _device_weights.Buffers(
            self._connected.native, tensors, layers, dynamic_slots, slot_sets
        )
        self._buffers.load(weights)

    @property
    def transport(self) -> str:
        """How the ranks see each other's memory."""
        return self._connected.transport

    @property
    def bytes(self) -> int:
        """Device memory of this rank."""
        return self._buffers.native.bytes

    def main(self, layer: int = 0) -> list[Any]:
        """The tensors of the layer's main slots, each [M, ...]."""
        return self._buffers.main(layer)

    def dynamic(self, layer: int = 0) -> list[Any]:
        """The tensors of the layer's dynamic slots, each [S, ...]."""
        return self._buffers.dynamic(layer)

    def weights(self, layer: int = 0) -> list[Any]:
        """The tensors of all slots, each [M + S, ...]: only with slot_sets=0."""
        return self._buffers.weights(layer)

    def gradients(self, layer: int = 0) -> list[Any]:
        """The gradients of the dynamic slots, each [S, ...], which the backward pass writes."""
        return self._buffers.gradients(layer)

    def fetch(self, slot_expert: Any, slot_source: Any, layer: int = 0) -> Fetched:
        """Brings the experts of the plan into this rank's dynamic slots.

        slot_expert and slot_source are int32 tensors [num_ranks, S] on the GPU, contiguous, the
        same on all ranks: as :class:`Copies` has them; -1: unused. They are read when the kernel
        runs.
        """
        return Fetched(*self._buffers.fetch(slot_expert, slot_source, layer))

    def update(self, layer: int = 0, first_slot: int = 0, num_slots: int | None = None) -> None:
        """Says that the weights of main slots have changed, all of them unless told otherwise.

        Call it after the kernels that change them, on the same stream, before the next fetch().
        """
        self._buffers.update(layer, first_slot, num_slots)

    def reduce_gradients(self, main_gradients: Sequence[Any], layer: int = 0) -> Any:
        """Adds the gradients of the layer's copies to `main_gradients`, one for each tensor.

        Each is [M, ...] like the tensor, contiguous, of the dtype of the gradients; it is changed
        in place. Returns the outcome, [1] int32 on the GPU; unless it is 0, the gradients are
        unspecified.
        """
        return self._buffers.reduce_gradients(main_gradients, layer)

    def stats(self) -> dict[str, int]:
        """Counters since construction, by name (docs/weights.md). Waits for the current stream."""
        return self._buffers.stats()

    def close(self) -> None:
        """Frees the memory. Collective; no tensor of it may be used afterwards."""
        self._buffers.close(self._connected)
        self._connected = self._connected._replace(memory=None)
