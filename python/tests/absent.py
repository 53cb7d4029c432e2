# SPDX-License-Identifier: MIT
"""Modules that cannot be had, for engines whose other modules import them at their top."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterable
from typing import Any


def _made(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Things(name, (AbsentThing,), {})


class Things(type):
    """What absent names are: each has any other name again."""

    def __getattr__(cls, name: str) -> Any:
        return _made(name)


class AbsentThing(metaclass=Things):
    """A name of an absent module. It can be called, decorate and be a base, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return _made(name)

    def __class_getitem__(cls, _item: Any) -> Any:
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        import pydantic_core

        return pydantic_core.core_schema.any_schema()


class AbsentModule(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        setattr(self, name, _made(name))
        return vars(self)[name]


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder: it makes modules whose first name, or whole name, is one of `names`."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = {*names}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name in self.names or name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return AbsentModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def do_without(names: Iterable[str]) -> None:
    """From now on `import NAME` finds an empty module, unless there is a real one."""
    sys.meta_path.append(Finder(names))


def do_without_operators(namespaces: Iterable[str]) -> None:
    """From now on missing operators of torch.ops.NAMESPACE that say what is supported say no."""
    import torch

    space: Any = type(torch.ops.aten)
    find, wanted = space.__getattr__, {*namespaces}

    def found(self: Any, name: str) -> Any:
        try:
            return find(self, name)
        except AttributeError:
            if self.name not in wanted or "support" not in name:
                raise
            return lambda *_, **__: False

    space.__getattr__ = found
