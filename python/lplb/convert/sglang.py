# SPDX-License-Identifier: MIT
"""Reads the files of SGLang's expert distribution recorder, `expert_distribution_recorder_*.pt`.

Modes `stat` and `stat_approx` write one file, with counts summed over the ranks. Modes `per_pass`
and `per_token` write one file a rank, with one record for each forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, fail_shape, shown
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_RANKS, IntArray, as_array, counts, integer, slot_map

File = tuple[PathLike, Any]

_MAP = "last_physical_to_logical_map"


def read_stat(files: Sequence[File]) -> Recording:
    """Makes a recording from dumps of `stat` and `stat_approx`, in the order of time.

    Each holds `logical_count` [steps, layers, experts], or [layers, experts] for one step. The
    recorder keeps steps in a ring buffer and dumps the ring buffer as it is, so the order is not
    that of time once the buffer has been full.
    """
    arrays: list[Any] = []
    notes: list[str] = []
    for path, content in files:
        count = content["logical_count"]
        if not hasattr(count, "shape"):
            count = as_array(path, "logical_count", count)
        if len(count.shape) == 2:
            count = count[np.newaxis] if isinstance(count, np.ndarray) else count.unsqueeze(0)
        if len(count.shape) != 3:
            fail_shape(path, "logical_count", count, "[steps, layers, logical experts]")
        arrays.append(count)
        _, layers, experts = arrays[0].shape
        if tuple(count.shape[1:]) != (layers, experts):
            expected = f"[steps, {layers}, {experts}] as in {files[0][0]}"
            fail_shape(path, "logical_count", count, expected)
        if count.shape[0] > 1 and count[-1].sum() > 0:
            notes.append(
                f"{path}: all {count.shape[0]} steps are filled. If that was the recorder's"
                " buffer size, earlier steps are lost and the order is not that of time"
            )

    def read() -> Iterator[IntArray]:
        for (path, _), array in zip(files, arrays):
            for step in range(array.shape[0]):
                yield counts(path, f"logical_count[{step}]", array[step])[np.newaxis]

    return Recording(files[0][0], read, 1, tuple(range(layers)), int(experts), notes=notes)


class _Rank:
    """The records of one rank, by (forward pass, occurrence)."""

    def __init__(self) -> None:
        self.order: list[tuple[int, int]] = []
        self.records: dict[tuple[int, int], tuple[PathLike, str, dict[str, Any]]] = {}

    def add(self, path: PathLike, records: list[Any]) -> None:
        seen: dict[int, int] = {}
        for index, record in enumerate(records):
            where = f"records[{index}]"
            forward_pass = integer(path, record, "forward_pass_id", 0, 2**63 - 1)
            # NOTE: a draft model has its own pass numbers, so one number may occur twice in a file.
            step = (forward_pass, seen.get(forward_pass, 0))
            seen[forward_pass] = step[1] + 1
            if step in self.records:
                other = f"which {self.records[step][0]} has for the same rank"
                problem = f"is {forward_pass}, {other}; expected each pass once"
                fail(path, f"{where}.forward_pass_id", problem)
            if "global_physical_count" not in record:
                fail(path, where, "has no global_physical_count, expected [layers, slots]")
            self.order.append(step)
            self.records[step] = (path, f"{where}.global_physical_count", record)


def _records(path: PathLike, content: Any) -> list[Any]:
    records = content["records"]
    if not isinstance(records, list) or not records:
        fail(path, "records", f"is {shown(records)}, expected a list of forward passes")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            fail(path, f"records[{index}]", f"is {shown(record)}, expected a dict")
    return records


def _width(record: dict[str, Any]) -> int:
    """The number of experts of a token in a record of `per_token`; 0 if it has no ids."""
    ids = record.get("topk_ids_of_layer")
    if ids is None or not hasattr(ids, "shape") or len(ids.shape) != 3:
        return 0
    chosen = np.asarray(ids) >= 0
    return int(chosen.sum(axis=2).max(initial=0))


def read_records(files: Sequence[File]) -> Recording:
    """Makes a recording from dumps of `per_pass` and `per_token`, one or more files a rank.

    Records of different ranks are joined by their forward pass.
    """
    ranks: dict[int, _Rank] = {}
    first: IntArray | None = None
    notes: list[str] = []
    num_topk = 0
    for path, content in files:
        records = _records(path, content)
        if _MAP not in content:
            fail(path, _MAP, "is missing, expected [layers, slots]")
        slots = slot_map(path, _MAP, content[_MAP])
        if first is None:
            first = slots
        elif not np.array_equal(first, slots):
            expected = "expected dumps without a rebalance in between"
            fail(path, _MAP, f"differs from that of {files[0][0]}, {expected}")
        rank = integer(path, records[0], "rank", 0, MAX_RANKS - 1)
        for index, record in enumerate(records):
            if record.get("rank") != rank:
                problem = f"is {shown(record.get('rank'))}, expected {rank} as in records[0]"
                fail(path, f"records[{index}].rank", problem)
        ranks.setdefault(rank, _Rank()).add(path, records)
        num_topk = max(num_topk, *(_width(record) for record in records))

    assert first is not None
    members = [ranks[rank] for rank in sorted(ranks)]
    if sorted(ranks) != list(range(len(ranks))):
        listed = ", ".join(map(str, sorted(ranks)))
        missing = "others are missing, and their tokens are not counted"
        notes.append(f"files of ranks {listed}: {missing}")
    order = common_steps(files[0][0], [member.order for member in members], notes, "forward passes")

    def read() -> Iterator[IntArray]:
        for step in order:
            rows = []
            for member in members:
                path, key, record = member.records[step]
                row = counts(path, key, record["global_physical_count"])
                if row.shape != first.shape:
                    fail_shape(path, key, row, f"{list(first.shape)} as {_MAP}")
                rows.append(row)
            yield np.stack(rows)

    return Recording(
        files[0][0],
        read,
        len(members),
        tuple(range(first.shape[0])),
        int(first.shape[1]),
        physical_to_logical=first,
        num_topk=num_topk or None,
        notes=notes,
    )
