# SPDX-License-Identifier: MIT
"""Copies, files and faces of planners, placements, splits and reports."""

from __future__ import annotations

import copy
import io
import json
import pathlib
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lplb
from lplb import topology

PLACEMENT = lplb.Placement([0, 1, 2, 0, 1, 3], num_ranks=2)
IDS = np.array([[0, 1], [2, 0], [1, -1], [3, 1]])


def make_planner(**options: Any) -> lplb.Planner:
    return lplb.Planner(PLACEMENT, rank=0, same_tokens=True, num_topk=2, **options)


def through_pickle(planner: Any) -> Any:
    return pickle.loads(pickle.dumps(planner))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, through_pickle])
def test_a_copy_of_a_planner_plans_alike_and_shares_nothing(again: Any) -> None:
    planner = make_planner(keep_history=True, max_redundants=4, num_layers=2)
    other = lplb.Placement([0, 1, 2, 3, 3, 0], num_ranks=2)
    planner.update_placement(other, layer=1)
    expected = planner.run(IDS, layer=1)
    made = again(planner)
    assert type(made) is lplb.Planner and made.num_layers == 2
    assert made.placement(0) == PLACEMENT and made.placement(1) == other
    assert made.stats().batches == 0
    assert np.array_equal(made.run(IDS, layer=1), expected)
    assert (made.stats().batches, planner.stats().batches) == (1, 1)
    assert made.load_history().sum() == planner.load_history().sum()
    made.update_placement(PLACEMENT, layer=1)
    assert planner.placement(1) == other
    made.update_placement(lplb.Placement([0, 1, 2, 3, 3, 0, 0, 1], num_ranks=2), layer=0)
    with pytest.raises(ValueError, match="max_redundants"):
        made.update_placement(lplb.Placement([0, 1, 2, 3, 3, 0, 0, 1, 2, 2], 2), layer=0)


def test_a_module_that_holds_a_planner_is_a_module() -> None:
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))
            self.planner = make_planner()

    globals()["Layer"] = Layer  # where pickle looks for it
    Layer.__qualname__ = "Layer"
    layer = Layer()
    assert list(layer.state_dict()) == ["weight"]
    layer.load_state_dict(copy.deepcopy(layer).state_dict())
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    ids = torch.from_numpy(IDS)
    assert torch.equal(loaded.planner.run(ids), layer.planner.run(ids))


