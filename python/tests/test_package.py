# SPDX-License-Identifier: MIT
"""Checks of the package's own sources, and of its help."""

from __future__ import annotations

import ast
import inspect
import pathlib
import pydoc
import re

import lplb

FOLDER = pathlib.Path(lplb.__file__).parent
#: Names that modules of this package give to its objects.
OBJECTS = {"planner", "paths", "path", "host", "gpu", "group", "exchange", "peers", "rounds"}


def modules() -> dict[str, ast.Module]:
    """The sources of lplb, without lplb.convert, by the module's name."""
    return {path.stem: ast.parse(path.read_text()) for path in sorted(FOLDER.glob("*.py"))}


def imports(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of lplb that one imports, in functions and for type checking too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("lplb.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "lplb":
            found |= {a.name if a.name in known else "__init__" for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").removeprefix("lplb."))
    return found & known


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All modules that `start` imports, directly or through others."""
    found: set[str] = set()
    todo = set(graph[start])
    while todo:
        found |= todo
        todo = {name for done in todo for name in graph[done]} - found
    return found


def test_the_one_circle_of_imports_is_meant() -> None:
    trees = modules()
    known = {*trees, "_lplb"}
    graph = {name: imports(tree, known) for name, tree in trees.items()} | {"_lplb": set()}
    assert graph["_torch"] >= {"_paths", "_gpu"} and "_operators" in graph["_base"]
    in_a_circle = {name for name in graph if name in reachable(graph, name)}
    # lplb.Planner makes an lplb.original.Planner, which works through an lplb.Planner.
    assert in_a_circle == {"_planner", "original"}


def private_uses(tree: ast.Module) -> list[str]:
    """Private attributes of this package's objects: `planner._x`, `self.planner._x`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr):
            owner = node.value
            name = getattr(owner, "id", getattr(owner, "attr", "")).lstrip("_")
            if name in OBJECTS:
                found.append(f"{node.lineno}: {name}.{node.attr}")
    return found


def test_private_uses_are_found() -> None:
    assert private_uses(ast.parse("planner._x\nself.planner._y = 1\nself._z\ngpu.index")) == [
        "1: planner._x",
        "2: planner._y",
    ]


def test_no_module_touches_private_fields_of_another() -> None:
    found = {name: private_uses(tree) for name, tree in modules().items()}
    # A ProcessGroup's, which is PyTorch's.
    found["_exchange"] = [use for use in found["_exchange"] if "_get_backend" not in use]
    assert {name: uses for name, uses in found.items() if uses} == {}


def test_help_shows_the_parameters() -> None:
    signature = inspect.signature(lplb.Planner)
    wanted = list(inspect.signature(lplb.Planner.__init__).parameters.values())[1:]
    assert list(signature.parameters.values()) == wanted
    assert len(wanted) == 25 and wanted[0].name == "placement"
    assert signature.parameters["transport"].default == "auto"
    text = pydoc.plain(pydoc.render_doc(lplb.Planner))
    assert "*args" not in text and text.count("transport: 'TransportName' = 'auto'") >= 2


def test_the_docstring_has_all_parameters_in_groups() -> None:
    text = inspect.getdoc(lplb.Planner) or ""
    wanted = list(inspect.signature(lplb.Planner).parameters)
    groups = "Placement|Split|Copies|Group and exchange|History|GPU"
    rows = re.findall(rf"^\| ({groups}) \| (.*) \|$", text, re.M)
    assert [name for _, names in rows for name in names.split(", ")] == wanted
    assert [group for group, _ in rows] == groups.split("|")
    section = text[text.index("Parameters\n---") : text.index("Notes\n---")]
    assert re.findall(r"^(\w+) : ", section, re.M) == wanted
