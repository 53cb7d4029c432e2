#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of which outputs run_readme.py accepts as equal and which it refuses."""

import argparse
import pathlib
import sys
import tempfile
import unittest

import run_readme


def matches(shown, printed, **notes):
    return run_readme.output_matches(shown.splitlines(), printed.splitlines(), notes)


class MatcherTest(unittest.TestCase):
    def test_equal(self):
        self.assertTrue(matches("a\nb", "a\nb"))
        self.assertTrue(matches("", "\n"))
        self.assertTrue(matches("a  1\n", "a 1"))

    def test_different(self):
        for shown, printed in (
            ("a", "b"),
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("", "a"),
            ("a", ""),
            ("1.036", "1.037"),
            ("a\n\nb", "a\nb"),
            ("a.c", "abc"),
        ):
            with self.subTest(shown=shown, printed=printed):
                self.assertFalse(matches(shown, printed))

    def test_any_text_in_a_line(self):
        self.assertTrue(matches("took ... ms", "took 12 ms"))
        self.assertTrue(matches("a ... b ... c", "a 1 b 2 c"))
        self.assertFalse(matches("took ... ms", "took 12 us"))
        self.assertFalse(matches("took ... ms", "took 12\nms"))

    def test_any_lines(self):
        self.assertTrue(matches("a\n...\nd", "a\nb\nc\nd"))
        self.assertTrue(matches("a\n...\nd", "a\nd"))
        self.assertTrue(matches("...", ""))
        self.assertTrue(matches("...\nb\n...", "b\nb\nb"))
        self.assertFalse(matches("a\n...\nd", "a\nb\nc"))
        self.assertFalse(matches("a\n...\nb\n...\nc", "a\nc\nb"))

    def test_column_that_varies(self):
        shown = "policy  mean  us\nnone 1.5 -\ncube 1.0 0.93\n\nend 1 2"
        self.assertTrue(matches(shown, shown.replace("0.93", "12.5"), varies="us"))
        self.assertFalse(matches(shown, shown.replace("0.93", "12.5")))
        self.assertFalse(matches(shown, shown.replace("0.93", "-"), varies="us"))
        self.assertFalse(matches(shown, shown.replace("1.0", "1.1"), varies="us"))
        self.assertFalse(matches(shown, shown.replace("end 1 2", "end 1 3"), varies="us"))


class PageTest(unittest.TestCase):
    def problems(self, text, update=False):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "page.md"
            path.write_text(text)
            programs = {"lplb": "/nowhere/lplb", "cxx": "false", "library": "", "libs": ""}
            arguments = argparse.Namespace(**programs, example=None, update=update)
            page = run_readme.Page(path, arguments)
            page.run()
            if update:
                page.update()
                self.updated = path.read_text()
            return page.problems

    def test_commands(self):
        self.assertEqual(self.problems("```console\n$ echo a; echo b >&2\na\nb\n$ true\n```\n"), [])
        self.assertEqual(self.problems("```console\n$ echo a \\\n    b\na b\n```\n"), [])
        self.assertEqual(len(self.problems("```console\n$ echo a\nb\n$ echo c\nd\n```\n")), 2)
        self.assertEqual(len(self.problems("```console\n$ echo a\n```\n")), 1)
        self.assertEqual(len(self.problems("nothing to run\n")), 1)

    def test_exit_status(self):
        page = "```console\n$ (echo a; exit 3)\na\n```\n"
        self.assertEqual(len(self.problems(page)), 1)
        self.assertEqual(self.problems("<!-- exit: 3 -->\n" + page), [])
        self.assertEqual(len(self.problems("<!-- exit: 2 -->\n" + page)), 1)

    def test_scripts_must_exist(self):
        ending = "\n```\n```console\n$ true\n```\n"
        self.assertEqual(self.problems("```console\n$ scripts/test" + ending), [])
        self.assertEqual(len(self.problems("```console\n$ scripts/none" + ending)), 1)

    def test_program_that_does_not_compile(self):
        page = "```cpp\nint main() {}\n```\n```text\n```\n```console\n$ true\n```\n"
        self.assertEqual(len(self.problems(page)), 1)

    def test_program_without_output(self):
        page = "```cpp\nint main() {}\n```\n```console\n$ true\n```\n"
        self.assertEqual(len(self.problems(page)), 1)

    def test_block_without_end(self):
        with self.assertRaises(ValueError):
            self.problems("```console\n$ true\n")
        with self.assertRaises(ValueError):
            self.problems("```console\noutput\n```\n")

    def test_update(self):
        page = "```console\n$ echo a; echo b\nX\n$ echo c\n```\n"
        self.assertEqual(self.problems(page, True), [])
        self.assertEqual(self.updated, "```console\n$ echo a; echo b\na\nb\n$ echo c\nc\n```\n")

    def test_links(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "page.md"
            page.write_text("[a](page.md) [b](page.md#x) [c](https://d.e) [f](#g) [h](none.md)\n")
            self.assertEqual(len(list(run_readme.broken_links(page))), 1)


if __name__ == "__main__":
    sys.exit(unittest.main())
