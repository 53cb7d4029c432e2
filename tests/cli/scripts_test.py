#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/run, scripts/setup and scripts/wheel do with their arguments. Stand-ins replace the
programs that they call. usage: scripts_test.py"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ScriptsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.root = self.folder / "project"
        (self.root / "scripts").mkdir(parents=True)
        for script in ("run", "setup", "wheel"):
            shutil.copy(ROOT / "scripts" / script, self.root / "scripts")

    def program(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run_script(self, script, *args, cwd=None, **environment):
        return subprocess.run(
            [self.root / "scripts" / script, *args],
            cwd=cwd or self.root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


class Run(ScriptsTest):
    def words(self, *args, cwd=None):
        """The words that the command receives, and the last line that the script prints."""
        self.program(self.root / "scripts/setup", "")
        self.program(self.folder / "bin/cmake", "")
        self.program(self.root / "build/release/apps/lplb/lplb", 'echo "$@"')
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = self.run_script("run", *args, cwd=cwd, PATH=path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        return lines[0].split(), lines[-1]

    def test_it_chooses_what_is_left_open(self):
        words, report = self.words()
        start = "simulate --batch-tokens 1024 --trace data/traces/deepseek-v2-lite.load.jsonl"
        self.assertEqual(words[:5], start.split())
        self.assertIn("none,eplb,eplb+lplb,cube+even,cube+lplb", words)
        self.assertEqual(report, "report: out/report.html")
        words, report = self.words(cwd=self.folder)
        self.assertIn(str(self.root / "data/traces/deepseek-v2-lite.load.jsonl"), words)
        self.assertEqual(report, f"report: {self.root / 'out/report.html'}")

    def test_options_that_are_given_are_not_chosen_again(self):
        words, report = self.words("--trace", "t", "--num-ranks=16", "--html", "h")
        self.assertEqual(words[-5:], ["--trace", "t", "--num-ranks=16", "--html", "h"])
        for option in ("--trace", "--html", "--num-ranks", "--batch-tokens"):
            self.assertLessEqual(words.count(option), 1, option)
        self.assertNotIn("--batch-tokens", words)
        self.assertIn("none,eplb,eplb+lplb,hypercube+even,hypercube+lplb", words)
        self.assertEqual(report, "report: h")

    def test_the_last_word_stays_the_last(self):
        for last in ("--trace", "--num-ranks", "extra"):  # the command says what is missing
            self.assertEqual(self.words(last)[0][-1], last)

    def test_nothing_is_added_to_json(self):
        self.assertIn("simulate", self.words("--json", "-")[1])


class Setup(ScriptsTest):
    def test_a_compiler_that_cannot_be_run(self):
        done = self.run_script("setup", "build", CXX="/none/c++")
        if "please" in done.stderr:
            self.skipTest("packages are missing here")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("CXX: /none/c++ cannot be run", done.stderr)

    def test_an_old_compiler_behind_a_launcher(self):
        self.program(self.folder / "c++", 'echo "10.2.1"')
        done = self.run_script("setup", "build", CXX=f"env {self.folder / 'c++'}")
        if "please" in done.stderr:
            self.skipTest("packages are missing here")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is version 10, expected 11 or newer", done.stderr)

    def test_an_unknown_argument(self):
        done = self.run_script("setup", "all")
        message = "setup: all: expected build, test or python\n"
        self.assertEqual((done.returncode, done.stderr), (2, message))


class Wheel(ScriptsTest):
    def test_an_unknown_processor(self):
        done = self.run_script("wheel", "riscv64")
        message = "wheel: riscv64: expected x86_64 or aarch64\n"
        self.assertEqual((done.returncode, done.stderr), (2, message))


if __name__ == "__main__":
    unittest.main()