def test_a_planner_with_a_group_says_why_it_cannot_be_pickled(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        planner = lplb.Planner(
            lplb.Placement([0, 1], num_ranks=1), group=torch.distributed.group.WORLD
        )
        assert copy.deepcopy(planner).group is planner.group
        with pytest.raises(TypeError, match=r"group: .* state_dict\(\)"):
            pickle.dumps(planner)
    finally:
        torch.distributed.destroy_process_group()


def test_a_planner_is_shown_and_closed() -> None:
    with make_planner(num_layers=3) as planner:
        assert repr(planner) == (
            "Planner(3 layers, rank 0 of 2, Placement(4 experts in 6 slots on 2 ranks))"
        )
        planner.run(IDS)


@pytest.mark.parametrize("cost", [None, lplb.CostModel.weights_only()])
def test_splits_can_be_pickled(cost: lplb.CostModel | None) -> None:
    split = lplb.solve(PLACEMENT, [7, 5, 2, 1], cost=cost)
    again = through_pickle(split)
    for name in ("status", "solver", "max_load", "lower_bound", "max_cost", "cost_lower_bound"):
        assert getattr(again, name) == getattr(split, name), name
    assert np.array_equal(again.physical_load, split.physical_load)
    assert again.imbalance == split.imbalance
    again.verify()
    assert np.array_equal(copy.deepcopy(split).rank_load, split.rank_load)


def test_topologies_can_be_pickled() -> None:
    table = [[1, 2], [2, 0], [0, 1]]
    for made in (topology.cube(), topology.torus(2, 3), topology.custom(table, name="mine")):
        for again in (through_pickle(made), copy.deepcopy(made)):
            assert again.name == made.name and np.array_equal(again.r2o, made.r2o)


def test_arrays_of_a_placement_are_read_only() -> None:
    for name in (
        "physical_to_logical",
        "logical_to_physical",
        "replica_count",
        "rank_speed",
        "rank_alive",
    ):
        array = getattr(PLACEMENT, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_placement_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.json"
    rich = lplb.Placement(
        [0, 1, 1, 0], 4, num_nodes=2, rank_speed=[1, 2, 1, 0.1], rank_alive=[1, 1, 0, 1]
    )
    for placement in (PLACEMENT, rich):
        placement.save(path)
        assert lplb.Placement.load(path) == placement
        again = lplb.Placement.load(path)
        assert again.rank_speed.tolist() == placement.rank_speed.tolist()
    wide = lplb.Placement([0, 1, 2, 3, 3, 0, 1, 1], num_ranks=2)
    lplb.Placement.save_layers(path, [PLACEMENT, wide], layers=[3, 7])
    assert json.loads(path.read_text())["layers"] == [3, 7]
    assert lplb.Placement.load_layers(path) == [PLACEMENT, wide]
    with pytest.raises(ValueError, match=r"p.json: has 2 layers; load_layers\(\)"):
        lplb.Placement.load(path)
    # A report's placements are files, too.
    report = lplb.simulate("synthetic:W1_hot_expert_set", policies="eplb+lplb")
    path.write_text(report.placements["eplb+lplb"])
    assert lplb.Placement.load_layers(path) == report.placement("eplb+lplb")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not valid JSON"),
        ("[]", "bad.json: "),
        ('{"num_ranks": 2}', "key 'physical_to_logical' is missing"),
        ('{"physical_to_logical": [0], "num_ranks": 2, "num_logical_experts": 1}', "num_ranks"),
    ],
)
def test_bad_placement_files(tmp_path: pathlib.Path, text: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        lplb.Placement.load(tmp_path / "bad.json")


def test_layers_of_one_file_must_be_alike(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(ValueError, match="placements: is empty"):
        lplb.Placement.save_layers(path, [])
    with pytest.raises(ValueError, match=r"placements\[1\]: has num_ranks 3"):
        lplb.Placement.save_layers(path, [PLACEMENT, lplb.Placement([0, 1, 2, 3, 0, 1], 3)])
    slow = lplb.Placement(PLACEMENT.physical_to_logical, 2, rank_speed=[1, 2])
    with pytest.raises(ValueError, match=r"placements\[1\]: has another rank_speed"):
        lplb.Placement.save_layers(path, [PLACEMENT, slow])
    assert not path.exists()


def test_reports_are_shown() -> None:
    report = lplb.simulate("synthetic:W0_balanced", policies="none")
    assert repr(report) == "SimulateReport(synthetic:W0_balanced: mean imbalance none 1.000)"
    shown = report._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "&lt;!DOCTYPE html&gt;" in shown
    again = through_pickle(report)
    assert again == report and again.html == report.html


def test_reports_are_frames() -> None:
    report = lplb.simulate("synthetic:W0_balanced", policies="none")
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        with pytest.raises(ImportError, match=r"to_frame\(\) needs pandas"):
            report.to_frame()
        return
    frame = report.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc[0, "imbalance.mean"] == report["policies"][0]["imbalance"]["mean"]


SETTINGS: dict[str, Any] = {
    "redundants": [0, 1],
    "policies": [["eplb", "eplb+lplb"]],
    "window": [2, 4],
}


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor, ProcessPoolExecutor])
def test_sweeps_are_the_replays_one_by_one(pool: type[Executor] | None) -> None:
    told: list[tuple[int, int]] = []
    traces = ["synthetic:W1_hot_expert_set", "synthetic:W6_rotating_hotspot"]
    executor: Any = None if pool is None else pool(2)  # type: ignore[call-arg]
    result = lplb.sweep(
        traces, SETTINGS, executor=executor, progress=lambda *done: told.append(done)
    )
    if executor is not None:
        executor.shutdown()
    assert told == [(i, 8) for i in range(1, 9)]
    assert result.failures == [] and len(result.rows) == 2 * 2 * 2 * 2
    row = result.rows[-1]
    assert (row["trace"], row["redundants"], row["window"], row["policy"]) == (
        traces[1],
        1,
        4,
        "eplb+lplb",
    )
    alone = lplb.simulate(traces[1], redundants=1, policies=["eplb", "eplb+lplb"], window=4)
    assert row["imbalance.mean"] == alone.policy("eplb+lplb")["imbalance"]["mean"]
    assert row["moved_experts.total"] == alone.policy("eplb+lplb")["moved_experts"]["total"]
    assert repr(result) == "SweepResult(16 rows, 0 failures)"


