# SPDX-License-Identifier: MIT
"""SGLang's expert distribution recorder: `expert_distribution_recorder_*.pt`.

Modes `stat` and `stat_approx` write one file, counts summed over the ranks. Modes `per_pass` and
`per_token` write a file a rank, records by forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.errors import PathLike, fail, shown
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_RANKS, IntArray, as_array, counts, integer, slot_map

File = tuple[PathLike, Any]


def read_stat(files: Sequence[File]) -> Recording:
    """Dumps of `stat` and `stat_approx`, one after the other: `logical_count` [steps, L, E].

    [L, E] is one step. The steps of a circular buffer are as they lie in it.
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
            fail(
                path,
                "logical_count",
                f"has shape {list(count.shape)}, expected [steps, layers, logical experts]",
            )
        if arrays and tuple(count.shape[1:]) != tuple(arrays[0].shape[1:]):
            fail(
                path,
                "logical_count",
                f"has shape {list(count.shape)}, expected [steps, "
                f"{arrays[0].shape[1]}, {arrays[0].shape[2]}] as in {files[0][0]}",
            )
        if count.shape[0] > 1 and count[-1].sum() > 0:
            notes.append(
                f"{path}: all {count.shape[0]} steps are filled. If that was the recorder's"
                " buffer size, earlier steps are lost and the order is not that of time"
            )
        arrays.append(count)

    def read() -> Iterator[IntArray]:
        for (path, _), array in zip(files, arrays):
            for step in range(array.shape[0]):
                yield counts(path, f"logical_count[{step}]", array[step])[np.newaxis]

    return Recording(
        files[0][0], read, 1, tuple(range(arrays[0].shape[1])), int(arrays[0].shape[2]), notes=notes
    )


class _Rank:
    """The records of one rank, found by (forward pass, occurrence)."""

    def __init__(self) -> None:
        self.order: list[tuple[int, int]] = []
        self.records: dict[tuple[int, int], tuple[PathLike, str, dict[str, Any]]] = {}

    def add(self, path: PathLike, records: list[Any]) -> None:
        seen: dict[int, int] = {}
        for index, record in enumerate(records):
            where = f"records[{index}]"
            forward_pass = integer(path, record, "forward_pass_id", 0, 2**63 - 1)
            # NOTE: a draft model numbers its passes itself: a number may occur twice in a file.
            step = (forward_pass, seen.get(forward_pass, 0))
            seen[forward_pass] = step[1] + 1
            if step in self.records:
                fail(
                    path,
                    f"{where}.forward_pass_id",
                    f"is {forward_pass}, which "
                    f"{self.records[step][0]} has for the same rank; expected each pass once",
                )
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
    """Experts a token has in a record of `per_token`; 0 where it does not tell."""
    ids = record.get("topk_ids_of_layer")
    if ids is None or not hasattr(ids, "shape") or len(ids.shape) != 3:
        return 0
    chosen = np.asarray(ids) >= 0
    return int(chosen.sum(axis=2).max(initial=0))


def read_records(files: Sequence[File]) -> Recording:
    """Dumps of `per_pass` and `per_token`, a file (or several) a rank, joined by forward pass."""
    ranks: dict[int, _Rank] = {}
    first: IntArray | None = None
    notes: list[str] = []
    num_topk = 0
    for path, content in files:
        records = _records(path, content)
        if "last_physical_to_logical_map" not in content:
            fail(path, "last_physical_to_logical_map", "is missing, expected [layers, slots]")
        slots = slot_map(
            path, "last_physical_to_logical_map", content["last_physical_to_logical_map"]
        )
        if first is None:
            first = slots
        elif not np.array_equal(first, slots):
            fail(
                path,
                "last_physical_to_logical_map",
                f"differs from that of {files[0][0]}, expected "
                "dumps without a rebalance in between",
            )
        rank = integer(path, records[0], "rank", 0, MAX_RANKS - 1)
        for index, record in enumerate(records):
            if record.get("rank") != rank:
                fail(
                    path,
                    f"records[{index}].rank",
                    f"is {shown(record.get('rank'))}, expected {rank} as in records[0]",
                )
        ranks.setdefault(rank, _Rank()).add(path, records)
        num_topk = max(num_topk, *(_width(record) for record in records))

    assert first is not None
    members = [ranks[rank] for rank in sorted(ranks)]
    if sorted(ranks) != list(range(len(ranks))):
        notes.append(
            f"files of ranks {', '.join(map(str, sorted(ranks)))}: others are missing, and "
            "their tokens are not counted"
        )
    order = common_steps(files[0][0], [member.order for member in members], notes, "forward passes")

    def read() -> Iterator[IntArray]:
        for step in order:
            rows = []
            for member in members:
                path, key, record = member.records[step]
                row = counts(path, key, record["global_physical_count"])
                if row.shape != first.shape:
                    fail(
                        path,
                        key,
                        f"has shape {list(row.shape)}, expected {list(first.shape)} as "
                        "last_physical_to_logical_map",
                    )
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
