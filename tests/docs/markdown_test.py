#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The form of Markdown pages (docs/style.md): a paragraph is one line of the file, and a design
page has four parts and at most 80 lines. Classes that end in CanFail show that a check can fail."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("apps", "bench", "data", "docs", "examples", "fuzz", "include", "python", "src", "tests")
GENERATED = {"docs/command.md"}
PARTS = ["Context", "Choice", "Rejected", "Price"]
MAX_DESIGN_LINES = 80

FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"(\s*)([-*+]|\d+[.)]) ")
# Lines that never go on with a paragraph: headings, tables, HTML, quotes, rules, definitions, and
# what the site's extensions begin so.
BLOCK = re.compile(r"\s*(#|\||<|>|---+$|===+$|\[[^\]]+\]: |!!!|\?\?\?|:::)")
# The blocks among these that a next line may go on with.
OPEN_BLOCK = re.compile(r"\s*(>|\[[^\]]+\]: )")


def markdown_files(root):
    """Pages of the project that people write, relative to `root`."""
    paths = [*root.glob("*.md"), *(path for f in FOLDERS for path in (root / f).rglob("*.md"))]
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    return [name for name in names if name not in GENERATED]


def wrapped_lines(text):
    """The numbers of lines that go on with the paragraph or list item of the line before."""
    result = []
    in_fence = in_comment = in_paragraph = False
    item_indent = 0  # of what belongs to the list item that is open
    for number, line in enumerate(text.splitlines(), 1):
        was_in_paragraph, in_paragraph = in_paragraph, False
        indent = len(line) - len(line.lstrip())
        if FENCE.match(line):
            in_fence = not in_fence
        elif in_fence:
            continue
        elif in_comment or line.lstrip().startswith("<!--"):
            in_comment = "-->" not in line
        elif not line.strip():
            continue
        elif item := ITEM.match(line):
            item_indent = len(item.group(1)) + 4
            in_paragraph = True
        elif indent >= item_indent + 4 and not was_in_paragraph:
            continue  # a block of code
        elif BLOCK.match(line):
            in_paragraph = bool(OPEN_BLOCK.match(line))
        else:
            if was_in_paragraph:
                result.append(number)
            elif indent == 0:
                item_indent = 0
            in_paragraph = True
    return result


def design_faults(text):
    """What is wrong with the form of a design page."""
    faults = []
    num_lines = len(text.splitlines())
    if num_lines > MAX_DESIGN_LINES:
        faults.append(f"has {num_lines} lines, expected at most {MAX_DESIGN_LINES}")
    parts = re.findall(r"^## (.+)$", text, re.M)
    if parts != PARTS:
        faults.append(f"has the parts {parts}, expected {PARTS}")
    return faults


class Pages(unittest.TestCase):
    def test_a_paragraph_is_one_line(self):
        names = markdown_files(ROOT)
        self.assertIn("README.md", names)
        self.assertIn("docs/design/0001-solvers.md", names)
        for name in names:
            numbers = wrapped_lines((ROOT / name).read_text())
            self.assertEqual(
                [f"{name}:{number}: goes on with the line before" for number in numbers], []
            )

    def test_design_pages_have_four_parts_and_80_lines(self):
        pages = sorted((ROOT / "docs/design").glob("*.md"))
        self.assertGreater(len(pages), 5)
        for page in pages:
            self.assertEqual(design_faults(page.read_text()), [], page.name)


class WrappedLinesCanFail(unittest.TestCase):
    def test_paragraphs_and_items(self):
        self.assertEqual(wrapped_lines("A paragraph\nof two lines.\n"), [2])
        self.assertEqual(wrapped_lines("# Heading\ntext\nmore\nand more\n"), [3, 4])
        self.assertEqual(wrapped_lines("- an item\n  of two lines\n- another\n"), [2])
        self.assertEqual(wrapped_lines("1. an item\nwith a lazy line\n"), [2])
        self.assertEqual(wrapped_lines("    - an item below\n      of two lines\n"), [2])
        self.assertEqual(
            wrapped_lines("1. item\n\n    its second paragraph\n    is wrapped\n"), [4]
        )
        self.assertEqual(wrapped_lines("> a quote\nthat goes on\n"), [2])

    def test_text_after_other_blocks(self):
        self.assertEqual(wrapped_lines("```\na\nb\n```\ntext\nmore\n"), [6])
        self.assertEqual(wrapped_lines("<!-- a\nb -->\ntext\nmore\n"), [4])
        self.assertEqual(wrapped_lines("text\n\n    code\n\ntext\nmore\n"), [6])

    def test_what_is_no_paragraph(self):
        for text in (
            "One line.\n\nAnother one.\n",
            "# Heading\ntext\n## Heading\ntext\n",
            "Heading\n=======\ntext\n",
            "| a | b |\n|---|---|\n| c | d |\n",
            "text:\n- an item\n- another\n    1. below\n    2. it\n",
            "```cpp\nint a;\nint b;\n```\n",
            "<!-- a comment\nof two lines -->\n",
            "::: a.module\n    options:\n      heading_level: 2\n",
            "text\n\n    code\n    of two lines\n\n    and more\n    of it\n",
            "1. item\n\n        code\n        of two lines\n\n    text\n",
        ):
            self.assertEqual(wrapped_lines(text), [], text)


class DesignFaultsCanFail(unittest.TestCase):
    PAGE = "# 1. Title\n\n## Context\n\n## Choice\n\n### Part\n\n## Rejected\n\n## Price\n"

    def test_lines(self):
        self.assertEqual(design_faults(self.PAGE + "\n" * 69), [])
        self.assertEqual(
            design_faults(self.PAGE + "\n" * 70), ["has 81 lines, expected at most 80"]
        )

    def test_parts(self):
        for page in (
            self.PAGE.replace("## Price\n", ""),
            self.PAGE.replace("## Rejected", "## Measured\n\n## Rejected"),
            self.PAGE.replace("Context", "Choice"),
        ):
            self.assertEqual(len(design_faults(page)), 1, page)


if __name__ == "__main__":
    unittest.main()
