# SPDX-License-Identifier: MIT
"""The C++ reference as Markdown, from the comments of the public headers.

It understands the headers of include/lplb as this project writes them, and nothing more: one
namespace, a `///` comment before what it is about, clang-format's layout.
"""

import re

# Words in comments that are code: with an underscore, a call, a qualified name, a constant.
CODE_WORD = re.compile(
    r"(?<![\w`.:/])(?:[A-Za-z]\w*::~?\w+(?:\(\))?|\w+\(\)|[A-Za-z]\w*_\w+|k[A-Z]\w+)(?![\w`(])"
)


class Item:
    """A declaration: its comment (lines without marks), its code (lines), what it names."""

    def __init__(self, comment, code):
        self.comment, self.code = comment, code
        self.names = [name_of(code)]

    def take(self, other):
        """Makes `other`, which stands right below and has no comment, a part of this."""
        self.code += other.code
        self.names += [name for name in other.names if name not in self.names]

    @property
    def is_class(self):
        return self.code[0].startswith("class ") and self.code[-1].startswith("}")


def name_of(code):
    """What a declaration declares: "solve()", "Split", "kMaxRanks".

    >>> name_of(["Split solve(const Placement& placement,", "            int n);"])
    'solve()'
    >>> name_of(["enum class Solver {"]), name_of(["inline constexpr Index kMaxRanks = 1024;"])
    ('Solver', 'kMaxRanks')
    >>> name_of(["bool operator==(const Placement&) const = default;"])
    'operator==()'
    """
    text = " ".join(line.strip() for line in code)
    found = (
        re.match(r"(?:class|struct|enum class) (\w+)", text)
        or re.match(r"using (\w+)", text)
        or re.match(r"#define (\w+)", text)
    )
    if found:
        return found.group(1)
    found = re.match(r"[^(=]*?(operator[^\s(]+|~?\w+)\s*\(", text)
    if found:
        return found.group(1) + "()"
    found = re.match(r"[^={;]*?(\w+)\s*(?:=|\{|;)", text)
    if not found:
        raise ValueError(f"no name in: {text}")
    return found.group(1)


def depth_of(line):
    """Braces and parentheses that `line` leaves open."""
    line = re.sub(r'//.*|"(\\.|[^"\\])*"', "", line)
    return sum(line.count(mark) for mark in "({") - sum(line.count(mark) for mark in ")}")


def items_of(lines):
    """The declarations in `lines`, which start in the first column."""
    items, comment, index = [], [], 0
    while index < len(lines):
        line = lines[index]
        mark = re.match(r"///? ?(.*)", line)
        if mark:
            comment.append(mark.group(1))
            index += 1
            continue
        if not line.strip():
            comment, index = [], index + 1
            continue
        code, open_marks = [], 0
        while True:
            code.append(lines[index])
            open_marks += depth_of(lines[index])
            index += 1
            ended = re.search(r"[;}]\s*(//.*)?$", code[-1]) or code[-1].startswith("#define")
            if open_marks == 0 and ended:
                break
        # A comment with `<` goes on about the line before it.
        while index < len(lines) and re.match(r"\s+///<", lines[index]):
            code.append(lines[index])
            index += 1
        items.append(Item(comment, code))
        comment = []
    return items


def public_members(code):
    """The public declarations in a class's body, in the first column."""
    body, public = [], False
    for line in code[1:-1]:
        access = re.match(r" (public|private|protected):", line)
        if access:
            public = access.group(1) == "public"
        elif public:
            body.append(line.removeprefix("  "))
    return grouped(body)


def is_special(item):
    """Destructors, moves and copies: no reader looks for them."""
    text = " ".join(item.code)
    return not item.comment and (
        "~" in text
        or "&&)" in text
        or "operator=" in text
        or re.match(r"(struct|class|using) \w+;|using ", text) is not None
    )


def grouped(lines):
    """The declarations in `lines`; one without a comment belongs to what it stands right below."""
    result, place = [], 0
    for item in items_of(lines):
        size = len(item.code)
        place = next(i for i in range(place, len(lines)) if lines[i : i + size] == item.code)
        glued = place > 0 and bool(lines[place - 1].strip())
        place += size
        if is_special(item):
            continue
        if glued and not item.comment and result and not result[-1].is_class:
            result[-1].take(item)
        else:
            result.append(item)
    return result


def prose(comment):
    """A comment as Markdown.

    >>> prose(["`load` [num_ranks]: what solve() takes, >= 0 and < 9."])
    '`load` `[num_ranks]`: what `solve()` takes, >= 0 and \\\\< 9.\\n'
    """
    parts = re.split(r"(`[^`]*`|\[[^\]]*\])", "\n".join(comment))
    for index, part in enumerate(parts):
        if index % 2 == 0:
            part = re.sub(r"([*<])", r"\\\1", part)
            parts[index] = CODE_WORD.sub(lambda found: f"`{found.group(0)}`", part)
        elif part.startswith("["):
            parts[index] = f"`{part}`"
    return "".join(parts) + "\n"


def section(item, level, owner=""):
    """An item as Markdown, its heading at `level`."""
    lines = [f"{'#' * level} {', '.join(owner + name for name in item.names)}\n"]
    if item.comment:
        lines.append(prose(item.comment))
    if not item.is_class:
        return "\n".join([*lines, "```cpp", *item.code, "```\n"])
    name = item.names[0]
    lines += ["```cpp", item.code[0].rstrip(" {") + ";", "```\n"]
    lines += [section(member, level + 1, f"{name}::") for member in public_members(item.code)]
    return "\n".join(lines)


def without_marks(lines):
    """`lines` without what marks exports; lines that went on below an argument go on below it.

    >>> without_marks(["LPLB_API int one(int a,", "                 int b);"])
    ['int one(int a,', '        int b);']
    >>> without_marks(["LPLB_API int one(", "    int a);", "class LPLB_API Two {"])
    ['int one(', '    int a);', 'class Two {']
    """
    result, shift = [], ""
    for line in lines:
        if shift and line.startswith(shift):
            line = line.removeprefix(shift)
        elif line.startswith("LPLB_API "):
            shift = " " * len("LPLB_API ")
        result.append(re.sub(r"\bLPLB_(API|HIDDEN) ", "", line))
        if line.endswith(";"):
            shift = ""
    return result


def page(name, text):
    """The page about the header `name` with the contents `text`: (Markdown, names declared).

    (None, []) if it declares nothing for users.
    """
    if name == "export.h":
        return None, []
    text = "\n".join(without_marks(text.splitlines()))
    before, _, rest = text.partition("namespace lplb {\n")
    items = grouped(rest.rpartition("}  // namespace lplb")[0].splitlines())
    macros = [
        line
        for line in before.splitlines()
        if line.startswith(("#define", "// ")) and "SPDX" not in line
    ]
    if any(line.startswith("#define") for line in macros):
        items = grouped(macros) + items
    if not items:
        return None, []
    head = f"# {name}\n\n```cpp\n#include <lplb/{name}>\n```\n\n"
    return (
        head + "\n".join(section(item, 2) for item in items),
        [name for item in items for name in item.names],
    )
