#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pages of the documentation's site: the C++ reference, and links between pages."""

import doctest
import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs/site"))

import cpp_reference  # noqa: E402
import stage  # noqa: E402

HEADERS = sorted((ROOT / "include/lplb").glob("*.h"))


def words_of(text):
    return set(re.findall(r"\w+", text))


def public_code(text):
    """A header's declarations without comments, private parts and what is_special() leaves out."""
    body = text.partition("namespace lplb {\n")[2].rpartition("}  // namespace lplb")[0]
    body = re.sub(r"^ private:\n.*?^};", "};", body, flags=re.M | re.S)
    body = re.sub(r"//.*|\bLPLB_(API|HIDDEN)\b", "", body)
    return "\n".join(
        line
        for line in body.splitlines()
        if not re.search(r"~|&&\)|operator=\(|^  (struct|class|using) [^{]*;", line)
    )


class CppReference(unittest.TestCase):
    def test_examples_in_its_comments(self):
        self.assertEqual(doctest.testmod(cpp_reference).failed, 0)

    def test_every_public_declaration_is_on_its_page(self):
        for header in HEADERS:
            text = header.read_text()
            page, names = cpp_reference.page(header.name, text)
            if header.name in ("lplb.h", "export.h"):
                self.assertEqual((page, names), (None, []))
                continue
            self.assertTrue(names, header.name)
            self.assertEqual(
                words_of(public_code(text)) - words_of(page) - {"public"}, set(), header.name
            )

    def test_nothing_private_is_on_a_page(self):
        page, names = cpp_reference.page("planner.h", (ROOT / "include/lplb/planner.h").read_text())
        self.assertIn("Planner", names)
        self.assertNotIn("LPLB_API", page)
        self.assertNotIn("state_", page)
        self.assertNotIn("~Planner", page)

    def test_a_header_with_everything_in_it(self):
        page, names = cpp_reference.page(
            "x.h",
            """\
// SPDX-License-Identifier: MIT
#pragma once

namespace lplb {

/// One.
///
/// About `this` [num_ranks], by that_one() or kOther.
int one(int a,
        int b = f(3));
int two();

inline constexpr int kThree = 3;

/// A class.
class Four : public Five {
 public:
  Four();
  ~Four();
  /// Runs.
  void run() const { go(); }

 private:
  int six_;
};

struct Seven {
  int eight = 0;  ///< about it,
                  ///< at length
};

}  // namespace lplb
""",
        )
        self.assertEqual(names, ["one()", "two()", "kThree", "Four", "Seven"])
        self.assertIn(
            "## one(), two()\n\nOne.\n\nAbout `this` `[num_ranks]`, by `that_one()` or "
            "`kOther`.\n\n```cpp\nint one(int a,\n        int b = f(3));\nint two();\n```",
            page,
        )
        self.assertIn("## Four\n\nA class.\n\n```cpp\nclass Four : public Five;\n```", page)
        self.assertIn("### Four::run()\n\nRuns.\n\n```cpp\nvoid run() const { go(); }\n```", page)
        self.assertIn("///< at length\n};", page)
        self.assertNotIn("six_", page)


class Links(unittest.TestCase):
    KNOWN = {
        "docs/a.md": "a.md",
        "docs/b/c.md": "b/c.md",
        "README.md": "index.md",
        "include/lplb/x.h": "cpp/x.md",
    }

    def turned(self, text, source="docs/b/c.md"):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src").mkdir()
            (root / "src/x.cc").write_text("")
            return stage.turned(text, source, self.KNOWN, root)

    def test_pages_find_each_other(self):
        self.assertEqual(self.turned("see [a](../a.md#part) now"), "see [a](../a.md#part) now")
        self.assertEqual(self.turned("[r](../../README.md)"), "[r](../index.md)")
        self.assertEqual(self.turned("[a](docs/a.md)", "README.md"), "[a](a.md)")
        self.assertEqual(self.turned("[x](../../include/lplb/x.h)"), "[x](../cpp/x.md)")

    def test_others_stay_or_become_text(self):
        for text in ("[w](https://example.org/a.md)", "[here](#part)", "a[b](c"):
            self.assertEqual(self.turned(text), text)
        self.assertEqual(self.turned("[`x.cc`](../../src/x.cc)"), "`x.cc`")

    def test_code_is_left_alone(self):
        text = "```cpp\ncall[index](none.md);\n```\n"
        self.assertEqual(self.turned(text), text)

        self.assertEqual(self.turned("`x[e][g]`, x[e][g]"), r"`x[e][g]`, x[e]\[g]")
        self.assertEqual(self.turned("[`a`](../a.md) `b`"), "[`a`](../a.md) `b`")
        self.assertEqual(self.turned("[`x` of x](../../src/x.cc)"), "`x` of x")

    def test_a_link_to_nothing_is_an_error(self):
        with self.assertRaisesRegex(
            ValueError, "docs/b/c.md: link to none.md, which does not exist"
        ):
            self.turned("[n](none.md)")


class Stage(unittest.TestCase):
    def test_the_project_s_pages_lead_to_each_other(self):
        with tempfile.TemporaryDirectory() as folder:
            target = pathlib.Path(folder) / "pages"
            stage.stage(ROOT, target)
            pages = sorted(target.rglob("*.md"))
            self.assertGreater(len(pages), 30)
            for page in pages:
                text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
                for link in re.findall(r"\]\(([^)\s]+)\)", text):
                    if not re.match(r"[a-z]+:|#", link):
                        path = page.parent / link.split("#")[0]
                        self.assertTrue(path.exists(), f"{page.relative_to(target)}: {link}")
            for header in HEADERS:
                self.assertTrue((target / f"cpp/{header.stem}.md").exists(), header.name)
            stage.stage(ROOT, target)  # once more, over what is there
            self.assertEqual(pages, sorted(target.rglob("*.md")))


class KernelPage(unittest.TestCase):
    """docs/plan-kernel.md and its picture name the kernel's functions."""

    def test_every_function_that_it_names_exists(self):
        code = "".join(
            path.read_text()
            for folder in ("include", "src")
            for path in sorted((ROOT / folder).rglob("*.*"))
            if path.suffix in (".h", ".cuh", ".cu", ".cc")
        )
        for page in ("docs/plan-kernel.md", "docs/images/plan-kernel.svg"):
            names = set(re.findall(r"(\w+)\(\)", (ROOT / page).read_text()))
            self.assertGreater(len(names), 10, page)
            missing = sorted(name for name in names if not re.search(rf"\b{name}\(", code))
            self.assertEqual(missing, [], page)


if __name__ == "__main__":
    unittest.main()
