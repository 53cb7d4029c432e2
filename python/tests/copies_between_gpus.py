# SPDX-License-Identifier: MIT
"""What multi_gpu.py runs in each rank for lplb.ReplicaBuffers."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from scenarios import Rank, Unsupported

import lplb

SLOTS, COPIES, LAYERS = 4, 2, 2


def run_copies(me: Rank, transport: str = "auto") -> None:
    """Random plans: every copy has the weights that its source has at that batch."""
    shared = np.random.default_rng(9)
    experts = SLOTS * me.size
    placement = lplb.Placement(np.arange(experts), me.size)
    version = np.zeros((LAYERS, experts))
    own = np.arange(me.rank * SLOTS, (me.rank + 1) * SLOTS)

    def values(layer: int, of: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(of * 10.0 + layer + 1000 * version[layer, of]).float().cuda()

    weights = [
        [
            values(layer, own)[:, None, None].expand(SLOTS, 64, 480).contiguous(),
            values(layer, own)[:, None].expand(SLOTS, 12).contiguous(),
        ]
        for layer in range(LAYERS)
    ]
    try:
        buffers = lplb.ReplicaBuffers(
            weights,
            placement,
            group=dist.group.WORLD,
            transport=transport,
            dynamic_slots=COPIES,
            gradients=torch.float32,
        )
    except RuntimeError as error:
        if transport != "auto" and str(error).startswith("group: "):
            raise Unsupported(str(error)) from error
        raise
    for batch in range(20 if me.shares_device else 300):
        layer = batch % LAYERS
        changed = int(shared.integers(0, experts))
        version[layer, changed] += 1
        if changed in own:
            slot = changed - own[0]
            for tensor in buffers.main(layer):
                tensor[slot] = values(layer, np.array([changed]))[0]
            buffers.update(layer, slot, 1)
        expert = shared.integers(0, experts, (me.size, COPIES)).astype(np.int32)
        source = expert // SLOTS
        unused = source == np.arange(me.size)[:, None]
        expert[unused] = source[unused] = -1
        end = buffers.fetch(torch.from_numpy(expert).cuda(), torch.from_numpy(source).cuda(), layer)
        assert end.outcome.item() == 0, buffers.stats()
        assert end.is_held.tolist() == (expert[me.rank] >= 0).astype(int).tolist()
        for slot, e in enumerate(expert[me.rank]):
            for tensor in buffers.weights(layer):
                if e >= 0:
                    assert (tensor[SLOTS + slot] == values(layer, np.array([e]))[0]).all()
        for gradient in buffers.gradients(layer):
            gradient.fill_(me.rank + 1)
        main = [torch.zeros_like(tensor) for tensor in buffers.main(layer)]
        assert buffers.reduce_gradients(main, layer).item() == 0, buffers.stats()
        for slot, e in enumerate(own):
            wanted = float(((expert == e).sum(1) * np.arange(1, me.size + 1)).sum())
            assert all((tensor[slot] == wanted).all() for tensor in main)
    if me.rank == 0:
        print(f"  {buffers.transport}: {buffers.stats()}", flush=True)
    buffers.close()
