# SPDX-License-Identifier: MIT
"""What ReplicaBuffers does with PyTorch: tensors in memory of the library, and calls for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lplb import _lplb
from lplb._arrays import check_int
from lplb._batch import check_layer
from lplb._comm import TRANSPORTS, Comm, check_transport
from lplb._exchange import Exchange, fingerprint
from lplb._peers import forget, keep, share_symmetric, together
from lplb._placement import Placement
from lplb._torch import raw_stream
from lplb._torch_memory import tensor_at
from lplb._transfer import check_weights


class Tensors:
    """The shapes and types of an expert's tensors, and of their gradients."""

    def __init__(self, weights: Any, placements: Sequence[Placement], gradients: Any) -> None:
        check_weights(weights, len(placements), placements[0].slots_per_rank)
        self.device: torch.device = weights[0][0].device
        if self.device.type != "cuda":
            raise ValueError(f"weights: are on {self.device}, expected a GPU")
        if gradients not in (None, torch.float32, torch.bfloat16):
            raise ValueError(
                f"gradients: is {gradients}, expected None, torch.float32 or torch.bfloat16"
            )
        self.kinds = [(t.dtype, tuple(t.shape[1:])) for t in weights[0]]
        for i, layer in enumerate(weights):
            kinds = [(t.dtype, tuple(t.shape[1:])) for t in layer]
            if kinds != self.kinds:
                raise ValueError(f"weights[{i}]: is of {kinds}, expected {self.kinds} as layer 0")
        self.gradient_type = gradients

    def settings(self, placements: Sequence[Placement], *rest: Any) -> _lplb.WeightSettings:
        sizes = [_count(shape) for _, shape in self.kinds]
        return _lplb.WeightSettings(
            list(placements),
            [n * dtype.itemsize for n, (dtype, _) in zip(sizes, self.kinds, strict=True)],
            sizes if self.gradient_type is not None else [],
            self.gradient_type == torch.bfloat16,
            *rest,
        )

    def describe(self, placements: Sequence[Placement], dynamic_slots: int, slot_sets: int) -> str:
        """All that the ranks must give alike, as a text that ranks can compare."""
        return (
            f"{len(placements)} layers of {self.kinds}, gradients {self.gradient_type}, "
            f"{slot_sets} sets of {dynamic_slots} slots, placements {fingerprint(placements):x}"
        )


class Connected(NamedTuple):
    """This rank's buffer, which the others have mapped."""

    exchange: Exchange
    native: _lplb.DeviceWeights
    transport: str
    memory: Tensor | None = None  # of the buffer, if it is PyTorch's


def connect(
    comm: Comm,
    transport: str,
    timeout: float,
    settings: _lplb.WeightSettings,
    described: str,
    members_of: Callable[[int], Sequence[int]],
) -> Connected:
    """Connects the ranks, on the current device of each. Collective.

    `described` is what Tensors.describe() gave. Raises RuntimeError on all ranks, with the reasons,
    if no transport works.
    """
    if check_transport(transport) == "collective":
        others = ", ".join(name for name in TRANSPORTS if name != "collective")
        raise ValueError(f"transport: is {transport!r}, expected one of {others}")
    exchange = Exchange(comm.group, timeout)
    rank = members_of(exchange.size)[exchange.rank]
    # NVSHMEM is never started here unless it is named.
    wanted = ["ipc", "fabric", "nccl"] if transport == "auto" else [transport]
    reasons = []
    for one in wanted:
        if one == "symmetric_memory":
            connected, reason = _by_symmetric_memory(exchange, settings, described, rank)
        else:
            connected, reason = _by_library(exchange, one, comm.nccl_comm, settings, rank)
        if connected is not None:
            return connected
        reasons.append(reason)
    raise RuntimeError(f"group: {'; '.join(reasons)}")


def _by_library(
    exchange: Exchange, transport: str, nccl_comm: int, settings: _lplb.WeightSettings, rank: int
) -> tuple[Connected | None, str]:
    native, reason = together(
        exchange,
        lambda: _lplb.DeviceWeights.connect(
            settings,
            rank,
            exchange.size,
            exchange.all_gather_bytes,
            transport,
            nccl_comm or (exchange.nccl_comm() if transport == "nccl" else 0),
        ),
    )
    return (None if native is None else Connected(exchange, native, transport)), reason


def _by_symmetric_memory(
    exchange: Exchange, settings: _lplb.WeightSettings, described: str, rank: int
) -> tuple[Connected | None, str]:
    # The library compares arguments when it connects ranks, but not when it is given pointers.
    told = [text for (text,) in exchange.tell([described])]
    for other, theirs in enumerate(told):
        if theirs != told[0]:
            return None, f"rank {other} has {theirs}, rank 0 {told[0]}"
    shared, reason = share_symmetric(exchange, settings.buffer_bytes())
    if shared is None:
        return None, reason
    memory, pointers = shared
    native, reason = together(
        exchange, lambda: _lplb.DeviceWeights.from_pointers(settings, rank, pointers)
    )
    if native is None:
        return None, reason
    keep(memory)
    return Connected(exchange, native, "symmetric_memory", memory), ""


