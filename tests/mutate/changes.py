# SPDX-License-Identifier: MIT
"""Finds the small changes of a C++ source that a test should notice: an operator, a number, a
minimum for a maximum, a statement that is missing.

It reads text, not syntax, and relies on the format of .clang-format: an operator of two operands
has white space on both sides, the brackets of a template have none.
"""

import dataclasses
import re

# What stands in place of what. Each pattern is applied to code without comments and strings.
SWAPS = (
    (r"(?<=\s)(<|>|<=|>=)(?=\s)", {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}),
    (r"(?<=\s)(==|!=)(?=\s)", {"==": "!=", "!=": "=="}),
    (r"(?<=\s)(&&|\|\|)(?=\s)", {"&&": "||", "||": "&&"}),
    (r"(?<=[\w)\]]\s)([-+*/%|&]|<<|>>)(?=\s)", {
        "+": "-", "-": "+", "*": "/", "/": "*", "%": "/",
        "|": "&", "&": "|", "<<": ">>", ">>": "<<",
    }),
    (r"(?<=\s)([-+*/]=)(?=\s)", {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}),
    (r"(\+\+|--)", {"++": "--", "--": "++"}),
    (r"(?<=std::)(min|max)\b", {"min": "max", "max": "min"}),
    (r"\b(true|false)\b", {"true": "false", "false": "true"}),
    (r"(?<![\w)!])(!)(?=[\w(])", {"!": ""}),
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.'])(0|[1-9]\d*)(?![\w.'])")
STATEMENT = re.compile(r"(?<=[;{}])\s*\n\s*([^;{}\s][^;{}]*;)")
# A call, an assignment or a jump; a declaration has two words at its beginning.
REMOVABLE = re.compile(
    r"(?:(?:\+\+|--)?[\w:]+(?:(?:\.|->)\w+|\[[^;]*?\])*"
    r"(?:\s*\(.*\)|\s*(?:[-+*/|&^]|<<|>>)?=(?!=).*|\+\+|--)|break|continue|return);",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True, order=True)
class Change:
    """text[start:end] of the file `path` becomes `new`."""

    path: str
    line: int  # from 1
    start: int
    end: int
    new: str
    what: str  # for the reader: the line's code, before and after

    def apply(self, text):
        return text[: self.start] + self.new + text[self.end :]


def blank(text, start, end):
    """`text` with spaces in [start, end), but with its line ends."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def closing(text, start):
    """Where the call or the statement ends that `start` is in."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth < 0 or (depth == 0 and text[i] == ";"):
            return i
    return len(text)


def code_of(text):
    """`text` with spaces in place of what no test can see or should fix: comments, strings, the
    rest of a call after a string (the values of a message), preprocessor lines, what is thrown,
    static_assert, attributes, template arguments and floating-point numbers."""
    strings = []

    def hide(found):
        if found[0][0] in "\"'R":
            strings.append(found.start())
        return re.sub(r"[^\n]", " ", found[0])

    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", hide, text, flags=re.MULTILINE)
    text = re.sub(
        r'//[^\n]*|/\*.*?\*/|R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\])\'',
        hide,
        text,
        flags=re.DOTALL,
    )
    for start in strings:
        text = blank(text, start, closing(text, start))
    for pattern in (r"\bthrow\b[^;]*;", r"\[\[.*?\]\]", r"\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+"):
        text = re.sub(pattern, hide, text)
    for found in re.finditer(r"\b(?:static_assert|formatted)\(", text):
        text = blank(text, found.start(), closing(text, found.end()))
    text = re.sub(r"\btemplate <[^;{}]*?>(?!\S)", hide, text)
    before = None
    while before != text:
        before, text = text, re.sub(r"(?<=[\w\]])<[^<>;{}]*>", hide, text)
    return text


def find_changes(path, text):
    """All changes of a file, in the order of the text."""
    code = code_of(text)
    spans = []
    for pattern, becomes in SWAPS:
        for found in re.finditer(pattern, code):
            line = code[code.rfind("\n", 0, found.start()) + 1 : found.start()]
            # A loop that counts in the wrong direction says nothing about the tests.
            if found[1] in ("++", "--") and line.lstrip().startswith("for ("):
                continue
            if found[1] in becomes:
                spans.append((found.start(1), found.end(1), becomes[found[1]]))
    for found in NUMBER.finditer(code):
        value = int(found[1])
        spans.append((found.start(1), found.end(1), str(value - 1 if value == 1 else value + 1)))
    for found in STATEMENT.finditer(code):
        if REMOVABLE.fullmatch(found[1]):
            spans.append((found.start(1), found.end(1), ";"))
    return sorted(change_of(path, text, *span) for span in spans)


def change_of(path, text, start, end, new):
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    last = len(text) if last < 0 else last
    before = " ".join(text[first:last].split())
    if new == ";":
        what = f"without {' '.join(text[start:end].split())}"
    else:
        after = " ".join((text[first:start] + new + text[end:last]).split())
        what = f"{before}  ->  {after}"
    return Change(path, text.count("\n", 0, start) + 1, start, end, new, what)
