#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each fence holds on a clean tree and falls on a tree that breaks it: fences_test.py [CXX]"""

import pathlib
import sys
import tempfile
import unittest

import fences

CXX = sys.argv.pop(1) if len(sys.argv) > 1 else "g++"
LICENCE = "// SPDX-License-Identifier: MIT\n"
HEADER = LICENCE + "#pragma once\n"
CLEAN = {
    "include/lplb/types.h": HEADER + "#include <vector>\nnamespace lplb { using Load = long; }\n",
    "include/lplb/lplb.h": HEADER + '#include "lplb/types.h"\n',
    "src/plan/planner.cc": LICENCE + '#include "solve/level.h"\n#include "map/rules.h"\n',
    "src/solve/level.h": HEADER + "// Prints nothing; exits never.\n",
    "src/solve/solve.cc": LICENCE + '#include "core/check.h"\n#include "solve/level.h"\n',
    "src/solve/solve_test.cc": LICENCE + '#include "map/rules.h"\n#include <iostream>\n',
    "scripts/run": "#!/usr/bin/env bash\n# SPDX-License-Identifier: MIT\n",
}


class FencesTest(unittest.TestCase):
    def problems(self, check, **changes):
        """What `check` says of the clean tree with `changes`: keys are paths with / as __."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            files = CLEAN | {path.replace("__", "/"): text for path, text in changes.items()}
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            return list(fences.CHECKS[check](root, CXX))

    def falls(self, check, place, **changes):
        problems = self.problems(check, **changes)
        self.assertEqual(len(problems), 1, problems)
        self.assertTrue(problems[0].startswith(place), problems[0])

    def test_clean_tree(self):
        for check in fences.CHECKS:
            with self.subTest(check):
                self.assertEqual(self.problems(check), [])

    def test_public_includes(self):
        for include in (
            "<cuda_runtime.h>",
            "<fmt/format.h>",
            "<nlohmann/json.hpp>",
            "<torch/all.h>",
            "<Python.h>",
            '"core/check.h"',
            '"lplb/missing.h"',
        ):
            with self.subTest(include):
                self.falls(
                    "public_includes",
                    "include/lplb/a.h:3:",
                    **{"include__lplb__a.h": HEADER + f"#include {include}\n"},
                )

    def test_headers_alone(self):
        self.falls(
            "headers_alone",
            "include/lplb/a.h:1:",
            **{"include__lplb__a.h": HEADER + "lplb::Load load();\n"},
        )
        self.falls(
            "headers_alone",
            "include/lplb/a.h:1:",
            **{"include__lplb__a.h": LICENCE + "struct Twice {};\n"},
        )

    def includes(self, folder, name):
        """What the fence says of a file in src/FOLDER that includes NAME."""
        return self.problems("stages", **{f"src__{folder}__a.h": HEADER + f'#include "{name}"\n'})

    def test_stages(self):
        for stage in fences.STAGES:
            for other in (*fences.STAGES, "plan", "placement", "simulate", "io"):
                with self.subTest(f"{stage} {other}"):
                    expected = [f"src/{stage}/a.h:3: {stage} includes {other}/a.h"]
                    if other == stage or (stage, other) == ("replicate", "solve"):
                        expected = []
                    self.assertEqual(self.includes(stage, f"{other}/a.h"), expected)
            self.assertEqual(self.includes("plan", f"{stage}/a.h"), [])
        for folder, other in (
            ("core", "io"),
            ("io", "solve"),
            ("plan", "simulate"),
            ("plan", "placement"),
            ("placement", "plan"),
            ("simulate", "plan"),
        ):
            with self.subTest(f"{folder} {other}"):
                self.assertEqual(len(self.includes(folder, f"{other}/x/a.h")), 1)

    def test_stages_know_all_folders(self):
        self.falls("stages", "src/new:1:", **{"src__new__a.h": HEADER})

    def test_namespaces(self):
        for folder, name in (
            ("solve", "lplb::solve"),
            ("exchange", "lplb::device"),
            ("plan/device", "lplb::exchange"),
            ("map", "count"),
        ):
            with self.subTest(f"{folder} {name}"):
                path = f"src__{folder.replace('/', '__')}__a.h"
                text = f"namespace {name} {{\nint a();\n}}  // namespace {name}\n"
                self.falls("namespaces", f"src/{folder}/a.h:3:", **{path: HEADER + text})
                text = text.replace(name, "lplb")
                self.assertEqual(self.problems("namespaces", **{path: HEADER + text}), [])

    def test_quiet_library(self):
        for line in (
            "std::cout << 1;",
            '  printf("x");',
            "std::abort();",
            "exit (1);",
            "assert(true);",
            "#include <iostream>",
            "fmt::print(text);",
        ):
            with self.subTest(line):
                self.falls(
                    "quiet_library",
                    "src/solve/a.cc:2:",
                    **{"src__solve__a.cc": LICENCE + line + "\n"},
                )
        for line in ("static_assert(true);", "// exit(1)", 'throw Error("abort()");'):
            with self.subTest(line):
                self.assertEqual(
                    self.problems("quiet_library", **{"src__solve__a.cc": LICENCE + line}), []
                )

    def test_layout(self):
        self.falls("layout", "src/solve/a.cc:1:", **{"src__solve__a.cc": "int a;\n"})
        self.falls("layout", "src/CMakeLists.txt:1:", **{"src__CMakeLists.txt": "project(a)\n"})
        self.falls("layout", "scripts/test:1:", scripts__test="#!/bin/sh\n")
        self.falls(
            "layout", "src/solve/a.cc:451:", **{"src__solve__a.cc": LICENCE + "int a;\n" * 450}
        )
        self.falls("layout", "src/solve/a.cc:2:", **{"src__solve__a.cc": LICENCE + "int a; \n"})
        self.falls("layout", "src/solve/a.cc:2:", **{"src__solve__a.cc": LICENCE + "\tint a;\n"})
        self.falls("layout", "src/solve/a.h:1:", **{"src__solve__a.h": LICENCE})
        self.falls("layout", "src/a.cc:1:", **{"src__a.cc": LICENCE})
        for name in ("a.css", "a.js"):
            with self.subTest(name):
                place, path = f"src/simulate/report/{name}", f"src__simulate__report__{name}"
                licence = LICENCE if name == "a.js" else "/* SPDX-License-Identifier: MIT */\n"
                self.assertEqual(self.problems("layout", **{path: licence + "\n"}), [])
                self.falls("layout", f"{place}:1:", **{path: "\n"})
                self.falls("layout", f"{place}:2:", **{path: licence + "a \n"})
                self.falls("layout", f"{place}:451:", **{path: licence + "a\n" * 450})

    def test_finished(self):
        for line in ("// TO" + "DO: later", "// FIX" + "ME", "#if" + " 0", "// x = f(y);"):
            with self.subTest(line):
                self.falls(
                    "finished", "src/solve/a.cc:2:", **{"src__solve__a.cc": LICENCE + line + "\n"}
                )
        for name in ("a.css", "a.js"):
            with self.subTest(name):
                self.falls("finished", f"src/map/{name}:1:", **{f"src__map__{name}": "TO" + "DO\n"})

    def test_vocabulary(self):
        self.falls(
            "vocabulary",
            "src/solve/a.cc:2:",
            **{"src__solve__a.cc": LICENCE + "int world_size = 8;\n"},
        )
        self.assertEqual(
            self.problems(
                "vocabulary", **{"src__solve__a.cc": LICENCE + "// world_size elsewhere\n"}
            ),
            [],
        )

    def test_english(self):
        for line in (
            "// Of all counts.",
            "int a;  ///< Of a rank.",
            "/// The others likewise.",
            "// made anew",
            "// Allows so many bytes.",
        ):
            with self.subTest(line):
                self.falls(
                    "english", "src/solve/a.cc:2:", **{"src__solve__a.cc": LICENCE + line + "\n"}
                )
        for path, text, number in (
            ("docs/a.md", "# A\n\nOf a page.\n", 3),
            ("README.md", "- Of a list.\n", 1),
            ("python/a.py", '"""Of a module."""\n', 1),
            ("python/a.py", 'def a():\n    """A.\n\n    Of it.\n    """\n', 4),
            ("scripts/a.py", "a = 1  # Of a number\n", 1),
        ):
            with self.subTest(text):
                self.falls("english", f"{path}:{number}:", **{path.replace("/", "__"): text})
        for text in ("// One of two.", 'const char* a = "Of likewise";', "int likewise = 1;"):
            with self.subTest(text):
                self.assertEqual(
                    self.problems("english", **{"src__solve__a.cc": LICENCE + text + "\n"}), []
                )
        self.assertEqual(
            self.problems("english", docs__a_md="", **{"docs__a.md": "```\nOf code\n```\n"}), []
        )


if __name__ == "__main__":
    unittest.main()
