# SPDX-License-Identifier: MIT
"""Makes recordings from tables of loads, with a row for each step, layer and expert."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from lplb.convert.errors import PathLike, fail, first_line, shown
from lplb.convert.files import check_readable
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_EXPERTS, MAX_LAYERS, Counts, IntArray, counts, whole_numbers

ROWS = 65536  # how many rows are read at once

# The names that a column may have.
_NAMES = {
    "step": ("step", "step_id", "iteration", "forward_pass_id"),
    "layer": ("layer", "layer_id", "layer_idx"),
    "expert": ("expert", "expert_id", "expert_idx"),
    "load": ("load", "count"),
    "ids": ("indices", "topk_ids", "topk_idx", "expert_ids"),
}
_MOST = {"step": 2**62, "layer": MAX_LAYERS - 1, "expert": MAX_EXPERTS - 1}


class Table(Protocol):
    """A file of rows."""

    path: PathLike

    def batches(self) -> Iterator[dict[str, Counts]]:
        """Rows as flat arrays of equal length: step, layer, expert, load."""


def columns_of(names: Iterable[str]) -> dict[str, str]:
    """The name in a file of each column that is known.

    >>> columns_of(["layer_id", "expert_id", "count"])
    {'layer': 'layer_id', 'expert': 'expert_id', 'load': 'count'}
    """
    here = list(names)
    return {
        column: name for column, known in _NAMES.items() for name in known[::-1] if name in here
    }


def checked(path: PathLike, column: str, key: str, values: object) -> Counts:
    """The values of a column, in its range; `key` names it in messages."""
    if column == "load":
        return counts(path, key, values)
    array = whole_numbers(path, key, values)
    if array.size and int(array.max()) > _MOST[column]:
        fail(path, key, f"holds {int(array.max())}, expected 0 to {_MOST[column]}")
    return array


class CsvTable:
    """A CSV file, such as the `layer_id,expert_id,count` that older versions of SGLang dump."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        check_readable(path)

    def _number(self, line: int, name: str, text: str) -> int | float:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        fail(self.path, f"line {line}, {name}", f"is {shown(text)}, expected a number")

    def batches(self) -> Iterator[dict[str, Counts]]:
        """Rows as flat arrays of equal length: step, layer, expert, load."""
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                yield from self._batches(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            fail(self.path, "", f"is no CSV file: {first_line(error)}")

    def _batches(self, reader: Iterator[list[str]]) -> Iterator[dict[str, Counts]]:
        header = [name.strip() for name in next(reader, [])]
        columns = columns_of(header)
        if not {"layer", "expert", "load"} <= set(columns):
            has = f"has columns {', '.join(header) or 'none'}"
            fail(self.path, "", f"{has}, expected layer, expert and load, and perhaps step")
        line = 1
        while rows := list(itertools.islice(reader, ROWS)):
            flat: dict[str, list[int | float]] = {column: [] for column in columns}
            for row in rows:
                line += 1
                if not row:
                    continue
                if len(row) != len(header):
                    fail(
                        self.path, f"line {line}", f"has {len(row)} values, expected {len(header)}"
                    )
                for column, name in columns.items():
                    text = row[header.index(name)]
                    flat[column].append(self._number(line, name, text))
            batch = {
                column: checked(self.path, column, columns[column], np.array(values))
                for column, values in flat.items()
                if column != "ids"
            }
            yield {"step": np.zeros_like(batch["layer"]), **batch}


def _runs(step: IntArray) -> list[tuple[int, slice]]:
    """A list of (step, slice of its rows), one for each run of equal steps.

    >>> _runs(np.array([4, 4, 7]))
    [(4, slice(0, 2, None)), (7, slice(2, 3, None))]
    """
    edges = [0, *(np.flatnonzero(np.diff(step)) + 1).tolist(), len(step)]
    runs = zip(edges, edges[1:])
    return [(int(step[first]), slice(first, last)) for first, last in runs if last > first]


class _Rank:
    """The sizes of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.steps: list[tuple[int, int]] = []
        self.layers: set[int] = set()
        self.experts = 0
        self.whole = True
        for batch in table.batches():
            step = batch["step"]
            if not step.size:
                continue
            last = self.steps[-1][0] if self.steps else -1
            if int(step[0]) < last or (np.diff(step) < 0).any():
                fail(table.path, "step", "goes back, expected rows in the order of their steps")
            self.steps += [(number, 0) for number, _ in _runs(step) if number != last]
            self.layers.update(np.unique(batch["layer"]).tolist())
            self.experts = max(self.experts, int(batch["expert"].max()) + 1)
            self.whole &= batch["load"].dtype.kind != "f"
        if not self.layers:
            fail(table.path, "", "has no rows")

    def loads(self, place: IntArray, layers: int, experts: int) -> Iterator[tuple[int, Counts]]:
        """(step, load [layers, experts]) of each step; `place` has the row of each layer."""
        kind = np.int64 if self.whole else np.float64
        load: Counts = np.zeros((layers, experts), kind)
        current = self.steps[0][0]
        for batch in self.table.batches():
            for number, rows in _runs(batch["step"]):
                if number != current:
                    yield current, counts(self.table.path, f"step {current}", load)
                    load = np.zeros_like(load)
                    current = number
                where = (place[batch["layer"][rows]], batch["expert"][rows])
                np.add.at(load, where, batch["load"][rows])
        yield current, counts(self.table.path, f"step {current}", load)


def read_tables(tables: Sequence[Table], num_experts: int | None) -> Recording:
    """Makes a recording from tables whose rows are in the order of their steps.

    Each table has the counts of one rank. The columns are `step`, `layer`, `expert` and `load`; if
    there is no column `step`, all rows are one step. Rows of the same step, layer and expert are
    added up. An expert without a row has no token; `num_experts` says how many there are, if the
    last ones have none.
    """
    ranks = [_Rank(table) for table in tables]
    path = tables[0].path
    layers = tuple(sorted(set().union(*(rank.layers for rank in ranks))))
    seen = max(rank.experts for rank in ranks)
    experts = num_experts or seen
    if experts < seen:
        fail(path, "expert", f"holds {seen - 1}, expected 0 to {experts - 1} (num_experts)")
    place = np.zeros(layers[-1] + 1, np.int64)
    place[list(layers)] = np.arange(len(layers))
    notes: list[str] = []
    order = common_steps(path, [rank.steps for rank in ranks], notes, "steps")

    def read() -> Iterator[Counts]:
        kept = {number for number, _ in order}
        loads = [
            (load for number, load in rank.loads(place, len(layers), experts) if number in kept)
            for rank in ranks
        ]
        for step in zip(*loads):
            yield np.stack(step)

    return Recording(path, read, len(ranks), layers, experts, notes=notes)
