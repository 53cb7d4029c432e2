# SPDX-License-Identifier: MIT
"""PyTorch's tensors, torch.compile, autograd; also on a GPU if there is one."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import cuda_missing, draw
from optional import torch
from stand_ins import paths_of

import lplb

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(bool(cuda_missing()), reason=cuda_missing() or "GPU"),
        ],
    ),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint32])
def test_tensors_map_as_arrays(cube: lplb.Placement, device: str, dtype: Any) -> None:
    ids = draw(300, 8, 64, 1)
    want = lplb.Planner(cube, same_tokens=True).run(ids, num_valid_tokens=250)
    planner = lplb.Planner(cube, same_tokens=True)
    batch = (
        torch.from_numpy(ids.astype(np.int32)).view(torch.uint32).to(device)
        if dtype == torch.uint32
        else torch.from_numpy(ids).to(dtype).to(device)
    )
    valid = torch.tensor([250], dtype=torch.int32, device=device)
    for num_valid in (250, valid):
        got = planner.run(batch, num_valid_tokens=num_valid)
        assert got.dtype == dtype and got.device == batch.device and got.shape == batch.shape
        assert (got.view(torch.int32) if dtype == torch.uint32 else got).tolist() == want.tolist()
    assert planner.run(batch, batch, valid) is batch
    assert planner.run(batch[:0]).shape == (0, 8)
    stats = planner.stats()
    assert stats is not None and (stats.batches, stats.solved) == (4, 4)


def test_counts_of_other_ranks(cube: lplb.Placement, device: str) -> None:
    ranks = [draw(100, 8, 64, r) for r in range(8)]
    host = [lplb.Planner(cube, rank=r) for r in range(8)]
    counts = np.stack([p.count(ids) for p, ids in zip(host, ranks, strict=True)])
    on_device = torch.from_numpy(counts).to(device)
    if device == "cuda":
        on_device = on_device.int()
    for r, (p, ids) in enumerate(zip(host, ranks, strict=True)):
        planner = lplb.Planner(cube, rank=r, quotas=True)
        batch = torch.from_numpy(ids).to(device)
        assert planner.count(batch).tolist() == counts[r].tolist()
        want, tables = p.run_quotas(ids, all_counts=counts)
        got, quotas = planner.run_quotas(batch, all_counts=on_device)
        assert got.tolist() == want.tolist()
        for name, table, mine in zip(quotas._fields, tables, quotas, strict=True):
            assert mine.device.type == device
            assert mine.tolist() == table.tolist(), name


def test_history_stays_on_the_device(cube: lplb.Placement, device: str) -> None:
    planner = lplb.Planner(cube, same_tokens=True, window=2, num_layers=2)
    counts = []
    for seed in range(4):
        ids = draw(100, 8, 64, seed)
        planner.run(torch.from_numpy(ids).to(device), layer=1)
        counts.append(lplb.count(ids, 64))
    load = planner.load_history()
    if device == "cuda":
        assert load.is_cuda and load.dtype == torch.float64
    assert load.tolist() == [[0.0] * 64, (counts[2] + counts[3]).tolist()]
    assert planner.load_history(1).tolist() == load[1].tolist()
    planner.clear_history()
    assert not planner.load_history().any()


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiles_without_a_break(cube: lplb.Placement, device: str, backend: str) -> None:
    if backend == "inductor" and device == "cpu":
        pytest.skip("compiles C++ for seconds; the GPU run covers it")
    planner = lplb.Planner(cube, same_tokens=True, quotas=True)
    batch = torch.from_numpy(draw(64, 8, 64, 2)).to(device)
    want = planner.run(batch)

    def layer(ids: Any, out: Any) -> Any:
        first = planner.run(ids)
        second = planner.run(ids, num_valid_tokens=10)
        planner.run(ids, out)
        third, quotas = planner.run_quotas(ids)
        return first + 1, second, third, quotas.shares * 2

    out = torch.empty_like(batch)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for _ in range(2):
        first, second, third, shares = compiled(batch, out)
        assert (first == want + 1).all() and (out == want).all() and (third == want).all()
        assert (second[10:] == -1).all() and (second[:10] >= -1).all()
        assert shares.sum().item() == pytest.approx(128)


def test_operators_are_sound(cube: lplb.Placement, device: str) -> None:
    planner = lplb.Planner(cube, same_tokens=True, quotas=True)
    batch = torch.from_numpy(draw(16, 8, 64, 2)).to(device)
    planner.run(batch)
    checks = ("test_schema", "test_faketensor")
    for op in (torch.ops.lplb.plan, torch.ops.lplb.plan_quotas):
        torch.library.opcheck(
            op.default, (batch, None, None, paths_of(planner).handle, 0), test_utils=checks
        )
    torch.library.opcheck(
        torch.ops.lplb.plan_into.default,
        (batch, None, None, paths_of(planner).handle, 0, torch.empty_like(batch)),
        test_utils=checks,
    )


def dense_batch(device: str, seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(40, 64, generator=generator, dtype=torch.float64)
    routing_map = torch.zeros(40, 64, dtype=torch.bool)
    routing_map.scatter_(1, probs.topk(4).indices, True)
    return probs.to(device), routing_map.to(device)


def test_run_dense_is_run(cube: lplb.Placement, device: str) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    probs, routing_map = dense_batch(device)
    sent, targets = planner.run_dense(probs, routing_map)
    assert sent.shape == targets.shape == (40, 80) and targets.dtype == torch.bool
    assert (targets.sum(1) == 4).all()
    experts = torch.from_numpy(cube.physical_to_logical.copy()).long().to(device)
    token, slot = targets.nonzero(as_tuple=True)
    assert routing_map[token, experts[slot]].all()
    assert (sent[token, slot] == probs[token, experts[slot]]).all()
    assert (sent[~targets] == 0).all()
    loads = targets.sum(0).view(8, 10).sum(1)
    assert loads.max().item() == lplb.solve(cube, routing_map.sum(0)).max_load


@pytest.mark.autograd
def test_run_dense_has_gradients(cube: lplb.Placement, device: str) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    probs, routing_map = dense_batch(device, 1)
    probs = probs[:6].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: planner.run_dense(p, routing_map[:6])[0], probs)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p, m: (p > 0, m), TypeError, ["probs", "bool"]),
        (lambda p, m: (p, m.float()), TypeError, ["routing_map", "float"]),
        (lambda p, m: (p[:, :3], m), ValueError, ["probs", "3", "64"]),
        (lambda p, m: (p, m[:5]), ValueError, ["routing_map", "5"]),
    ],
)
def test_bad_dense_batches(
    cube: lplb.Placement, change: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as raised:
        lplb.Planner(cube, same_tokens=True).run_dense(*change(*dense_batch("cpu")))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p, x: p.run(x.float()), TypeError, ["topk_idx", "float32"]),
        (lambda p, x: p.run(x, x.int()), ValueError, ["out", "int32", "int64"]),
        (lambda p, x: p.run(x, num_valid_tokens=-1), ValueError, ["num_valid_tokens", "-1"]),
        (lambda p, x: p.run(x, layer=1), ValueError, ["layer", "1"]),
        (lambda p, x: p.run(x.to("meta")), ValueError, ["topk_idx", "meta"]),
    ],
)
def test_bad_tensors(
    cube: lplb.Placement, device: str, call: Any, error: type[Exception], words: list[str]
) -> None:
    planner = lplb.Planner(cube, same_tokens=True)
    with pytest.raises(error) as raised:
        call(planner, torch.from_numpy(draw(10, 8, 64, 1)).to(device))
    for word in words:
        assert word in str(raised.value)


def test_views_are_taken(cube: lplb.Placement, device: str) -> None:
    planner = lplb.Planner(cube, same_tokens=True, quotas=True)
    ids = torch.from_numpy(draw(20, 8, 64, 1)).to(device)
    want = planner.run(ids)
    wide = torch.full((40, 11), -1, device=device)
    wide[::2, 1:9] = ids
    compiled = torch.compile(planner.run, backend="eager")
    for run in (planner.run, compiled):
        for view in (wide[::2, 1:9], ids.T.contiguous().T):
            assert not view.is_contiguous()
            got = run(view)
            assert got.is_contiguous() and (got == want).all()
            out = torch.full((20, 11), -7, device=device)
            assert (run(view, out[:, :8]) == want).all()
            assert (out[:, :8] == want).all() and (out[:, 8:] == -7).all()
    view = wide[::2, 1:9]
    assert (planner.count(view) == planner.count(ids)).all()
    mapped, _ = planner.run_quotas(view, view)
    assert mapped is view and (wide[::2, 1:9] == want).all()
    assert (wide[1::2] == -1).all() and (wide[:, [0, 9, 10]] == -1).all()


def test_the_package_does_without_torch() -> None:
    folder = pathlib.Path(lplb.__file__).parents[1]
    code = (
        "import sys; sys.modules['torch'] = None; import lplb, numpy as np; "
        "p = lplb.Planner(lplb.Placement([0, 1, 1, 0], 2), rank=0, same_tokens=True); "
        "print(p.run(np.array([0, 1])).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(folder)},
    )
    assert done.stdout.strip() in ("[0, 1]", "[0, 2]", "[3, 1]", "[3, 2]")
    assert done.stderr == ""


def test_nothing_leaks() -> None:
    """With LPLB_LEAK_WARNINGS the extension reports at exit what Python has not freed."""
    code = (
        "import lplb, numpy as np; from lplb import topology; t = topology.cube(); "
        "maps = lplb.place_on_topology(np.ones((1, 16)), t, 1, 8); "
        "p = lplb.Placement(maps[0][0], 8); planner = lplb.Planner(p, rank=1, window=2); "
        "counts = np.zeros((8, p.packed_size), np.int64); "
        "planner.run_quotas(np.zeros((4, 2), np.int64), all_counts=counts); "
        "planner.load_history(); split = lplb.solve(p, [1] * 16); split.verify(); "
        "lplb.moves(p, lplb.keep_slots(p, p)); planner.stats()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(pathlib.Path(lplb.__file__).parents[1]), "LPLB_LEAK_WARNINGS": "1"},
    )
    assert done.stderr == ""


#: Keeps a placement, a planner and a split beyond the end of Python, as a C++ library would.
HELD = (
    "import ctypes, numpy as np, lplb; "
    "placement = lplb.Placement([0, 1, 1, 0], 2); "
    "held = [placement, lplb.Planner(placement, rank=0), lplb.solve(placement, [1, 2])]; "
    "[ctypes.pythonapi.Py_IncRef(ctypes.py_object(one)) for one in held]; "
)


def run_held(rest: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HELD + rest],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(pathlib.Path(lplb.__file__).parents[1]), **variables},
    )


def test_exit_is_quiet_though_objects_are_held() -> None:
    done = run_held("pass")
    assert (done.returncode, done.stderr) == (0, "")
    # The same program would be reported: the test above can fail.
    assert "leaked" in run_held("pass", LPLB_LEAK_WARNINGS="1").stderr


def test_exit_after_an_exception_shows_only_its_traceback() -> None:
    done = run_held("lplb.solve(placement, [1, -2])")
    assert done.returncode == 1
    assert "ValueError" in done.stderr.splitlines()[-1]
    assert "nanobind" not in done.stderr
