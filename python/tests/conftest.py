# SPDX-License-Identifier: MIT
"""What several tests use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lplb


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked autograd run last: others fork ranks that use it."""
    items.sort(key=lambda item: item.get_closest_marker("autograd") is not None)


def cuda_missing() -> str:
    """Why tests that need a GPU cannot run; empty if they can."""
    missing: str = lplb.cuda_info()["missing"]
    if not missing:
        torch = pytest.importorskip("torch")
        missing = "" if torch.cuda.is_available() else "PyTorch sees no GPU"
    return missing


@pytest.fixture
def cube() -> lplb.Placement:
    """64 experts and 16 replicas on a cube of 8 ranks."""
    maps = lplb.place_on_topology(np.arange(64)[None] + 1, "cube", redundants=2, num_ranks=8)
    return lplb.Placement(maps[0][0], num_ranks=8)


def draw(
    num_tokens: int, num_topk: int, num_experts: int, seed: int, dtype: Any = np.int64
) -> NDArray[Any]:
    """Skewed routing, with some -1."""
    random = np.random.default_rng(seed)
    weight = random.lognormal(0, 1, num_experts)
    ids = random.choice(num_experts, (num_tokens, num_topk), p=weight / weight.sum())
    ids[random.random(ids.shape) < 0.05] = -1
    return ids.astype(dtype)
