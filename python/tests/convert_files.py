# SPDX-License-Identifier: MIT
"""Writes files in the engines' forms, for the tests of lplb.convert."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lplb import convert

IntArray = npt.NDArray[np.int64]


def random_load(seed: int, steps: int, layers: int, experts: int, entries: int) -> IntArray:
    """Loads [steps, layers, experts] whose rows sum to `entries`; no expert has most of a row."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(entries, rng.dirichlet(np.full(experts, 10.0)), size=(steps, layers))


def random_slots(seed: int, layers: int, experts: int, slots: int) -> IntArray:
    """A map [layers, slots] that has each expert in a slot of every layer."""
    rng = np.random.default_rng(seed)

    def row() -> IntArray:
        return rng.permutation(np.r_[0:experts, rng.integers(0, experts, slots - experts)])

    return np.stack([row() for _ in range(layers)])


def scatter(load: IntArray, slots: IntArray, seed: int) -> IntArray:
    """Counts of slots [..., layers, slots] that add up to `load` [..., layers, experts]."""
    rng = np.random.default_rng(seed)
    result = np.zeros((*load.shape[:-1], slots.shape[1]), np.int64)
    for index in np.ndindex(*load.shape[:-1]):
        for expert, tokens in enumerate(load[index]):
            own = np.flatnonzero(slots[index[-1]] == expert)
            result[index][own] = rng.multinomial(tokens, np.ones(len(own)) / len(own))
    return result


def sglang_stat(
    folder: pathlib.Path, load: IntArray, moment: float = 1732470000.25
) -> pathlib.Path:
    """The dump of SGLang's modes stat and stat_approx, which rank 0 writes."""
    torch = pytest.importorskip("torch")
    path = folder / f"expert_distribution_recorder_{moment}.pt"
    count = torch.tensor(load, dtype=torch.int32)
    dump = {"rank": 0, "logical_count": count, "average_utilization_rate_over_window": None}
    torch.save(dump, str(path))
    return path


def sglang_records(
    folder: pathlib.Path,
    rank: int,
    passes: Sequence[int],
    count: IntArray,
    slots: IntArray,
    topk: IntArray | None = None,
    moment: float = 1732470000.25,
) -> pathlib.Path:
    """One rank's dump in mode per_pass; in mode per_token if `topk` [passes, layers, tokens, 8] is
    given."""
    torch = pytest.importorskip("torch")
    records = []
    for index, number in enumerate(passes):
        record: dict[str, Any] = {"forward_pass_id": number, "rank": rank}
        record["gatherer_key"] = "primary"
        if topk is not None:
            tokens = topk.shape[2]
            dispatched = {
                "layer_id": 0,
                "num_tokens_per_rank": [tokens],
                "num_tokens_per_rdma_rank": [],
                "num_tokens_per_expert": [],
            }
            record |= {
                "input_ids": list(range(tokens)),
                "positions": list(range(tokens)),
                "extend_seq_lens": [tokens],
                "forward_mode": 1,
                "topk_ids_of_layer": torch.tensor(topk[index], dtype=torch.int32),
                "misc_objects": [dispatched],
            }
        record["global_physical_count"] = torch.tensor(count[index], dtype=torch.int32)
        records.append(record)
    path = folder / f"expert_distribution_recorder_{moment + rank}_{rank}.pt"
    torch.save({"records": records, "last_physical_to_logical_map": torch.tensor(slots)}, str(path))
    return path


def vllm_window(
    folder: pathlib.Path, rank: int, window: IntArray, slots: IntArray, **more: object
) -> pathlib.Path:
    """The file that the recipe of docs/convert.md saves on one rank of vLLM."""
    torch = pytest.importorskip("torch")
    path = folder / f"eplb_rank{rank}.pt"
    load = torch.tensor(window, dtype=torch.int32)
    arrays = {"expert_load_window": load, "physical_to_logical_map": torch.tensor(slots)}
    torch.save({**arrays, **more}, str(path))
    return path


def trtllm_statistics(
    folder: pathlib.Path,
    counts: IntArray,
    iterations: Sequence[int],
    layers: Sequence[int],
    num_topk: int,
) -> pathlib.Path:
    """TensorRT-LLM's statistics; `counts` [ranks, iterations, layers, experts]."""
    pytest.importorskip("torch")
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    folder.mkdir(exist_ok=True)
    for rank, of_rank in enumerate(counts):
        records = {
            f"{iteration}_{layer}": torch.tensor(of_rank[i, j])
            for i, iteration in enumerate(iterations)
            for j, layer in enumerate(layers)
        }
        safetensors.save_file(records, f"{folder}/rank{rank}.safetensors")
    meta = {"num_experts": counts.shape[-1], "num_experts_per_token": num_topk}
    (folder / "meta_info.json").write_text(json.dumps(meta))
    return folder


def refused(message: str) -> pytest.RaisesExc[convert.ConvertError]:
    """A context that expects a `ConvertError` whose text has a match of the pattern `message`."""
    return pytest.raises(convert.ConvertError, match=message)


def read_trace(path: pathlib.Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(header, steps) of a trace file."""
    header, *steps = [json.loads(line) for line in path.read_text().splitlines()]
    return header, steps


def trace_load(path: pathlib.Path) -> IntArray:
    """The loads [steps, layers, experts] of a trace file."""
    return np.array([step["load"] for step in read_trace(path)[1]])


def lplb_command() -> str:
    """The command lplb: $LPLB_COMMAND, or the one on PATH. Without one, the test is skipped."""
    command = os.environ.get("LPLB_COMMAND") or shutil.which("lplb")
    if command is None:
        pytest.skip("needs the command lplb on PATH, or its file in LPLB_COMMAND")
    return command


def run_program(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The finished run of a program, with what it printed as text."""
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options
    )


def run_lplb(line: str, folder: pathlib.Path) -> str:
    """Standard output of the command in `folder`, which must succeed. `line` is split at spaces."""
    done = run_program(lplb_command(), *line.split(), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
