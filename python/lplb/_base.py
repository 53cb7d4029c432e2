# SPDX-License-Identifier: MIT
"""What a planner is besides its batches: what it reports, its copies, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, overload

from lplb._batch import check_layer
from lplb._cost import CostModel
from lplb._gpu import GpuPath
from lplb._host import HostPath
from lplb._paths import Paths
from lplb._results import ExchangeStats, PlannerStats, add_up
from lplb._settings import Settings

Self = TypeVar("Self", bound="PlannerBase")


class PlannerBase:
    """A planner's parts, and what does not plan."""

    _settings: Settings
    _paths: Paths
    _host: HostPath
    _gpu: GpuPath
    _torch: Any
    _arguments: dict[str, Any]  # of the constructor, all but the placement

    def __repr__(self) -> str:
        settings, placement = self._settings, self._paths.placements[0]
        layers = "" if settings.num_layers == 1 else f"{settings.num_layers} layers, "
        where = f" on cuda:{self._gpu.index}" if self._gpu.planners else ""
        name = type(self).__name__
        return f"{name}({layers}rank {settings.rank} of {settings.num_ranks}, {placement}{where})"

    def __enter__(self: Self) -> Self:
        """The planner; close() is called at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError

    @property
    def cost(self) -> CostModel | None:
        """What batches are split by; None: their tokens."""
        return self._settings.cost

    @property
    def keeps_whole_history(self) -> bool:
        """Whether load_history() is the sum of all batches."""
        settings = self._settings
        return settings.keeps_history and settings.window == 0 and settings.decay == 1.0

    @overload
    def stats(self, layer: int | None = None, *, wait: Literal[True] = True) -> PlannerStats: ...

    @overload
    def stats(self, layer: int | None = None, *, wait: bool) -> PlannerStats | None: ...

    def stats(self, layer: int | None = None, *, wait: bool = True) -> PlannerStats | None:
        """Counters of one layer, or of all. On a GPU it waits for the stream.

        With `wait=False` it does not wait: it asks for the counters after what is on the stream,
        and returns the newest that have arrived, or None if none have.
        """
        found = self._paths.stats(self._stream(), self._layers(layer), wait)
        return None if found is None else add_up(found)

    def exchange_stats(self, layer: int | None = None) -> ExchangeStats:
        """How counts travel between GPUs, and how the rounds of one layer, or of all, ended.

        Waits for the stream.
        """
        return self._gpu.exchange_stats(self._stream(), self._layers(layer))

    def load_history(self, layer: int | None = None) -> Any:
        """The load of past batches on this rank: [num_layers, num_logical_experts], or one row.

        float64, whole numbers unless they decay; rebalance_experts() takes the sum over the ranks.
        If batches run on a GPU: a tensor there, copied on the current stream without waiting;
        otherwise a NumPy array.
        """
        if not self._settings.keeps_history:
            raise ValueError("keep_history: is False, expected True, a window or a decay")
        if layer is not None:
            self._layer(layer)
        if self._gpu.planners:
            return self._torch.load_history(self._gpu, layer)
        return self._host.load_history(layer)

    def clear_history(self) -> None:
        """Forgets the history of all layers."""
        self._host.clear_history()
        self._gpu.clear_history(self._stream())

    def _copy_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments that make a planner like this one, with its placements of now."""
        arguments = {**self._arguments, "max_redundants": self._settings.max_redundants}
        for name in ("placement", "num_layers"):  # the list of placements says both
            arguments.pop(name, None)
        return list(self._paths.placements), arguments

    def __copy__(self: Self) -> Self:
        placements, arguments = self._copy_arguments()
        made: Self = _made_again(type(self), placements, arguments)
        return made

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        # A group or a communicator is a handle, which a copy uses too.
        memo[id(self)] = made = self.__copy__()
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        placements, arguments = self._copy_arguments()
        for name in ("group", "comm"):
            if arguments.get(name) is not None:
                raise TypeError(
                    f"{name}: a planner with a process group cannot be pickled; save the module's "
                    "state_dict(), or leave the planner out and make it again after loading"
                )
        return _made_again, (type(self), placements, arguments)

    def _layer(self, layer: int) -> int:
        return check_layer(layer, self._settings.num_layers)

    def _layers(self, layer: int | None) -> Sequence[int]:
        return range(self._settings.num_layers) if layer is None else [self._layer(layer)]

    def _find_torch(self) -> Any:
        """The adapter for PyTorch, if the program uses PyTorch; otherwise None."""
        if sys.modules.get("torch") is not None:
            from lplb import _operators, _torch  # noqa: F401, the operators register themselves

            self._torch = _torch
        return self._torch

    def _adapter(self, topk_idx: Any) -> Any:
        torch = self._torch if self._torch is not None else self._find_torch()
        if torch is not None and isinstance(topk_idx, torch.Tensor):
            return torch
        from lplb import _generic

        return _generic

    def _stream(self) -> int:
        """The current stream on the planner's GPU; 0 if it is on none."""
        index = self._gpu.index
        return self._torch.raw_stream(index) if self._torch is not None and index >= 0 else 0


def _made_again(planner: Any, placements: list[Any], arguments: dict[str, Any]) -> Any:
    return planner(placements, **arguments)
