# SPDX-License-Identifier: MIT
"""The two paths of a planner, as the adapters for arrays take them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from lplb._counts import AllCounts
from lplb._dynamic import Copies
from lplb._gpu import GpuPath
from lplb._group import Group
from lplb._host import HostPath
from lplb._placement import Placement
from lplb._settings import Settings

_handles = itertools.count()


class Paths:
    """All that a batch of a planner touches.

    Attributes
    ----------
    settings : Settings
    placements : list of Placement
        One a layer: that of its next batch.
    host : HostPath
    gpu : GpuPath
    handle : int
        Names the planner to the operators that torch.compile calls: its key in PATHS.
    """

    def __init__(self, settings: Settings, placements: list[Placement], group: Group) -> None:
        self._packed_sizes = [settings.packed_size(p) for p in placements]
        counts = AllCounts(settings, self._packed_sizes)
        self.settings = settings
        self.placements = placements
        self.host = HostPath(settings, placements, counts, group.exchange)
        self.gpu = GpuPath(
            settings, placements, self._packed_sizes, counts, group.exchange, group.comm
        )
        self.handle = next(_handles)
        PATHS[self.handle] = self

    def update_placements(self, stream: int, new: Mapping[int, Placement]) -> None:
        """Sets the placements of the layers in `new`, for the next batches on both paths."""
        for layer, placement in new.items():
            self.gpu.update_placement(stream, layer, placement)
            self.host.update_placement(layer, placement)
            self.placements[layer] = placement
            self._packed_sizes[layer] = self.settings.packed_size(placement)
        self.host.fit_tables(self.placements)

    def copies(self, layer: int) -> Copies:
        """What the dynamic slots hold; on the GPU once a batch has run there (with PyTorch)."""
        placement = self.placements[layer]
        if not self.gpu.planners:
            return self.host.copies(layer, placement)
        import torch

        from lplb._torch_memory import tensor_at

        dynamic = self.settings.dynamic
        shape = (placement.num_ranks, dynamic.slots)
        device = torch.device("cuda", self.gpu.index)
        expert, source, is_new = (
            tensor_at(at, shape, "<i4", device) for at in self.gpu.planners[layer].copies()
        )
        return Copies(expert, source, is_new, placement, dynamic.num_domains, None)

    def stats(self, stream: int, layers: Sequence[int], wait: bool) -> list[dict[str, Any]] | None:
        """The counters of both paths. None: not `wait`, and a layer's have not arrived yet."""
        found = []
        for layer in layers:
            found.append(self.host.stats(layer))
            if self.gpu.planners:
                gpu = self.gpu.planners[layer]
                polled = gpu.stats(stream) if wait else gpu.poll_stats(stream)
                if polled is None:
                    return None
                found.append(polled)
        return found


#: The paths of all living planners, by handle.
PATHS: weakref.WeakValueDictionary[int, Paths] = weakref.WeakValueDictionary()