class Buffers:
    """The tensors of a rank, and its calls."""

    def __init__(
        self,
        native: _lplb.DeviceWeights,
        tensors: Tensors,
        placements: Sequence[Placement],
        dynamic_slots: int,
        slot_sets: int,
    ) -> None:
        self.native = native
        self._device = tensors.device
        self._num_layers = len(placements)
        self._slots = placements[0].slots_per_rank
        self._plan = (placements[0].num_ranks, dynamic_slots)
        has_own_slots = slot_sets in (0, self._num_layers)

        def of(address: int, slots: int, i: int) -> Tensor:
            dtype, shape = tensors.kinds[i]
            return view(self._bytes(address, slots * native.stride(i)), slots, dtype, shape)

        def gradient(layer: int, i: int) -> Tensor:
            dtype, shape = tensors.gradient_type, tensors.kinds[i][1]
            size = dynamic_slots * _count(shape) * dtype.itemsize
            return view(
                self._bytes(native.dynamic_gradients(layer, i), size), dynamic_slots, dtype, shape
            )

        layers, count = range(self._num_layers), range(len(tensors.kinds))
        self._main = [[of(native.main(n, i), self._slots, i) for i in count] for n in layers]
        self._dynamic = [
            [of(native.dynamic(n, i), dynamic_slots, i) for i in count] for n in layers
        ]
        all_slots = self._slots + dynamic_slots
        self._all = [
            [of(native.main(n, i), all_slots, i) for i in count if has_own_slots] for n in layers
        ]
        has_gradients = tensors.gradient_type is not None
        self._gradients = [[gradient(n, i) for i in count if has_gradients] for n in layers]
        zeros = torch.zeros
        self._outcome = zeros((self._num_layers, 2, 1), dtype=torch.int32, device=self._device)
        self._is_held = zeros(
            (self._num_layers, dynamic_slots), dtype=torch.int32, device=self._device
        )

    def load(self, weights: Sequence[Sequence[Tensor]]) -> None:
        """Copies the weights of the main slots into the buffer."""
        for to, layer in zip(self._main, weights, strict=True):
            for into, tensor in zip(to, layer, strict=True):
                into.copy_(tensor)

    def main(self, layer: int) -> list[Tensor]:
        return list(self._main[self._layer(layer)])

    def dynamic(self, layer: int) -> list[Tensor]:
        return list(self._dynamic[self._layer(layer)])

    def weights(self, layer: int) -> list[Tensor]:
        found = self._all[self._layer(layer)]
        if not found:
            raise ValueError("slot_sets: layers share dynamic slots, expected slot_sets=0")
        return list(found)

    def gradients(self, layer: int) -> list[Tensor]:
        found = self._gradients[self._layer(layer)]
        if not found:
            raise ValueError("gradients: is None, expected a dtype")
        return list(found)

    def fetch(self, slot_expert: Any, slot_source: Any, layer: int) -> tuple[Tensor, Tensor]:
        self._layer(layer)
        for name, plan in (("slot_expert", slot_expert), ("slot_source", slot_source)):
            self._check(name, plan, torch.int32, self._plan)
        outcome, is_held = self._outcome[layer, 0], self._is_held[layer]
        with torch.cuda.device(self._device):
            self.native.fetch(
                self._stream(),
                layer,
                slot_expert.data_ptr(),
                slot_source.data_ptr(),
                is_held.data_ptr(),
                outcome.data_ptr(),
            )
        return outcome, is_held

    def update(self, layer: int, first_slot: int, num_slots: int | None) -> None:
        self._layer(layer)
        first = check_int(first_slot, "first_slot")
        count = self._slots - first if num_slots is None else check_int(num_slots, "num_slots")
        with torch.cuda.device(self._device):
            self.native.update(self._stream(), layer, first, count)

    def reduce_gradients(self, main_gradients: Sequence[Any], layer: int) -> Tensor:
        wanted = self.gradients(layer)
        if len(main_gradients) != len(wanted):
            raise ValueError(
                f"main_gradients: has {len(main_gradients)} tensors, expected {len(wanted)}"
            )
        for i, (mine, copy) in enumerate(zip(main_gradients, wanted, strict=True)):
            shape = (self._slots, *copy.shape[1:])
            self._check(f"main_gradients[{i}]", mine, copy.dtype, shape)
        outcome = self._outcome[layer, 1]
        with torch.cuda.device(self._device):
            self.native.reduce_gradients(
                self._stream(), layer, [g.data_ptr() for g in main_gradients], outcome.data_ptr()
            )
        return outcome

    def stats(self) -> dict[str, int]:
        with torch.cuda.device(self._device):
            return dict(self.native.stats(self._stream()))

    def close(self, connected: Connected) -> None:
        torch.cuda.synchronize(self._device)
        connected.exchange.barrier()  # no rank's calls are under way
        self.native.disconnect()
        connected.exchange.barrier()  # no rank maps another one's memory
        self.native.close()
        if connected.memory is not None:
            forget(connected.memory)

    def _stream(self) -> int:
        return raw_stream(self._device.index or 0)

    def _layer(self, layer: int) -> int:
        check_layer(layer, self._num_layers)
        return layer

    def _bytes(self, address: int, size: int) -> Tensor:
        return tensor_at(address, (size,), "|u1", self._device, self.native)

    def _check(self, name: str, tensor: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: is {type(tensor).__name__}, expected a torch.Tensor")
        if tensor.dtype != dtype or tuple(tensor.shape) != shape or tensor.device != self._device:
            raise ValueError(
                f"{name}: is {tensor.dtype} {list(tensor.shape)} on {tensor.device}, expected "
                f"{dtype} {list(shape)} on {self._device}"
            )
        if not tensor.is_contiguous():
            raise ValueError(f"{name}: is not contiguous")


def view(memory: Tensor, slots: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor [slots, *shape] in `memory`, of which each slot has an equal part."""
    values = memory.view(slots, -1).view(dtype)
    return values[:, : _count(shape)].view(slots, *shape)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
