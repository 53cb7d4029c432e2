#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what the compiler does not: who may include whom, what a library may call, what a file
looks like.

usage: fences.py CHECK|all [SOURCE_DIR [CXX]]

Prints what is wrong, a line each ("file:line: problem"); exit status 1 then.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

STAGES = ("count", "exchange", "replicate", "solve", "map")
# What each folder of src/ may include beside itself and the public headers.
MAY_INCLUDE = {
    "core": (),
    "io": ("core",),
    **dict.fromkeys(STAGES, ("core",)),
    "replicate": ("core", "solve"),  # its last step is an exact split
    "plan": ("core", *STAGES),
    "placement": ("core", "io"),
    "simulate": ("core", "io", "placement", *STAGES),
}
# The namespace of each folder below lplb. A namespace cannot have the name of a public function:
# replicate(), solve() and simulate() are such.
NAMESPACES = {
    **{folder: (folder,) for folder in MAY_INCLUDE},
    "core": ("device",),
    "replicate": ("replicas",),
    "solve": ("solvers",),
    "simulate": ("replay", "report"),
}
FOLDERS = (
    "apps",
    "bench",
    "cmake",
    "docs",
    "examples",
    "fuzz",
    "include",
    "python",
    "scripts",
    "src",
    "tests",
)
CODE = (".cc", ".h", ".cu", ".cuh")
OTHER_CODE = (".css", ".js", ".py", ".cmake", ".sh")
MAX_LINES = 450

# Words of other projects for what has a name here (docs/glossary.md).
FOREIGN_WORDS = {
    r"phy2log|physical2logical": "physical_to_logical",
    r"log2phy|logical2physical": "logical_to_physical",
    r"logcnt|log_cnt|expert_count": "replica_count",
    r"num_gpus|world_size|ep_size|num_devices": "num_ranks",
    r"num_redundant_experts|num_copies": "replicas or redundants",
    r"top_k_idx|topk_ids|selected_experts": "topk_idx",
}


def files_of(root, suffixes, folders=FOLDERS):
    """Files under `folders`, sorted, as (path relative to root, lines)."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes:
                yield path.relative_to(root).as_posix(), path.read_text().splitlines()


def scripts_of(root):
    """Files that start with #!, as (path relative to root, lines)."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.read_bytes().startswith(b"#!"):
                yield path.relative_to(root).as_posix(), path.read_text().splitlines()


def code_of(line):
    """`line` without strings, characters and what follows //."""
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    line = re.sub(r"'(\\.|[^'\\])'", "''", line)
    return line.split("//")[0]


def is_test(path):
    """A test, which may use what it likes, or a part of one."""
    name = path.rsplit("/", 1)[-1]
    return name.endswith(("_test.cc", "_test.cu", "_test_support.h")) or "test_" in name


def includes_of(lines):
    """(line number, what is included) of a file."""
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)', line)
        if found:
            yield number, found.group(1)


def public_includes(root, _cxx):
    """Headers under include/ need nothing but the standard library and each other."""
    for path, lines in files_of(root, CODE, ["include"]):
        for number, name in includes_of(lines):
            if name.startswith("lplb/"):
                if not (root / "include" / name).exists():
                    yield f"{path}:{number}: includes {name}, which is not a public header"
            elif not re.fullmatch(r"[a-z_]+", name):
                yield f"{path}:{number}: includes {name}, expected the standard library or lplb/"


def headers_alone(root, cxx):
    """Each public header compiles by itself."""
    headers = sorted((root / "include" / "lplb").glob("*.h"))
    if not headers:
        yield "include/lplb: no headers"

    def compile_alone(header):
        return subprocess.run(
            [
                cxx,
                "-std=c++20",
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
                "-I",
                str(root / "include"),
                "-x",
                "c++",
                "-",
            ],
            input=f"#include <lplb/{header.name}>\n#include <lplb/{header.name}>\n",
            capture_output=True,
            text=True,
            check=False,
        )

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, result in zip(headers, pool.map(compile_alone, headers)):
            if result.returncode != 0:
                first = (result.stderr.splitlines() or ["no message"])[0]
                yield f"{header.relative_to(root)}:1: does not compile alone: {first}"


def stages(root, _cxx):
    """Who includes whom: no stage a sibling but as above, nobody plan/, none what is above it."""
    for folder in sorted(path.name for path in (root / "src").iterdir() if path.is_dir()):
        if folder not in MAY_INCLUDE:
            yield f"src/{folder}:1: no fence says what it may include"
            continue
        for path, lines in files_of(root, CODE, [f"src/{folder}"]):
            if is_test(path):
                continue
            for number, name in includes_of(lines):
                other = name.split("/")[0] if "/" in name else ""  # <map> is no folder
                if other in MAY_INCLUDE and other not in (folder, *MAY_INCLUDE[folder]):
                    yield f"{path}:{number}: {folder} includes {name}"


def namespaces(root, _cxx):
    """Namespaces follow folders: lplb for what is public, else the folder's own."""
    opens = re.compile(r"namespace ([a-z_:]+) \{")
    for folder, own in NAMESPACES.items():
        allowed = {
            "lplb",
            "lplb::testing",
            "lplb::emulated",
            *own,
            *(f"lplb::{name}" for name in own),
        }
        for path, lines in files_of(root, CODE, [f"src/{folder}"]):
            for number, line in enumerate(lines, 1):
                found = opens.match(line)
                if found and found.group(1) not in allowed:
                    yield f"{path}:{number}: namespace {found.group(1)}, expected lplb::{own[0]}"


