# SPDX-License-Identifier: MIT
"""Files that are damaged or hostile give one clear message, and none of their code runs."""

from __future__ import annotations

import builtins
import os
import pathlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from convert_files import random_load, random_slots, refused, scatter, sglang_records, sglang_stat

from lplb import convert


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pt_file_does_not_run(tmp_path: pathlib.Path, legacy: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "evil.pt"
    content = {"logical_count": torch.ones(1, 2, 4), "x": Evil(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for read in (lambda: convert.open_recording([path]), lambda: convert.read_placement(path)):
        with refused("evil.pt: holds objects whose loading could run"):
            read()
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_named_pt_does_not_run(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with refused("evil.pt: "):
        convert.open_recording([path])
    assert not (tmp_path / "ran").exists()


def test_code_in_numpy_files_does_not_run(tmp_path: pathlib.Path) -> None:
    array = np.array([Evil(tmp_path / "ran")], object)
    np.save(tmp_path / "evil.npy", array, allow_pickle=True)
    np.savez(tmp_path / "evil.npz", load=array)
    for name in ("evil.npy", "evil.npz"):
        with refused(f"{name}: is no whole"):
            convert.open_recording([tmp_path / name])
    assert not (tmp_path / "ran").exists()


def test_an_old_torch_is_not_trusted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    path = sglang_stat(tmp_path, random_load(1, 2, 2, 4, 8))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with refused(r"CVE-2025-32434\): expected torch 2.6 or newer"):
        convert.open_recording([path])


def written(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a good file `name`, of the kind that its name says."""
    load = random_load(2, 8, 3, 16, 99)
    path = folder / name
    if name == "load.npy":
        np.save(path, load)
    elif name == "load.npz":
        np.savez_compressed(path, load=load)
    elif name == "load.json":
        path.write_text(str(load.tolist()))
    elif name == "load.pt":
        sglang_stat(folder, load).replace(path)
    elif name == "records.pt":
        slots = random_slots(1, 3, 16, 20)
        sglang_records(folder, 0, range(8), scatter(load, slots, 0), slots).replace(path)
    elif name == "load.safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"load": load}, path)
    else:
        pa = pytest.importorskip("pyarrow")
        columns = {"layer": [0] * 500, "expert": list(range(500)), "load": [1] * 500}
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    return path


KINDS = [
    "load.npy",
    "load.npz",
    "load.json",
    "load.pt",
    "records.pt",
    "load.safetensors",
    "load.parquet",
]


@pytest.mark.parametrize("name", KINDS)
def test_truncated_files(tmp_path: pathlib.Path, name: str) -> None:
    path = written(tmp_path, name)
    data = path.read_bytes()
    for kept in (0, 1, 7, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        with refused(f"{name}: is no |{name}: holds objects"):
            convert.sum_load(convert.open_recording([path]))


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: pathlib.Path, name: str) -> None:
    path = written(tmp_path, name)
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 5))):
            # Most of a file's structure is near its two ends.
            at = int(rng.integers(0, 300)) * int(rng.choice([1, -1])) % len(damaged)
            damaged[at : at + int(rng.integers(0, 5))] = rng.bytes(int(rng.integers(1, 5)))
        path.write_bytes(damaged)
        try:
            convert.sum_load(convert.open_recording([path]))
        except convert.ConvertError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
            assert len(str(error)) < 1100 + len(str(path))
    assert refused > 50


STAT_SHAPE = r"logical_count has shape \[2\], expected \[layers, experts\] or"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"records": []}, r"records is \[\], expected a list of forward passes"),
        ({"records": [3]}, r"records\[0\] is 3, expected a dict"),
        ({"records": [{"rank": 0}]}, "last_physical_to_logical_map is missing"),
        ({"logical_count": [1, 2]}, STAT_SHAPE),
        ({"a": [[1]], "b": [[2]]}, "has arrays 'a', 'b', expected one"),
        (5, "holds 5, expected an array or a dict of arrays"),
    ],
)
def test_pt_files_of_another_shape(tmp_path: pathlib.Path, content: object, message: str) -> None:
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "bad.pt")
    with refused(f"bad.pt: {message}"):
        convert.open_recording([tmp_path / "bad.pt"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forward_pass_id": None}, r"forward_pass_id is None, expected an integer"),
        ({"rank": 1}, r"records\[1\].rank is 1, expected 0 as in records\[0\]"),
        ({"global_physical_count": None}, r"records\[1\].global_physical_count holds None"),
    ],
)
def test_records_that_are_damaged(
    tmp_path: pathlib.Path, change: dict[str, object], message: str
) -> None:
    torch = pytest.importorskip("torch")
    count = np.ones((2, 1, 4), np.int64)
    path = sglang_records(tmp_path, 0, [1, 2], count, random_slots(1, 1, 4, 4))
    content = torch.load(path, weights_only=True)
    content["records"][1].update(change)
    torch.save(content, path)
    with refused(message):
        convert.sum_load(convert.open_recording([path]))


def test_records_of_another_placement(tmp_path: pathlib.Path) -> None:
    count = np.ones((1, 1, 6), np.int64)
    files = [
        sglang_records(tmp_path, rank, [1], count, random_slots(rank, 1, 4, 6)) for rank in range(2)
    ]
    with refused("expected dumps without a rebalance in between"):
        convert.open_recording(files)
    path = sglang_records(tmp_path, 0, [1], count[..., :5], random_slots(0, 1, 4, 6))
    with refused(r"has shape \[1, 5\], expected \[1, 6\]"):
        convert.sum_load(convert.open_recording([path]))


def test_logs_are_recognised(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "server.log"
    for line in (
        "INFO EPLB step: 7 for model m: avg_tokens=1.00, max_tokens=2, balancedness=0.5000",
        "[Expert Balancedness] forward_pass_id=3 current_pass_balancedness=0.512",
    ):
        log.write_text(line + "\n")
        with refused("an engine's log, which has only means"):
            convert.open_recording([log])
    log.write_text("hello")
    with refused("ends in '.log', expected .pt"):
        convert.open_recording([log])


@pytest.mark.parametrize(
    ("name", "hidden", "package"),
    [
        ("a.pt", "torch", "torch"),
        ("a.safetensors", "safetensors", "safetensors"),
        ("a.parquet", "pyarrow", "pyarrow"),
        ("a.yaml", "yaml", "pyyaml"),
    ],
)
def test_a_package_that_is_not_installed(
    tmp_path: pathlib.Path, name: str, hidden: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(module: str, *arguments: Any, **options: Any) -> Any:
        if module.split(".")[0] == hidden:
            raise ImportError(f"No module named '{hidden}'")
        return real(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("importlib.import_module", without)
    for module in [module for module in sys.modules if module.split(".")[0] == hidden]:
        monkeypatch.delitem(sys.modules, module)
    (tmp_path / name).write_bytes(b"x")
    with refused(f"needs the package {package} .*: pip install"):
        if name == "a.yaml":
            convert.read_placement(tmp_path / name)
        else:
            convert.open_recording([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("a.npy", "numpy"),
        ("a.npz", "numpy"),
        ("a.json", "json"),
        ("a.txt", "os"),
        ("a.pt", "torch"),
        ("a.safetensors", "safetensors"),
        ("a.parquet", "pyarrow"),
    ],
)
def test_files_that_do_not_exist(tmp_path: pathlib.Path, name: str, module: str) -> None:
    pytest.importorskip(module)
    with refused(f"{name}: cannot be read: No such file"):
        convert.open_recording([tmp_path / name])


def test_folders_and_no_file(tmp_path: pathlib.Path) -> None:
    with refused("is a folder without"):
        convert.open_recording([tmp_path])
    with refused("no file given"):
        convert.open_recording([])


def test_a_tensor_of_a_type_that_numpy_lacks(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    load = torch.ones(2, 2, dtype=torch.bfloat16)
    safetensors.save_file({"load": load}, tmp_path / "a.safetensors")
    with refused("a.safetensors: load cannot be read as an array"):
        convert.open_recording([tmp_path / "a.safetensors"])
