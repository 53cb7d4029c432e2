#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Gathers the pages of the documentation's site. usage: stage.py TARGET

The project's Markdown pages are written to be read where they stand. This copies them into the
folder TARGET as the site has them, turns their links to fit, and adds the C++ reference. Links to
files that the site has no page for become plain text; a link to nothing is an error.
"""

import pathlib
import posixpath
import re
import shutil
import sys

import cpp_reference

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Pages that stand outside docs/, and where the site has them.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "HACKING.md": "hacking.md",
    "src/README.md": "source.md",
    "bench/RESULTS.md": "bench/results.md",
    "bench/METHOD.md": "bench/method.md",
    "data/traces/README.md": "recorded-loads.md",
}


def pages(root):
    """{path in the project: path on the site} of all pages and pictures."""
    result = {source: target for source, target in ELSEWHERE.items() if (root / source).exists()}
    for path in sorted((root / "docs").rglob("*")):
        name = path.relative_to(root / "docs").as_posix()
        if path.suffix in (".md", ".png", ".svg") and not name.startswith("site/"):
            result[f"docs/{name}"] = name
    for path in sorted((root / "docs/site/pages").rglob("*.*")):
        result[path.relative_to(root).as_posix()] = path.relative_to(
            root / "docs/site/pages"
        ).as_posix()
    for path in sorted((root / "include/lplb").glob("*.h")):
        result[path.relative_to(root).as_posix()] = f"cpp/{path.stem}.md"
    result["docs/design"] = "design/index.md"
    return result


def turned(text, source, known, root):
    """`text` of the page `source`, its links as the site needs them."""
    here = posixpath.dirname(known[source])

    def turn(found):
        shown, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found.group(0)
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if path in known:
            anchor = f"#{anchor}" if anchor else ""
            return f"[{shown}]({posixpath.relpath(known[path], here or '.')}{anchor})"
        if not (root / path).exists():
            raise ValueError(f"{source}: link to {target}, which does not exist")
        return shown

    def prose(part):
        part = re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", turn, part)
        # x[e][g] is no reference, unless it is code.
        return re.sub(r"(`[^`\n]+`)|\]\[", lambda found: found.group(1) or r"]\[", part)

    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else prose(part) for part in parts)


def title_of(text):
    """The first heading of a page."""
    return re.search(r"^# (.+)$", text, re.M).group(1)


def cpp_pages(root):
    """{path on the site: Markdown} of the C++ reference."""
    result, rows = {}, []
    for header in sorted((root / "include/lplb").glob("*.h")):
        text, names = cpp_reference.page(header.name, header.read_text())
        if text is None:  # the header that includes the others
            code = f"```cpp\n#include <lplb/{header.name}>\n```"
            text = f"# {header.name}\n\n{code}\n\nAll the others.\n"
        result[f"cpp/{header.stem}.md"] = text
        shown = ", ".join(f"`{name}`" for name in dict.fromkeys(names)) or "all the others"
        rows.append(f"| [{header.name}]({header.stem}.md) | {shown} |")
    result["cpp/index.md"] = "\n".join(
        [
            "# C++ reference",
            "",
            "`#include <lplb/lplb.h>` and link `lplb::lplb`. Everything is in namespace `lplb`. "
            "What can go wrong is thrown, see [error.h](error.md).",
            "",
            "| header | declares |",
            "|---|---|",
            *rows,
            "",
        ]
    )
    return result


def design_index(root):
    """The page that lists the decisions."""
    rows = [
        f"- [{title_of(path.read_text())}]({path.name})"
        for path in sorted((root / "docs/design").glob("[0-9]*.md"))
    ]
    return "\n".join(
        [
            "# Design decisions",
            "",
            "Each with its context, the choice, what was rejected, and its price.",
            "",
            *rows,
            "",
        ]
    )


def python_modules(root):
    """Sections of the Python reference for the public modules beside lplb itself."""
    names = [path.stem for path in sorted((root / "python/lplb").glob("[a-z]*.py"))]
    return "".join(
        f"\n## lplb.{name}\n\n::: lplb.{name}\n    options:\n      heading_level: 3\n"
        "      show_root_heading: false\n      show_root_toc_entry: false\n"
        for name in names
    )


def stage(root, target):
    """Writes the site's pages into the folder `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    known = pages(root)
    texts = {**cpp_pages(root), "design/index.md": design_index(root)}
    for source, name in known.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in texts:
            path.write_text(texts[name])
        elif path.suffix == ".md":
            path.write_text(turned((root / source).read_text(), source, known, root))
        else:
            shutil.copyfile(root / source, path)
    (target / "cpp/index.md").write_text(texts["cpp/index.md"])
    with open(target / "python/lplb.md", "a") as page:
        page.write(python_modules(root))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[0])
    try:
        stage(ROOT, pathlib.Path(sys.argv[1]).resolve())
    except ValueError as error:
        sys.exit(f"stage: {error}")


if __name__ == "__main__":
    main()
