# SPDX-License-Identifier: MIT
"""The Triton kernel that ends a choice in vLLM, in Triton's interpreter, beside PyTorch's form."""

from __future__ import annotations

import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
pytest.importorskip("triton")

from lplb.engines._vllm_record import finish, launch  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("tokens", [1, 37, 300])
def test_both_forms_are_equal(tokens: int, dtype: Any) -> None:
    random = torch.Generator().manual_seed(tokens)
    table = torch.randint(0, 12, (8, 3), generator=random)
    for stale in (False, True):
        for enabled in (False, True):
            ids = torch.randint(0, 8, (tokens, 4), generator=random).to(dtype)
            slots = torch.randint(0, 12, (tokens, 4), generator=random).to(dtype)
            padding = torch.rand((tokens, 4), generator=random) < 0.2
            ids[padding] = slots[padding] = -1
            load = torch.arange(12, dtype=torch.int32)
            flags = torch.tensor(stale), torch.tensor(enabled)
            expected_load = load.clone()
            expected = finish(slots, ids, flags[0], table, expected_load, flags[1])
            given = [t.to(DEVICE, copy=True) for t in (slots, ids, flags[0], table, load, flags[1])]
            launch(*given)
            assert torch.equal(given[0].cpu(), expected)
            assert torch.equal(given[4].cpu(), expected_load)
            assert (expected_load.sum() > load.sum()) == (enabled and bool((expected >= 0).any()))
