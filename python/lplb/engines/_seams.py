# SPDX-License-Identifier: MIT
"""What the hooks share: is the engine the one that they were tested with?"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger("lplb.engines")


class UnsupportedEngine(RuntimeError):
    """The engine, or its configuration, is not one that LPLB serves. Nothing was changed in it."""


def is_on(variable: str) -> bool:
    """Whether the environment variable switches a plug-in on.

    "1": for the tested versions; "untested": for any version whose signatures are the tested ones.
    """
    value = os.environ.get(variable, "")
    if value not in ("", "0", "1", "untested"):
        raise UnsupportedEngine(f'{variable}: is {value!r}, expected "0", "1" or "untested"')
    return value in ("1", "untested")


def check_version(package: str, tested: Sequence[str], variable: str = "") -> str:
    """The version of an installed package. Raises UnsupportedEngine unless it was tested."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UnsupportedEngine(f"{package}: is not installed") from None
    if version.split("+")[0] not in tested and os.environ.get(variable) != "untested":
        way_out = f"; {variable}=untested tries it" if variable else ""
        raise UnsupportedEngine(
            f"{package}: is version {version}, expected {' or '.join(tested)}, which LPLB was "
            f"tested with{way_out}"
        )
    return version


def find(path: str) -> Any:
    """The object at "module:name.name", or the module. UnsupportedEngine if there is none."""
    module, _, names = path.partition(":")
    try:
        found = importlib.import_module(module)
        for name in names.split(".") if names else ():
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise UnsupportedEngine(f"{path}: is not there: {error}") from None
    return found


def check_signatures(expected: Mapping[str, str]) -> None:
    """Raises UnsupportedEngine unless each function ("module:name") has these parameters' names."""
    for path, names in expected.items():
        found = " ".join(inspect.signature(find(path)).parameters)
        if found != names:
            raise UnsupportedEngine(f"{path}: has parameters ({found}), expected ({names})")


def first_slots(topk_ids: Any, logical_to_physical: Any) -> Any:
    """The first slot of each entry's expert: what a captured graph takes if a map is stale.

    topk_ids: [tokens, topk], -1 stays. logical_to_physical: [experts, replicas]. Only PyTorch's
    own kernels run.
    """
    import torch

    first = logical_to_physical[topk_ids.clamp(min=0).long(), 0]
    return torch.where(topk_ids < 0, topk_ids, first.to(topk_ids.dtype))
