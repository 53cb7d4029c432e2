#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which changes scripts/mutate finds in a source, and what it says of them: mutate_test.py [CXX]"""

import pathlib
import sys
import tempfile
import unittest

import changes
import trial

CXX = sys.argv.pop(1) if len(sys.argv) > 1 else "g++"


def after(code):
    """The code after each change that is found in it."""
    return [change.apply(code) for change in changes.find_changes("a.cc", code)]


class FinderTest(unittest.TestCase):
    def becomes(self, code, *changed):
        self.assertEqual(after(code), list(changed))

    def test_operators(self):
        for before, expected in (
            ("a < b", "a <= b"),
            ("a <= b", "a < b"),
            ("a > b", "a >= b"),
            ("a >= b", "a > b"),
            ("a == b", "a != b"),
            ("a != b", "a == b"),
            ("a && b", "a || b"),
            ("a || b", "a && b"),
            ("a + b", "a - b"),
            ("a[i] - b", "a[i] + b"),
            ("f(a) * b", "f(a) / b"),
            ("a % b", "a / b"),
            ("a << b", "a >> b"),
            ("a += b", "a -= b"),
            ("x = ++a", "x = --a"),
            ("std::min(a, b)", "std::max(a, b)"),
            ("x = true", "x = false"),
            ("x = !a", "x = a"),
            ("if (a &&\n    b) {", "if (a ||\n    b) {"),
        ):
            with self.subTest(before):
                self.becomes(before, expected)

    def test_numbers(self):
        self.becomes("x = 0", "x = 1")
        self.becomes("x = 1", "x = 0")
        self.becomes("x = 32", "x = 33")
        self.becomes("a[2] < 4", "a[3] < 4", "a[2] <= 4", "a[2] < 5")

    def test_statements(self):
        for statement in ("f(a);", "a.b->c(d);", "a[i] = b;", "a += b;", "if (a) f(b);", "break;"):
            with self.subTest(statement):
                code = f"{{\n  {statement}\n}}"
                self.assertIn("{\n  ;\n}", after(code))
        for declaration in ("int a = b;", "std::vector<int> a(b);", "return a;", "using a = b;"):
            with self.subTest(declaration):
                self.becomes(f"{{\n  {declaration}\n}}")

    def test_places_and_words(self):
        code = "int f(int a) {\n  g(a);\n  return a < 2;\n}\n"
        found = [(change.line, change.what) for change in changes.find_changes("a.cc", code)]
        self.assertEqual(
            found,
            [
                (2, "without g(a);"),
                (3, "return a < 2;  ->  return a <= 2;"),
                (3, "return a < 2;  ->  return a < 3;"),
            ],
        )

    def test_left_alone(self):
        for code in (
            "// a < b",
            "/* a < b\n   a + 1 */",
            '#include "a.h"\n#if A > 1',
            "#define A \\\n  (B + 1)",
            'x = "a < 1"',
            'x = R"(a < "1)"',
            "x = '1'",
            "static_assert(a < b);",
            "throw Error(a + 1);",
            'return formatted("{}", a + 1);',
            "std::array<int, 4> x;",
            "template <int kA = 1>",
            "std::map<int, std::array<int, 4>> x;",
            "int* a; int& b; T&& c; return -a;",
            "x = 1.5 ; y = 1e-9; z = 0x1f; w = 0666;",
            "a->b; x1 = int8_t(y);",
        ):
            with self.subTest(code):
                self.becomes(code)
        # The condition of a check counts, not what its message prints.
        self.becomes('check(a < b, "a", "is {}", a + 1);', 'check(a <= b, "a", "is {}", a + 1);')
        self.becomes('f("a"); x = a < b;', 'f("a"); x = a <= b;')
        # A loop that counts in the wrong direction tells nothing.
        self.becomes("for (; a < b; ++a) {", "for (; a <= b; ++a) {")


PROGRAM = """
int limit(int x) {
  if (x < 10) return x;
  return 10;
}
int main() {
  int left = 2;
  while (left != 0) left -= 1;
  return limit(3) == 3 && limit(12) == 10 ? 0 : 1;
}
"""


class TrialTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name, "a.cc")
        self.file.write_text(PROGRAM)
        program = str(self.file.with_suffix(""))
        self.step = trial.Step("limits", (CXX, str(self.file), "-o", program), (program,), 2)

    def judge(self, old, new):
        """The verdict on PROGRAM with `new` in place of `old`, which must be restored."""
        start = PROGRAM.index(old)
        change = changes.change_of("a.cc", PROGRAM, start, start + len(old), new)
        verdict = trial.judge(self.file, change, [self.step])
        self.assertEqual(self.file.read_text(), PROGRAM)
        return verdict.outcome, verdict.by

    def test_verdicts(self):
        self.assertLess(trial.seconds(self.step), 2)
        # Whether 10 or the limit is returned for 10 makes no difference.
        self.assertEqual(self.judge("<", "<="), ("survived", ""))
        self.assertEqual(self.judge("return 10", "return 11"), ("caught", "limits"))
        self.assertEqual(self.judge("left -= 1", ""), ("caught", "limits: time-out"))
        self.assertEqual(self.judge("left -=", "right -="), ("not compiled", ""))

    def test_a_test_that_fails_without_a_change(self):
        self.file.write_text(PROGRAM.replace("== 10", "== 11"))
        with self.assertRaisesRegex(RuntimeError, "limits fails without a change"):
            trial.seconds(self.step)

    def test_names_the_test(self):
        for output, name in (
            ("[ RUN      ] A.B\n[  FAILED  ] A.B (2 ms)\n[  FAILED  ] A.B\n", "A.B"),
            ("[ RUN      ] A.B\n[       OK ] A.B (2 ms)\n[ RUN      ] A.C/0\n", "A.C/0"),
            ("The following tests FAILED:\n\t 12 - cli_formats (Failed)\n", "cli_formats"),
            ("Segmentation fault\n", ""),
        ):
            with self.subTest(output):
                self.assertEqual(trial.failed_test(output), name)


if __name__ == "__main__":
    unittest.main()
