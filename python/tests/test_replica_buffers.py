# SPDX-License-Identifier: MIT
"""Buffers for weights of copies: what they refuse, and on a GPU ranks that are streams of it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from optional import torch
from ranks import run_ranks
from stand_ins import pretend_symmetric_memory

import lplb

RANKS, SLOTS, COPIES = 3, 4, 2
SHAPES: list[tuple[int, ...]] = [(6, 40), (9,)]

on_gpu = pytest.mark.skipif(
    torch is None or not torch.cuda.is_available() or bool(lplb.cuda_info()["missing"]),
    reason="no GPU",
)


def placement() -> lplb.Placement:
    return lplb.Placement(np.arange(RANKS * SLOTS), RANKS)


def weights_of(
    rank: int, device: str, layers: int = 1, shapes: list[tuple[int, ...]] = SHAPES
) -> list[list[Any]]:
    """Experts whose weights tell who they are."""
    made = []
    for layer in range(layers):
        first = 1000 * layer + rank * SLOTS
        rows = torch.arange(first, first + SLOTS, device=device)
        made.append(
            [
                rows.float()[:, None, None].expand(SLOTS, *shapes[0]).contiguous(),
                rows.to(torch.int16)[:, None].expand(SLOTS, *shapes[1]).contiguous(),
            ]
        )
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timeout": 0.0}, "timeout: is 0.0, expected more than 0 seconds"),
        ({"weights": []}, "weights: has 0 layers, expected 1"),
        ({}, "weights: are on cpu, expected a GPU"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    given = {"weights": weights_of(0, "cpu"), "placements": [placement()], **change}
    with pytest.raises(ValueError, match=message):
        lplb.ReplicaBuffers(given.pop("weights"), given.pop("placements"), **given)


@pytest.mark.skipif(not lplb.cuda_info()["compiled"], reason="no CUDA in this build")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient_sizes": [6]}, "gradient_sizes: has 6, expected a multiple of 4"),
        ({"dynamic_slots": 9}, "dynamic_slots: 9 is not between 1 and 8"),
        ({"slot_sets": 2}, "slot_sets: 2 is not between 0 and 1"),
        ({"num_sms": 0}, "num_sms: 0 is not between 1 and 1024"),
        ({"num_buffers": 7}, "num_buffers: 7 is not between 2 and 6"),
    ],
)
def test_wrong_sizes_are_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "placements": [placement()],
        "tensor_bytes": [100],
        "gradient_sizes": [8],
        "is_bfloat16": False,
        "dynamic_slots": 1,
        "slot_sets": 0,
        "num_sms": 8,
        "num_buffers": 4,
        "deadline": 1.0,
    }
    # The weights of 5 slots of 112 bytes, and gradients of one.
    assert lplb._lplb.WeightSettings(**given).buffer_bytes() > 5 * 112 + 32
    with pytest.raises(ValueError, match=message):
        lplb._lplb.WeightSettings(**{**given, **change}).buffer_bytes()


def test_tensors_share_the_memory_of_their_slots() -> None:
    from lplb._device_weights import view

    # A slot of 9 int16 has 18 bytes, and 32 in memory.
    memory = torch.zeros(3 * 32, dtype=torch.uint8)
    tensor = view(memory, 3, torch.int16, (3, 3))
    assert tensor.shape == (3, 3, 3)
    tensor[:] = torch.arange(3, dtype=torch.int16)[:, None, None] + 1
    rows = memory.view(torch.int16).view(3, 16)
    assert rows[:, :9].tolist() == [[i + 1] * 9 for i in range(3)]
    assert not rows[:, 9:].any()


class VirtualRanks:
    """Ranks that are streams of one GPU."""

    def __init__(
        self,
        layers: int = 1,
        slot_sets: int = 0,
        gradients: Any = None,
        shapes: list[tuple[int, ...]] = SHAPES,
    ) -> None:
        from lplb._device_weights import Buffers, Tensors

        placements = [placement()] * layers
        given = [weights_of(rank, "cuda:0", layers, shapes) for rank in range(RANKS)]
        tensors = Tensors(given[0], placements, gradients)
        settings = tensors.settings(placements, COPIES, slot_sets, 2, 3, 5.0)
        natives = lplb._lplb.DeviceWeights.in_process(settings, [0] * RANKS)
        self.ranks = [Buffers(native, tensors, placements, COPIES, slot_sets) for native in natives]
        for rank, weights in zip(self.ranks, given, strict=True):
            rank.load(weights)
        torch.cuda.synchronize()
        self.streams = [torch.cuda.Stream() for _ in self.ranks]

    def each(self, call: Any) -> list[Any]:
        results = []
        for rank, stream in zip(self.ranks, self.streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(call(rank))
        torch.cuda.synchronize()
        return results


def plan_of(expert: list[list[int]]) -> tuple[Any, Any]:
    slot_expert = torch.tensor(expert, dtype=torch.int32, device="cuda:0")
    source = torch.where(slot_expert >= 0, slot_expert // SLOTS, -1).to(torch.int32)
    torch.cuda.synchronize()
    return slot_expert, source.contiguous()


@on_gpu
@pytest.mark.parametrize(("layers", "slot_sets"), [(1, 0), (3, 0), (3, 1)])
def test_copies_come(layers: int, slot_sets: int) -> None:
    group = VirtualRanks(layers, slot_sets)
    expert = [[5, 9], [0, -1], [-1, 7]]
    plan = plan_of(expert)
    for layer in range(layers):
        ends = group.each(lambda rank, layer=layer: rank.fetch(*plan, layer))
        for number, (outcome, is_held) in enumerate(ends):
            assert outcome.item() == 0
            assert is_held.tolist() == [int(e >= 0) for e in expert[number]]
            wide, narrow = group.ranks[number].dynamic(layer)
            for slot, e in enumerate(expert[number]):
                if e < 0:
                    continue
                assert (wide[slot] == 1000 * layer + e).all()
                assert (narrow[slot] == 1000 * layer + e).all()
    if slot_sets == 0:
        joined = group.ranks[0].weights(0)[0]
        assert joined.shape == (SLOTS + COPIES, *SHAPES[0])
        assert joined[:, 0, 0].tolist() == [0, 1, 2, 3, 5, 9]
    else:
        with pytest.raises(ValueError, match="slot_sets: layers share dynamic slots"):
            group.ranks[0].weights(0)
    assert group.ranks[0].stats()["copied"] == 2 * layers


@on_gpu
def test_changed_weights_come_again() -> None:
    group = VirtualRanks()
    plan = plan_of([[5, -1], [-1, -1], [-1, -1]])
    group.each(lambda rank: rank.fetch(*plan, 0))
    group.each(lambda rank: rank.fetch(*plan, 0))
    assert group.ranks[0].stats()["skipped"] == 1
    group.ranks[1].main(0)[0][1] = 77.0
    torch.cuda.synchronize()
    group.ranks[1].update(0, 1, 1)
    torch.cuda.synchronize()
    group.each(lambda rank: rank.fetch(*plan, 0))
    assert (group.ranks[0].dynamic(0)[0][0] == 77.0).all()


@on_gpu
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_gradients_come_back(name: str) -> None:
    dtype = getattr(torch, name)
    shapes: list[tuple[int, ...]] = [(8, 16), (16,)]
    group = VirtualRanks(gradients=dtype, shapes=shapes)
    plan = plan_of([[5, -1], [-1, -1], [-1, 5]])
    group.each(lambda rank: rank.fetch(*plan, 0))
    main = []
    for number, rank in enumerate(group.ranks):
        for gradient in rank.gradients(0):
            gradient[:] = 10.0 ** (number + 1)
        main.append([torch.ones((SLOTS, *s), dtype=dtype, device="cuda:0") for s in shapes])
    torch.cuda.synchronize()
    turns = iter(main)
    ends = group.each(lambda rank: rank.reduce_gradients(next(turns), 0))
    assert [end.item() for end in ends] == [0, 0, 0]
    for number, tensors in enumerate(main):
        for tensor in tensors:
            wanted = torch.ones(SLOTS)
            if number == 1:
                wanted[1] = torch.tensor(1.0 + 10.0 + 1000.0).to(dtype).float()
            assert tensor.flatten(1)[:, 0].float().cpu().tolist() == wanted.tolist()


@on_gpu
def test_wrong_tensors_are_named() -> None:
    group = VirtualRanks()
    rank = group.ranks[0]
    expert, source = plan_of([[5, -1], [-1, -1], [-1, -1]])
    with pytest.raises(ValueError, match=r"slot_source: is torch.int64 \[3, 2\]"):
        rank.fetch(expert, source.long(), 0)
    with pytest.raises(ValueError, match=r"slot_expert: is torch.int32 \[2\]"):
        rank.fetch(expert[0], source, 0)
    with pytest.raises(ValueError, match="layer: is 1"):
        rank.fetch(expert, source, 1)
    with pytest.raises(ValueError, match="gradients: is None, expected a dtype"):
        rank.reduce_gradients([], 0)


class FakeWeights:
    """DeviceWeights that is given pointers."""

    calls: list[list[int]] = []
    fails = ""

    @staticmethod
    def from_pointers(settings: Any, rank: int, pointers: list[int]) -> FakeWeights:
        if FakeWeights.fails:
            raise RuntimeError(FakeWeights.fails)
        FakeWeights.calls.append([rank, *pointers])
        return FakeWeights()

    def disconnect(self) -> None:
        pass

    def close(self) -> None:
        pass


class Sizes:
    """WeightSettings of a build without CUDA."""

    def buffer_bytes(self) -> int:
        return 1000


def by_symmetric_memory(rank: int, size: int, described: str) -> Any:
    from lplb import _comm, _device_weights, _lplb

    pretend_symmetric_memory(rank, size)
    library: Any = _lplb
    library.DeviceWeights = FakeWeights
    settings: Any = Sizes()
    comm = _comm.Comm(torch.distributed.group.WORLD)
    # The members are the live ones of twice as many ranks.
    return _device_weights.connect(
        comm, "symmetric_memory", 5.0, settings, described, lambda n: range(0, 2 * n, 2)
    )


def symmetric_memory(rank: int, size: int, folder: str) -> None:
    from lplb import _peers

    connected = by_symmetric_memory(rank, size, "alike")
    (kept,) = _peers._kept
    assert connected.memory is kept and kept.numel() == 1024
    want = [0x1000000 * (g + 1) + 256 * (1 + g) for g in range(size)]
    want[rank] = kept.data_ptr()
    assert FakeWeights.calls == [[2 * rank, *want]]
    assert connected.transport == "symmetric_memory"


def symmetric_memory_of_ranks_that_differ(rank: int, size: int, folder: str) -> None:
    by_symmetric_memory(rank, size, "3 layers" if rank == 1 else "2 layers")


def symmetric_memory_that_one_rank_cannot_use(rank: int, size: int, folder: str) -> None:
    from lplb import _peers

    FakeWeights.fails = "no room" if rank == 1 else ""
    try:
        by_symmetric_memory(rank, size, "alike")
    finally:
        assert not _peers._kept, "of ranks that did not connect"


def test_symmetric_memory_is_given_as_pointers(tmp_path: pathlib.Path) -> None:
    assert run_ranks(symmetric_memory, 3, tmp_path) == [""] * 3


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (symmetric_memory_of_ranks_that_differ, "group: rank 1 has 3 layers, rank 0 2 layers"),
        (symmetric_memory_that_one_rank_cannot_use, "group: rank 1: no room"),
    ],
)
def test_all_ranks_are_told_why_there_is_no_symmetric_memory(
    ranks: Any, message: str, tmp_path: pathlib.Path
) -> None:
    for error in run_ranks(ranks, 2, tmp_path):
        assert message in error