def test_a_replay_that_fails_is_named_and_the_rest_kept() -> None:
    result = lplb.sweep(
        ["synthetic:W0_balanced", "no-such-file"],
        [{"redundants": 1, "policies": "eplb"}, {"num_ranks": 7, "policies": "none"}],
    )
    assert [row["redundants"] for row in result.rows] == [1]
    assert [failure["trace"] for failure in result.failures] == [
        "synthetic:W0_balanced",
        "no-such-file",
        "no-such-file",
    ]
    assert result.failures[0]["num_ranks"] == 7
    assert result.failures[0]["error"].startswith("ValueError: ")
    assert result.failures[1]["error"].startswith("FileNotFoundError: ")
    with pytest.raises(TypeError, match=r'settings\["redundants"\]: is 3, expected a sequence'):
        lplb.sweep("synthetic:W0_balanced", {"redundants": 3})  # type: ignore[dict-item]


USER_PROGRAM = """
import numpy as np
import lplb

placement = lplb.Placement([0, 1, 2, 0], num_ranks=2)
with lplb.Planner(placement, rank=0, same_tokens=True, solver="flow") as planner:
    planner.run(np.array([[0]]))
    print(planner.stats().optimal)
    newest = planner.stats(wait=False)
    if newest is not None:
        print(newest.batches)
split: lplb.Split = lplb.solve(placement, [1, 2, 3], solver="auto")
placement.save("p.json")
loaded: lplb.Placement = lplb.Placement.load("p.json")
result = lplb.sweep(["t.jsonl"], {"redundants": range(3)}, progress=True)
print(len(result.rows), loaded == placement)
"""


def test_a_users_program_is_clean_under_mypy_strict(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"

    def check(text: str) -> subprocess.CompletedProcess[str]:
        program.write_text(text)
        cache = f"--cache-dir={tmp_path / 'cache'}"
        command = [sys.executable, "-m", "mypy", "--strict", cache, str(program)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    clean = check(USER_PROGRAM)
    assert clean.returncode == 0, clean.stdout
    typo = check(USER_PROGRAM.replace('"flow"', '"flwo"'))
    assert typo.returncode == 1 and "solver" in typo.stdout


SLOW_REPLAY = """
import signal
import sys
import lplb

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

def tell(done, all_batches):
    if done >= 8:
        print("begun", flush=True)

lplb.simulate(
    sys.argv[1], num_ranks=8, policies=["eplb", "eplb+lplb", "cube+lplb"], progress=tell
)
"""


def long_trace(path: pathlib.Path) -> pathlib.Path:
    """Steps that take minutes to replay."""
    info = {"num_layers": 58, "num_logical_experts": 256, "num_topk": 8}
    rows = np.random.default_rng(1).integers(0, 60, (58, 256)).tolist()
    step = json.dumps({"load": rows})
    with path.open("w") as file:
        file.write(json.dumps({"format": "lplb-trace", "version": 1, **info}) + "\n")
        for _ in range(400):
            file.write(step + "\n")
    return path


def test_ctrl_c_ends_a_replay_within_a_second(tmp_path: pathlib.Path) -> None:
    trace = long_trace(tmp_path / "long.jsonl")
    command = [sys.executable, "-c", SLOW_REPLAY, str(trace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        process.wait()
        assert b"KeyboardInterrupt" in errors
        assert time.monotonic() - begun < 5  # a second, and more on a busy machine


def test_progress_is_told_and_may_cancel() -> None:
    told: list[tuple[int, int]] = []
    options: Any = {"policies": ["none"], "progress": lambda *done: told.append(done)}
    lplb.simulate("synthetic:W0_balanced", **options)
    assert told[-1] == (64, 64) and told == sorted(told)

    def cancel(done: int, all_batches: int) -> None:
        raise KeyError(f"{done} of {all_batches}")

    with pytest.raises(KeyError, match="of 64"):
        lplb.simulate("synthetic:W0_balanced", policies=["none"], progress=cancel)


def test_progress_can_be_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lplb.simulate("synthetic:W0_balanced", policies=["none"], progress=True)
    assert capsys.readouterr().err.endswith("\r64 of 64 batches\n")


def test_sweeps_run_on_a_dask_cluster() -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        result = lplb.sweep(
            ["synthetic:W1_hot_expert_set", "no-such-file"],
            {"redundants": [0, 2], "policies": [["eplb+lplb"]]},
            executor=client.get_executor(),
        )
    alone = lplb.simulate("synthetic:W1_hot_expert_set", redundants=2, policies=["eplb+lplb"])
    assert [row["redundants"] for row in result.rows] == [0, 2]
    mean = alone.policy("eplb+lplb")["imbalance"]["mean"]
    assert result.rows[1]["imbalance.mean"] == mean
    assert [failure["trace"] for failure in result.failures] == ["no-such-file"] * 2
