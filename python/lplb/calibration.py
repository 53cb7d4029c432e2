# SPDX-License-Identifier: MIT
"""The command that measures a cost model: `python -m lplb.calibration`, or `lplb-calibrate`.

Times the experts of one rank on the GPU: SwiGLU layers in bfloat16 by PyTorch's grouped products.
Fits a cost model to the times, prints its error on vectors that the fit has not seen, and writes
the model. With --points it measures nothing and fits what --save-points wrote. An engine's own
kernels are measured by lplb.calibrate().
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from typing import Any

from lplb._calibrate import Calibration, CostPoint, Run, calibrate, fit_cost

L2_BYTES = 200_000_000  # more than the last-level cache of a GPU
MAX_LAYERS = 4
MANY_ROWS = 8192  # their time is the products', not the reading of weights: one layer will do


class GroupedExperts:
    """The experts of one rank on the GPU: SwiGLU, bfloat16, random weights.

    It has several layers with weights of their own, so that a layer's weights are not in the cache
    from the call before. A call runs all of them.

    Parameters
    ----------
    hidden, width : int
        The model's hidden size, and that of an expert.
    experts : int
        Slots of the rank.
    device : str
        "cpu" is for tests.
    """

    def __init__(self, hidden: int, width: int, experts: int, device: str = "cuda") -> None:
        import torch

        one = 2 * 3 * hidden * width * experts
        self.num_layers = max(2, min(MAX_LAYERS, -(-4 * L2_BYTES // one)))
        newer = getattr(torch.nn.functional, "grouped_mm", None)
        self._product: Any = newer or torch._grouped_mm
        self._hidden = hidden
        self._device = device

        def weights(rows: int, columns: int) -> Any:
            shape = (experts, columns, rows)  # rows are contiguous, as kernels like it
            made = torch.randn(shape, device=device, dtype=torch.bfloat16)
            return made.mul_(0.02).transpose(1, 2)

        self.layers = [
            (weights(hidden, 2 * width), weights(width, hidden)) for _ in range(self.num_layers)
        ]
        self._rows = torch.empty((0, hidden), device=device, dtype=torch.bfloat16)

    def prepare(self, vector: list[int]) -> tuple[Any, Any]:
        """The rows and their ends by expert: vector[i] rows for expert i. At most `experts`."""
        import torch

        total = sum(vector)
        if total > len(self._rows):
            shape = (total, self._hidden)
            self._rows = torch.randn(shape, device=self._device, dtype=torch.bfloat16)
        ends = torch.tensor(vector, device=self._device).cumsum(0).to(torch.int32)
        return self._rows[:total], ends

    def run(self, rows: Any, ends: Any, num_layers: int) -> Any:
        """Runs the first layers, each on the same rows. Returns the result of the last one."""
        import torch

        result = None
        for up, down in self.layers[:num_layers]:
            gate, value = self._product(rows, up[: len(ends)], offs=ends).chunk(2, -1)
            inner = torch.nn.functional.silu(gate) * value
            result = self._product(inner, down[: len(ends)], offs=ends)
        return result

    def laps(self, vectors: list[list[int]], rounds: int) -> list[list[float]]:
        """Microseconds of a layer for each vector: [vectors][rounds].

        Each vector is a CUDA graph. Rounds replay all of them in turn, so that a slow drift of the
        clocks is the same for all. A vector without tokens takes 0.
        """
        import torch

        busy = [v for v in vectors if any(v)]
        if not busy:
            return [[0.0] * rounds for _ in vectors]
        longest = max(busy, key=sum)
        num_layers = 1 if sum(longest) >= MANY_ROWS else self.num_layers
        self.run(*self.prepare(longest), num_layers)  # allocates, loads kernels
        pool: Any = torch.cuda.graph_pool_handle()
        inputs = [self.prepare(v) for v in busy]  # which the graphs read
        graphs: list[Any] = [torch.cuda.CUDAGraph() for _ in busy]
        torch.cuda.synchronize()
        # NOTE: torch.cuda.graph() would empty the cache of memory each time.
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            for graph, (rows, ends) in zip(graphs, inputs, strict=True):
                graph.capture_begin(pool=pool)
                self.run(rows, ends, num_layers)
                graph.capture_end()
        torch.cuda.synchronize()
        found: list[list[Any]] = [[] for _ in busy]
        for turn in range(rounds + 1):  # the first round warms up
            for graph, marks in zip(graphs, found, strict=True):
                pair: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
                pair[0].record()
                graph.replay()
                pair[1].record()
                if turn > 0:
                    marks.append(pair)
        torch.cuda.synchronize()
        graphs.clear()
        torch.cuda.empty_cache()  # the graphs' memory
        laps = iter([[1000 * a.elapsed_time(b) / num_layers for a, b in m] for m in found])
        return [next(laps) if any(v) else [0.0] * rounds for v in vectors]

    def time(self, _: Run, vectors: list[list[int]]) -> list[float]:
        """A timer for calibrate(): the median of 12 rounds."""
        return [statistics.median(laps) for laps in self.laps(vectors, 12)]


def read_points(path: str | os.PathLike[str]) -> list[CostPoint]:
    """Reads what Calibration.save_points() writes. OSError or ValueError for anything else."""
    with open(path) as file:
        try:
            points = json.load(file)["points"]
            return [CostPoint([int(n) for n in p["tokens"]], float(p["us"])) for p in points]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: holds no measured points: {error!r}") from None


def describe(result: Calibration) -> str:
    return (
        f"mean error {result.error:.1%} on {result.num_unseen} vectors that the fit has not seen "
        f"(90th percentile {result.error_p90:.1%}), {result.error_seen:.1%} on the "
        f"{result.num_seen} others; a price for each token instead: {result.error_of_tokens:.1%}"
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="lplb-calibrate",
        description="Measure what experts cost on this GPU, and write a cost model for lplb.",
    )
    made.add_argument("--out", required=True, help="the file of the cost model")
    made.add_argument("--hidden", type=int, default=7168, help="hidden size (%(default)s)")
    made.add_argument("--width", type=int, default=2048, help="width of an expert (%(default)s)")
    made.add_argument("--experts", type=int, default=10, help="experts of a rank (%(default)s)")
    made.add_argument(
        "--tokens", type=int, default=4096, help="most tokens of an expert (%(default)s)"
    )
    made.add_argument("--tile", type=int, default=128, help="rows of a tile (%(default)s)")
    made.add_argument(
        "--decimals", type=int, default=3, help="of the model's numbers (%(default)s)"
    )
    made.add_argument("--points", help="fit the times of this file, and measure nothing")
    made.add_argument("--save-points", help="write the measured times to this file")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.points:
            points = read_points(options.points)
            result = fit_cost(points, tile=options.tile, decimals=options.decimals)
        else:
            import torch

            if not torch.cuda.is_available():
                print("lplb-calibrate: there is no GPU", file=sys.stderr)
                return 1
            layer = GroupedExperts(options.hidden, options.width, options.experts)
            result = calibrate(
                lambda counts: None,
                tokens=options.tokens,
                experts=options.experts,
                tile=options.tile,
                decimals=options.decimals,
                timer=layer.time,
            )
            if options.save_points:
                what = f"hidden {options.hidden}, width {options.width}, bfloat16, grouped_mm"
                result.save_points(options.save_points, f"{what}, {torch.cuda.get_device_name()}")
        result.model.save(options.out)
    except (OSError, ValueError) as error:
        print(f"lplb-calibrate: {error}", file=sys.stderr)
        return 1
    print(describe(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
