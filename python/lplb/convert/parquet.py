# SPDX-License-Identifier: MIT
"""Reads Parquet tables, of loads or of chosen experts, in batches of rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.choices import Ids, Options, read_choices
from lplb.convert.errors import PathLike, fail, first_line, need
from lplb.convert.files import check_readable
from lplb.convert.recording import Recording
from lplb.convert.tables import ROWS, checked, columns_of
from lplb.convert.values import MAX_LAYERS, Counts, whole_numbers

_LAYER_FILE = re.compile(r"layer_?(\d+)")


class ParquetTable:
    """A table with columns layer, load, expert if load is a number, and perhaps step; or with a
    list of chosen experts for each token."""

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
        self.columns = columns_of(types)
        self.has_choices = "ids" in self.columns and "load" not in self.columns
        if self.has_choices:
            return
        if not {"layer", "load"} <= set(self.columns):
            numbers = "expert if load is a number, and step if there are several"
            has = f"has columns {', '.join(types)}"
            problem = f"{has}, expected layer and load, and {numbers}; or indices, chosen experts"
            fail(path, "", problem)
        load = types[self.columns["load"]]
        self.in_lists = pyarrow.types.is_list(load) or pyarrow.types.is_large_list(load)
        if not self.in_lists and "expert" not in self.columns:
            fail(path, "", "has no column expert, expected one, or lists in column load")

    def _rows(self, columns: Sequence[str]) -> Iterator[Any]:
        """Batches of rows with these columns, as Arrow's objects."""
        names = [self.columns[column] for column in columns]
        batches = self._file.iter_batches(ROWS, columns=names)
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:  # Arrow raises many types for a damaged file
                fail(self.path, "", f"is no whole Parquet file: {first_line(error)}")
            if batch is None:
                return
            yield batch

    def _column(self, batch: Any, column: str) -> Any:
        """A column of a batch, which must have no empty value."""
        values = batch.column(self.columns[column])
        if values.null_count:
            fail(self.path, self.columns[column], "has an empty value, expected integers")
        return values

    def _numbers(self, batch: Any, column: str) -> Counts:
        values = self._column(batch, column).to_numpy(zero_copy_only=False)
        return checked(self.path, column, self.columns[column], values)

    def batches(self) -> Iterator[dict[str, Counts]]:
        """Rows as flat arrays of equal length: step, layer, expert, load."""
        wanted = [name for name in ("step", "layer", "expert", "load") if name in self.columns]
        for batch in self._rows([name for name in wanted if name != "expert" or not self.in_lists]):
            flat = {"layer": self._numbers(batch, "layer")}
            flat["step"] = np.zeros(batch.num_rows, np.int64)
            if "step" in self.columns:
                flat["step"] = self._numbers(batch, "step")
            if self.in_lists:
                load = self._column(batch, "load")
                lengths = np.asarray(load.value_lengths(), np.int64)
                flat = {key: np.repeat(value, lengths) for key, value in flat.items()}
                starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
                flat["expert"] = np.arange(int(lengths.sum())) - starts
                entries = load.flatten()
                if entries.null_count:
                    fail(self.path, "load", "has an empty value, expected integers")
                values = entries.to_numpy(zero_copy_only=False)
                flat["load"] = checked(self.path, "load", self.columns["load"], values)
            else:
                flat["expert"] = self._numbers(batch, "expert")
                flat["load"] = self._numbers(batch, "load")
            yield flat

    def choices(self) -> Iterator[Ids]:
        """The chosen experts [tokens, topk] of a batch of rows."""
        for batch in self._rows(["ids"]):
            lists = self._column(batch, "ids")
            lengths = set(np.asarray(lists.value_lengths(), np.int64).tolist())
            if len(lengths) > 1:
                key = self.columns["ids"]
                fail(self.path, key, "has lists of unequal length, expected one for all tokens")
            if not lengths:
                continue
            values = lists.flatten().to_numpy(zero_copy_only=False)
            ids = whole_numbers(self.path, self.columns["ids"], values, "expert ids")
            yield ids.reshape(-1, lengths.pop())

    def num_tokens(self) -> int:
        """How many rows the table has."""
        return int(self._file.metadata.num_rows)

    def layer(self) -> int:
        """The model's number of the layer, which the file's name says; otherwise 0."""
        match = _LAYER_FILE.search(os.path.basename(os.fspath(self.path)))
        return min(int(match.group(1)), MAX_LAYERS) if match else 0


def read_choice_tables(tables: Sequence[ParquetTable], options: Options) -> Recording:
    """Makes a recording from tables of chosen experts, one a layer, as FLAME-MoE publishes them.

    A row is a token, the same one in each table, and `indices` its experts. The layer's number is
    in the file's name, as in layer_02.parquet. All tokens are one step.
    """
    tables = sorted(tables, key=ParquetTable.layer)
    layers = tuple(table.layer() for table in tables)
    for before, table in zip(tables, tables[1:]):
        if table.layer() == before.layer():
            expected = "expected names with the layer's number, such as layer_02.parquet"
            fail(table.path, "", f"is layer {table.layer()} as {before.path}, {expected}")
        if table.num_tokens() != before.num_tokens():
            has = f"has {table.num_tokens()} rows"
            fail(table.path, "", f"{has}, expected {before.num_tokens()} as {before.path}")

    def steps() -> Iterator[tuple[PathLike, str, Ids]]:
        width = 0
        rows: list[Ids] = []
        for batch in zip(*(table.choices() for table in tables)):
            width = width or batch[0].shape[1]
            for table, ids in zip(tables, batch):
                if ids.shape != (len(batch[0]), width):
                    expected = f"expected {width} as the rows before"
                    fail(table.path, "", f"has lists of {ids.shape[1]}, {expected}")
            rows.append(np.stack(batch, axis=1).astype(np.int16))
        if not rows:
            fail(tables[0].path, "", "has no rows")
        yield tables[0].path, tables[0].columns["ids"], np.concatenate(rows)[np.newaxis]

    return read_choices(tables[0].path, steps, layers, 1, options)
