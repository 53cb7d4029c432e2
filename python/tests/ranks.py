# SPDX-License-Identifier: MIT
"""Runs ranks as processes, over gloo."""

from __future__ import annotations

import os
import pathlib
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lplb

#: Where the engines' tests have their tensors. On a GPU engines_gpu.py runs them, not pytest.
DEVICE = torch.device(os.environ.get("LPLB_ENGINES_DEVICE", "cpu"))


def child(function: Callable[..., None], rank: int, size: int, folder: str) -> None:
    """Runs one rank; its error goes to a file."""
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False  # a GPU's context does not survive a fork
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    try:
        function(rank, size, folder)
    except BaseException:  # PyTorch's CheckpointException is no Exception
        pathlib.Path(folder, f"error{rank}").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def run_ranks(
    function: Callable[..., None], size: int, folder: pathlib.Path, seconds: float = 60
) -> list[str]:
    """Runs `size` ranks; returns their errors, "" if there was none."""
    context = torch.multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=child, args=(function, r, size, str(folder))) for r in range(size)
    ]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + seconds
    for process in ranks:
        process.join(max(deadline - time.monotonic(), 0))
        if process.is_alive():
            process.kill()
            raise AssertionError("a rank hangs")
    files = [folder / f"error{r}" for r in range(size)]
    errors = [file.read_text() if file.exists() else "" for file in files]
    for process, error in zip(ranks, errors):
        # A killed rank is one that a test has killed.
        assert error or process.exitcode is None or process.exitcode <= 0, "a rank ended early"
    return errors


def make_placement(size: int, shift: int = 0) -> lplb.Placement:
    maps = lplb.place_on_topology(
        np.arange(16 * size)[None] + 1, f"ring:{size}", redundants=4, num_ranks=size
    )
    rows = maps[0][0].reshape(size, -1)
    return lplb.Placement(np.roll(rows, shift, 0).reshape(-1), size)


def denser_placement(size: int) -> lplb.Placement:
    """A placement with other replicas than make_placement(), and more of them."""
    load = np.arange(16 * size)[None] + 1
    return lplb.Placement(lplb.rebalance_experts(load, 22 * size, 1, 1, size)[0][0], size)


def everywhere(size: int, *dead: int) -> lplb.Placement:
    """Each of 2 x `size` experts is on each rank; the ranks `dead` take no tokens."""
    alive = [rank not in dead for rank in range(size)]
    return lplb.Placement([*range(2 * size)] * size, size, rank_alive=alive)


def world() -> Any:
    return torch.distributed.group.WORLD


def signal(folder: str, name: str) -> None:
    pathlib.Path(folder, name).touch()


def wait_for(folder: str, name: str) -> None:
    deadline = time.monotonic() + 20
    while not pathlib.Path(folder, name).exists():
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.01)


def wait_for_others(folder: str, rank: int, size: int, word: str) -> None:
    """Returns when each other rank has signalled "RANK word"."""
    for other in range(size):
        if other != rank:
            wait_for(folder, f"{other} {word}")


def expect_told(errors: list[str], words: list[str], silent: int | None) -> None:
    """Checks that each rank's error has all words. The rank `silent`, which is gone, has none."""
    for rank, error in enumerate(errors):
        if rank == silent:
            assert not error
            continue
        for word in words:
            assert word in error
