# SPDX-License-Identifier: MIT
"""The operators that torch.compile sees, torch.ops.lplb. A planner is passed as its handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lplb._paths import PATHS
from lplb._torch import quota_tables, run_eager, run_quotas


def _plan(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> Tensor:
    return run_eager(PATHS[planner], topk_idx, None, num_valid_tokens, layer, all_counts)


def _plan_to(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
    out: Tensor,
) -> None:
    run_eager(PATHS[planner], topk_idx, out, num_valid_tokens, layer, all_counts)


def _plan_quotas(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> tuple[Tensor, ...]:
    ids, tables = run_quotas(PATHS[planner], topk_idx, None, num_valid_tokens, layer, all_counts)
    return (ids, *tables)


def _fake_plan(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> Tensor:
    return topk_idx.new_empty(topk_idx.shape)


def _fake_plan_into(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
    out: Tensor,
) -> None:
    return None


def _fake_plan_quotas(
    topk_idx: Tensor,
    num_valid_tokens: Tensor | None,
    all_counts: Tensor | None,
    planner: int,
    layer: int,
) -> tuple[Tensor, ...]:
    return (topk_idx.new_empty(topk_idx.shape), *quota_tables(PATHS[planner], topk_idx))


def _without_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments[:-1])


_make_library: Any = torch.library.Library  # without type annotations
_library: Any = _make_library("lplb", "DEF")


def _define(
    name: str, signature: str, function: Callable[..., Any], fake: Callable[..., Any], *tags: Any
) -> None:
    _library.define(name + signature, tags=(torch.Tag.pt2_compliant_tag, *tags))
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lplb::{name}", fake, lib=_library)


# NOTE: a stale plan leaves an all-gather under way, which must not be captured without a join().
# The tag keeps the compiler from capturing it in CUDA graphs of its own.
_STALE_TAGS = [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []
_ARGUMENTS = "Tensor topk_idx, Tensor? num_valid_tokens, Tensor? all_counts, int planner, int layer"
for _name, _more, _result, _function, _fake in (
    ("plan", "", "Tensor", _plan, _fake_plan),
    ("plan_into", ", Tensor(a!) out", "()", _plan_to, _fake_plan_into),
    (
        "plan_quotas",
        "",
        "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        _plan_quotas,
        _fake_plan_quotas,
    ),
):
    _define(_name, f"({_ARGUMENTS}{_more}) -> {_result}", _function, _fake)
    _define(
        f"{_name}_stale",
        f"({_ARGUMENTS}{_more}, Tensor(b!) turn) -> {_result}",
        _without_turn(_function),
        _without_turn(_fake),
        *_STALE_TAGS,
    )
