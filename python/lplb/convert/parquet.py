# SPDX-License-Identifier: MIT
"""Reads loads from a Parquet table, in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, first_line, need
from lplb.convert.files import check_readable
from lplb.convert.recording import Recording
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, IntArray, counts, whole_numbers

_ROWS = 65536


class _Table:
    """A table with columns layer, load, expert if load is a number, and perhaps step."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        pyarrow = need("pyarrow", "pyarrow", path)
        parquet = need("pyarrow.parquet", "pyarrow", path)
        check_readable(path)
        try:
            self._file = parquet.ParquetFile(path)
            types = {field.name: field.type for field in self._file.schema_arrow}
        except Exception as error:  # Arrow raises many types for a damaged file
            fail(path, "", f"is no whole Parquet file: {first_line(error)}")
        if not {"layer", "load"} <= set(types):
            numbers = "expert if load is a number, and step if there are several"
            problem = f"has columns {', '.join(types)}, expected layer and load, and {numbers}"
            fail(path, "", problem)
        load = types["load"]
        self.in_lists = pyarrow.types.is_list(load) or pyarrow.types.is_large_list(load)
        wanted = ("step", "layer", "load") if self.in_lists else ("step", "layer", "expert", "load")
        self.columns = [name for name in wanted if name in types]
        if not self.in_lists and "expert" not in self.columns:
            fail(path, "", "has no column expert, expected one, or lists in column load")

    def _integers(self, key: str, column: Any, most: int) -> IntArray:
        if column.null_count:
            fail(self.path, key, "has an empty value, expected integers")
        values = whole_numbers(self.path, key, column.to_numpy(zero_copy_only=False))
        if values.size and int(values.max()) > most:
            fail(self.path, key, f"holds {int(values.max())}, expected 0 to {most}")
        return values

    def _rows(self) -> Iterator[Any]:
        """Batches of rows, as Arrow's objects."""
        batches = self._file.iter_batches(_ROWS, columns=self.columns)
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:  # Arrow raises many types for a damaged file
                fail(self.path, "", f"is no whole Parquet file: {first_line(error)}")
            if batch is None:
                return
            yield batch

    def batches(self) -> Iterator[dict[str, IntArray]]:
        """Rows as flat arrays of equal length: step, layer, expert, load."""
        for batch in self._rows():
            flat = {"layer": self._integers("layer", batch.column("layer"), MAX_LAYERS - 1)}
            flat["step"] = np.zeros(batch.num_rows, np.int64)
            if "step" in self.columns:
                flat["step"] = self._integers("step", batch.column("step"), 2**62)
            load = batch.column("load")
            if self.in_lists:
                if load.null_count:
                    fail(self.path, "load", "has an empty value, expected lists of integers")
                lengths = np.asarray(load.value_lengths(), np.int64)
                flat = {key: np.repeat(value, lengths) for key, value in flat.items()}
                starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
                flat["expert"] = np.arange(int(lengths.sum())) - starts
                load = load.flatten()
            else:
                flat["expert"] = self._integers("expert", batch.column("expert"), MAX_EXPERTS - 1)
            flat["load"] = self._integers("load", load, 2**63 - 1)
            yield flat


def read_table(path: PathLike) -> Recording:
    """Makes a recording from a table whose rows are in the order of their steps.

    The columns are `step`, `layer`, `expert` and `load`. If there is no column `step`, all rows are
    one step. If `load` holds lists over the experts, there is no column `expert`. Rows of the same
    step, layer and expert are added up.
    """
    table = _Table(path)
    layers: set[int] = set()
    experts, last = 0, -1
    for batch in table.batches():
        step = batch["step"]
        if not step.size:
            continue
        if int(step[0]) < last or (np.diff(step) < 0).any():
            fail(path, "step", "goes back, expected rows in the order of their steps")
        last = int(step[-1])
        layers.update(np.unique(batch["layer"]).tolist())
        experts = max(experts, int(batch["expert"].max()) + 1)
    if not layers:
        fail(path, "", "has no rows")
    numbers = tuple(sorted(layers))
    place = np.zeros(numbers[-1] + 1, np.int64)
    place[list(numbers)] = np.arange(len(numbers))

    def read() -> Iterator[IntArray]:
        load = np.zeros((len(numbers), experts), np.int64)
        current = -1
        for batch in table.batches():
            for number, rows in _runs(batch["step"]):
                if number != current and current >= 0:
                    yield counts(path, f"step {current}", load)[np.newaxis]
                    load = np.zeros_like(load)
                current = number
                where = (place[batch["layer"][rows]], batch["expert"][rows])
                np.add.at(load, where, batch["load"][rows])
        yield counts(path, f"step {current}", load)[np.newaxis]

    return Recording(path, read, 1, numbers, experts)


def _runs(step: IntArray) -> list[tuple[int, slice]]:
    """A list of (step, slice of its rows), one for each run of equal steps.

    >>> _runs(np.array([4, 4, 7]))
    [(4, slice(0, 2, None)), (7, slice(2, 3, None))]
    """
    edges = [0, *(np.flatnonzero(np.diff(step)) + 1).tolist(), len(step)]
    runs = zip(edges, edges[1:])
    return [(int(step[first]), slice(first, last)) for first, last in runs if last > first]
