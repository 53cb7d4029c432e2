# SPDX-License-Identifier: MIT
"""Many replays, on one machine or many."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from typing import Any

from lplb._frame import flat, frame_of
from lplb._progress import line_of
from lplb._simulate import simulate

Setting = Mapping[str, Any]
Progress = Callable[[int, int], None]


class SweepResult:
    """The figures of all replays.

    Attributes
    ----------
    rows : list of dict
        One for each trace, setting and policy: "trace", the setting's keys, "policy", and the
        policy's figures with dots between their keys, such as "imbalance.mean". In the order of the
        traces and settings, whatever ended first.
    failures : list of dict
        One for each replay that failed: "trace", the setting's keys, and "error".
    """

    def __init__(self, rows: list[dict[str, Any]], failures: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.failures = failures

    def __repr__(self) -> str:
        return f"SweepResult({len(self.rows)} rows, {len(self.failures)} failures)"

    def to_frame(self) -> Any:
        """The rows as a pandas.DataFrame. ImportError without pandas."""
        return frame_of(self.rows)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return str(self.to_frame().to_html())


def sweep(
    traces: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    settings: Mapping[str, Sequence[Any]] | Sequence[Setting],
    *,
    executor: Executor | None = None,
    progress: Progress | bool = False,
) -> SweepResult:
    """Replays traces with many settings, and gathers the figures in one table.

    Parameters
    ----------
    traces : path, or sequence of paths
        As :func:`simulate` takes them. With an executor on other machines they must be there too.
    settings : mapping, or sequence of mappings
        A mapping has values for each argument of :func:`simulate`, and all combinations are
        replayed: `{"redundants": range(5), "policies": [["eplb", "eplb+lplb"]]}`. A sequence has
        the arguments of each replay.
    executor : concurrent.futures.Executor, optional
        Runs the replays: a pool of this machine, or a cluster's (Dask: `client.get_executor()`).
        None: one after the other, in this thread.
    progress : callable or bool
        Called with (replays done, all replays). True: a line on standard error.

    Returns
    -------
    SweepResult
        A replay that fails is in its `failures`, and the others are kept. Ctrl-C cancels what has
        not begun.

    Examples
    --------
    >>> import lplb
    >>> result = lplb.sweep("synthetic:W1_hot_expert_set", {"redundants": [0, 2]})
    >>> [(row["redundants"], row["policy"]) for row in result.rows][:2]
    [(0, 'none'), (0, 'eplb')]
    """
    names = [traces] if isinstance(traces, (str, os.PathLike)) else list(traces)
    parts = [(os.fspath(name), setting) for name in names for setting in _combined(settings)]
    tell = line_of("replays") if progress is True else progress if callable(progress) else None
    found: list[Any] = [None] * len(parts)
    for done, (i, outcome) in enumerate(_outcomes(parts, executor), 1):
        found[i] = outcome
        if tell is not None:
            tell(done, len(parts))
    rows, failures = [], []
    for (trace, setting), outcome in zip(parts, found, strict=True):
        if isinstance(outcome, Exception):
            error = f"{type(outcome).__name__}: {outcome}"
            failures.append({"trace": trace, **setting, "error": error})
        else:
            rows += [{"trace": trace, **setting, **row} for row in outcome]
    return SweepResult(rows, failures)


def _combined(settings: Mapping[str, Sequence[Any]] | Sequence[Setting]) -> list[Setting]:
    if not isinstance(settings, Mapping):
        return [dict(setting) for setting in settings]
    for name, values in settings.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise TypeError(f'settings["{name}"]: is {values!r}, expected a sequence of values')
    return [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]


def _part(trace: str, setting: Setting) -> list[dict[str, Any]]:
    """The rows of one replay. At the top of the module, so that other processes find it."""
    rows = []
    for policy in simulate(trace, **setting)["policies"]:
        rows.append({"policy": policy["name"], **flat(policy)})
    return rows


def _outcomes(
    parts: Sequence[tuple[str, Setting]], executor: Executor | None
) -> Iterator[tuple[int, Any]]:
    """(position in parts, rows or exception), in the order in which they end."""
    if executor is None:
        for i, (trace, setting) in enumerate(parts):
            try:
                yield i, _part(trace, setting)
            except Exception as error:
                yield i, error
        return
    futures = {executor.submit(_part, *part): i for i, part in enumerate(parts)}
    try:
        for future in as_completed(futures):
            failed = future.exception()
            if failed is not None and not isinstance(failed, Exception):
                raise failed
            yield futures[future], future.result() if failed is None else failed
    finally:
        for future in futures:
            future.cancel()
