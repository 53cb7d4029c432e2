#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that a shared library exports the public API and nothing else.

usage: exported_symbols.py LIBRARY.so INCLUDE_DIR

Every symbol must be something that a header of INCLUDE_DIR/lplb names, in namespace lplb itself:
not a namespace of a folder of src/, not fmt, nlohmann_json or the standard library. Prints what is
not, a line each; the exit status is 1 then.
"""

import pathlib
import re
import subprocess
import sys

SYMBOL = re.compile(r"(?:typeinfo for |typeinfo name for |vtable for )?lplb::(\w+)")


def declared_names(headers):
    """What LPLB_API stands before in the texts of headers.

    >>> sorted(declared_names(["class LPLB_API Planner {", "LPLB_API Split solve(int a);"]))
    ['Planner', 'solve']
    >>> sorted(declared_names(["LPLB_API const char* name_of(\\n    int a);"]))
    ['name_of']
    """
    names = set()
    for text in headers:
        names.update(re.findall(r"(?:class|struct) LPLB_API (\w+)", text))
        names.update(re.findall(r"^LPLB_API [^;{(]*?(\w+)\s*\(", text, re.M))
    return names


def problems(symbols, names):
    """The symbols that are not of the public API.

    >>> names = {"Planner", "solve"}
    >>> problems(["lplb::solve(lplb::Placement const&)", "vtable for lplb::Planner"], names)
    []
    >>> problems(["lplb::plan::lay_out(int)", "fmt::v9::vformat(int)", "lplb::check()"], names)
    ['lplb::plan::lay_out(int)', 'fmt::v9::vformat(int)', 'lplb::check()']
    >>> problems(["std::vector<lplb::Level>::reserve(unsigned long)"], names)
    ['std::vector<lplb::Level>::reserve(unsigned long)']
    >>> problems(["lplb::Planner::State::plan()"], names)
    ['lplb::Planner::State::plan()']
    """
    wrong = []
    for symbol in symbols:
        found = SYMBOL.match(symbol)
        if not found or found.group(1) not in names or re.match(r"lplb::\w+::State::", symbol):
            wrong.append(symbol)
    return wrong


def main():
    library, include = sys.argv[1:]
    listing = subprocess.run(
        ["nm", "-D", "-C", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    symbols = [line.split(maxsplit=2)[2] for line in listing.splitlines()]
    headers = [path.read_text() for path in sorted(pathlib.Path(include, "lplb").glob("*.h"))]
    names = declared_names(headers)
    wrong = problems(symbols, names)
    print("\n".join(f"{library}: exports {symbol}" for symbol in wrong))
    if len(symbols) < len(names):
        sys.exit(
            f"{library}: exports {len(symbols)} symbols, the headers declare {len(names)} names"
        )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
