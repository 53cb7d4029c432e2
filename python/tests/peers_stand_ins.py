# SPDX-License-Identifier: MIT
"""bench/peers.py as a module, and stand-ins for the balancers that it runs."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from typing import Any

import numpy as np
import torch

import lplb

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers.py"


def load_program() -> Any:
    if "peers" not in sys.modules:
        spec = importlib.util.spec_from_file_location("peers", PROGRAM)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["peers"] = module
        spec.loader.exec_module(module)
    return sys.modules["peers"]


def part(name: str) -> Any:
    """A module of bench/peers."""
    load_program()  # puts them on the path
    return importlib.import_module(name)


def make_loads(name: str, folder: pathlib.Path, num_batches: int, num_tokens: int) -> Any:
    part("loads").save(name, folder / "loads.npz", num_batches, num_tokens)
    return part("adapter").read_loads(str(folder / "loads.npz"))


def small_loads(*batches: list[int]) -> Any:
    """Expert 0 on both of two ranks, expert 1 on the first, expert 2 on the second."""
    return part("adapter").Loads(
        2,
        np.array([1, 2, 3]),
        np.array([0, 1, 2, 0], np.int32),
        None,
        np.array(batches),
        np.zeros((len(batches), 1, 8), np.int16),
    )


class Sglang:
    """LPLBSolver as SGLang has it, with the exact split in place of its kernels."""

    def __init__(self, **arguments: Any) -> None:
        self.slots = arguments["log2phy"]
        self.placement = lplb.Placement(arguments["phy2log"].numpy(), arguments["num_gpus"])
        assert arguments["ep_group"] is None
        assert self.slots.shape[1] == len(arguments["phy2log"])
        valid = arguments["logical_to_all_physical_map_num_valid"]
        assert valid.tolist() == self.placement.replica_count.tolist()

    def _solve(self, counts: Any) -> Any:
        split = lplb.solve(self.placement, counts.long().numpy())
        tokens = torch.from_numpy(split.physical_load).float()
        return torch.where(self.slots >= 0, tokens[self.slots], 0) / counts.sum()


# Packages, with their files. The original gives one share beyond [0, 1], UltraEP makes no replicas
# and takes neither 16 nor 32 ranks.
PLANNER = """
import pathlib, torch
class Planner:
    def __init__(self, r2o, n_physical, n_logical, ep_size):
        self.shape = (1, *r2o.shape)
    def update_redundancy_mapping(self, workload):
        text = (pathlib.Path(__file__).parent / "placement.txt").read_text()
        return torch.tensor([int(e) for e in text.split()]), None, None
    def solve_probs(self, workload, counter):
        print("compiling")
        kept = torch.full(self.shape, 0.5)
        kept[0, 0, 0] = 1.25
        return kept, None
    def run(self, idx, counter):
        return idx
"""
SOLVER = """
import os, torch
def solve_placement_for_test(load, counts, *, num_ranks, num_local_redundant_experts, **others):
    assert (counts.sum(0) == load).all() and counts.shape == (num_ranks, 256)
    if num_ranks == 16:
        raise RuntimeError("too many ranks")
    if num_ranks == 32:
        print("out of luck")
        os._exit(7)
    own = 256 // num_ranks
    each = own + num_local_redundant_experts
    slots = torch.full((256, num_ranks), -1, dtype=torch.int32)
    slots[:, 0] = torch.arange(256) // own * each + torch.arange(256) % own
    experts = torch.full((num_ranks * each,), -1, dtype=torch.int32)
    experts[slots[:, 0].long()] = torch.arange(256, dtype=torch.int32)
    quota = torch.zeros_like(slots)
    quota[:, 0] = load
    return experts, slots, (slots >= 0).sum(1), quota, quota.cumsum(1), quota.cumsum(1)
"""