def quiet_library(root, _cxx):
    """The library throws; it neither prints nor ends the process."""
    loud = re.compile(
        r"\b(std::)?(cout|cerr|clog|printf|fprintf|puts|fputs|putchar|perror|abort|terminate|"
        r"exit|_exit|quick_exit|assert|system|getenv)\s*(\(|<<)|\bfmt::print\b|"
        r"#\s*include\s*<(iostream|cassert|print)>"
    )
    for path, lines in files_of(root, CODE, ["src", "include"]):
        if is_test(path):
            continue
        for number, line in enumerate(lines, 1):
            found = loud.search(code_of(line))
            if found:
                yield f"{path}:{number}: {found.group(0)}: a library throws, and is quiet"


def layout(root, _cxx):
    """Licence, length, line ends; and src/ holds folders alone."""
    code = [
        *files_of(root, (*CODE, *OTHER_CODE)),
        *scripts_of(root),
        *(file for file in files_of(root, (".txt",)) if file[0].endswith("CMakeLists.txt")),
    ]
    if not code:
        yield "no files"
    for path, lines in code:
        head = "\n".join(lines[:2])
        if "SPDX-License-Identifier: MIT" not in head:
            yield f"{path}:1: no SPDX-License-Identifier: MIT on top"
        if len(lines) > MAX_LINES:
            yield f"{path}:{MAX_LINES + 1}: {len(lines)} lines, at most {MAX_LINES}"
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                yield f"{path}:{number}: ends in white space"
            if "\t" in line:
                yield f"{path}:{number}: has a tabulator"
    for path, lines in files_of(root, (".h", ".cuh")):
        if "#pragma once" not in lines:
            yield f"{path}:1: no #pragma once"
    for path in sorted((root / "src").glob("*")):
        if path.suffix in CODE:
            yield f"src/{path.name}:1: expected in a folder of src/"


def finished(root, _cxx):
    """Nothing is left to do, or switched off, in a file."""
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|#\s*if\s+0\b")
    commented = re.compile(r"^\s*//.*(;|\{|\})\s*$")
    for path, lines in files_of(root, (*CODE, *OTHER_CODE, ".txt", ".md")):
        for number, line in enumerate(lines, 1):
            found = marks.search(line)
            if found:
                yield f"{path}:{number}: {found.group(0)}"
            elif (
                path.endswith(CODE)
                and commented.match(line)
                and re.search(r"[=(]", line)
                and not line.lstrip().startswith("///")
                and line.rstrip().endswith(";")
            ):
                yield f"{path}:{number}: code in a comment"


def vocabulary(root, _cxx):
    """One word for one thing: docs/glossary.md."""
    foreign = [(re.compile(rf"\b({words})\b"), ours) for words, ours in FOREIGN_WORDS.items()]
    for path, lines in files_of(root, CODE):
        for number, line in enumerate(lines, 1):
            for words, ours in foreign:
                found = words.search(code_of(line))
                if found:
                    yield f"{path}:{number}: {found.group(0)}: here it is {ours}"


# Beginnings and words that docs/style.md does not want, and what it wants.
UNWANTED = (
    (re.compile(r"^\W*Of (?!course)"), "begins with Of: name the thing"),
    (re.compile(r"\b[Ll]ikewise\b"), "likewise: in the same way, or repeat the verb"),
    (re.compile(r"\b[Aa]new\b"), "anew: again"),
    (re.compile(r"\bat that:"), "at that: only then"),
    (
        re.compile(r"\b(so many|such many) (ranks|slots|blocks|bytes|tokens|threads)\b"),
        "so many: that many",
    ),
)


def comments_of(path, lines):
    """(line number, text) of comments, and of docstrings and the text of pages."""
    if path.endswith(".md"):
        fenced = False
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced:
                yield number, line
        return
    mark = r"#" if path.endswith((".py", ".cmake", ".txt")) else r"//"
    quoted = False
    for number, line in enumerate(lines, 1):
        if path.endswith(".py") and line.count('"""') == 1:
            quoted = not quoted
            yield number, line.split('"""')[-1]
        elif quoted:
            yield number, line
        elif path.endswith(".py") and line.count('"""') == 2:
            yield number, line.split('"""')[1]
        else:
            found = re.search(rf"(?:^|\s){mark}+<?\s(.*)", line)
            if found:
                yield number, found.group(1)


def english(root, _cxx):
    """Plain English, as far as a program sees it: docs/style.md."""
    pages = [*root.glob("*.md")]
    files = [
        *files_of(root, (*CODE, ".py", ".cmake", ".txt", ".md")),
        *((page.name, page.read_text().splitlines()) for page in pages),
    ]
    for path, lines in files:
        if path in ("docs/style.md", "tests/fences/fences.py", "tests/fences/fences_test.py"):
            continue
        for number, text in comments_of(path, lines):
            for words, wanted in UNWANTED:
                if words.search(text):
                    yield f"{path}:{number}: {wanted}"


CHECKS = {
    check.__name__: check
    for check in (
        public_includes,
        headers_alone,
        stages,
        namespaces,
        quiet_library,
        layout,
        finished,
        vocabulary,
        english,
    )
}


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "all"
    if name != "all" and name not in CHECKS:
        sys.exit(f"{name}: expected all or one of {', '.join(CHECKS)}")
    here = pathlib.Path(__file__).resolve().parent.parent.parent
    root = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else here
    cxx = sys.argv[3] if len(sys.argv) > 3 else "g++"
    problems = [
        problem
        for check in CHECKS
        if name in ("all", check)
        for problem in CHECKS[check](root, cxx)
    ]
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
