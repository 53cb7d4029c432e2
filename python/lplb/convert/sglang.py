# SPDX-License-Identifier: MIT
"""Reads the files of SGLang's expert distribution recorder, `expert_distribution_recorder_*.pt`.

Modes `stat` and `stat_approx` write one file, with counts summed over the ranks. Modes `per_pass`
and `per_token` write one file a rank, with one record for each forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lplb.convert.arrays import read_loads
from lplb.convert.choices import Repeats
from lplb.convert.errors import ConvertError, PathLike, fail, fail_shape, shown
from lplb.convert.layout import EXPECTED, Layout, parse_layout
from lplb.convert.recording import Recording, common_steps
from lplb.convert.values import MAX_RANKS, Counts, IntArray, as_array, counts, integer, slot_map

File = tuple[PathLike, Any]

_MAP = "last_physical_to_logical_map"
_COUNT, _LAYOUT = "logical_count", "logical_count_layout"


def _layout_of(files: Sequence[File]) -> Layout | None:
    """The layout that the files name; None if they name none."""
    names = {str(content.get(_LAYOUT)) for _, content in files}
    if len(names) > 1:
        fail(files[0][0], _LAYOUT, f"is not the same in all files: {', '.join(sorted(names))}")
    name = names.pop()
    if name == "None":
        return None
    try:
        return parse_layout(name)
    except ConvertError:
        fail(files[0][0], _LAYOUT, f"is {shown(name)}, expected {EXPECTED}")


def read_stat(files: Sequence[File], layout: Layout | None = None) -> Recording:
    """Makes a recording from dumps of `stat` and `stat_approx`, in the order of time.

    Each holds `logical_count` [steps, layers, experts], or [layers, experts] for one step; or with
    the axes that `layout` or the file's own key `logical_count_layout` names. The recorder keeps
    steps in a ring buffer and dumps the ring buffer as it is, so the order is not that of time once
    the buffer has been full.
    """
    layout = layout or _layout_of(files)
    named = [(path, _COUNT, content[_COUNT]) for path, content in files]
    recording = read_loads(named, layout, known=True)
    for path, _, value in named:
        count = as_array(path, _COUNT, value)
        if layout is None and count.ndim == 3 and len(count) > 1 and count[-1].any():
            recording.note(
                f"{path}: all {count.shape[0]} steps are filled. If that was the recorder's"
                " buffer size, earlier steps are lost and the order is not that of time"
            )
    return recording


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


def _ids(record: dict[str, Any]) -> IntArray | None:
    """The chosen experts [layers, tokens, topk] in a record of `per_token`; None if it has none."""
    ids: Any = record.get("topk_ids_of_layer")
    return np.asarray(ids) if hasattr(ids, "shape") and len(ids.shape) == 3 else None


def read_records(files: Sequence[File]) -> Recording:
    """Makes a recording from dumps of `per_pass` and `per_token`, one or more files a rank.

    Records of different ranks are joined by their forward pass.
    """
    ranks: dict[int, _Rank] = {}
    first: IntArray | None = None
    notes: list[str] = []
    num_topk = 0
    repeats = Repeats()
    chosen = counted = 0
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
        for record in records:
            ids = _ids(record)
            if ids is None:
                continue
            repeats.add(ids.transpose(1, 0, 2))
            num_topk = max(num_topk, int((ids >= 0).sum(axis=2).max(initial=0)))
            chosen += int((ids >= 0).sum())
            counted += int(np.asarray(record.get("global_physical_count", 0)).sum())

    assert first is not None
    if frequent := repeats.frequent():
        share = sum(frequent.values()) / repeats.total
        what = f"{share:.0%} of the tokens choose the very same experts as one another"
        notes.append(f"{files[0][0]}: {what}; warm-up? --skip-steps N leaves out the first steps")
    if 0 < counted < chosen and num_topk * counted % chosen == 0:
        # Shared experts are among the choices, but are not counted.
        width, num_topk = num_topk, num_topk * counted // chosen
        shared = f"{width} experts, of which {num_topk} are counted; the others are shared experts"
        notes.append(f"{files[0][0]}: a token has {shared}")
    members = [ranks[rank] for rank in sorted(ranks)]
    if sorted(ranks) != list(range(len(ranks))):
        listed = ", ".join(map(str, sorted(ranks)))
        missing = "others are missing, and their tokens are not counted"
        notes.append(f"files of ranks {listed}: {missing}")
    order = common_steps(files[0][0], [member.order for member in members], notes, "forward passes")

    def read() -> Iterator[Counts]:
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
