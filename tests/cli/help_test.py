#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Help, its page in docs and the completion scripts say the same. usage: help_test.py LPLB"""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import termios

import support
from support import ROOT

COMMANDS = [
    "simulate",
    "report",
    "place",
    "solve",
    "replicate",
    "plan",
    "bench",
    "info",
    "completion",
]


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


class Help(support.CommandTest):
    def listed(self, command):
        """The options that have a line of their own in --help."""
        text = self.ok(f"{command} --help")
        return set(re.findall(r"^  (?:-h,)?(--[a-z0-9-]+)", text, re.MULTILINE))

    def test_the_program_lists_its_commands(self):
        for option in ("--help", "-h"):
            text = self.ok(option)
            for command in COMMANDS:
                self.assertRegex(text, rf"(?m)^  {command} ")
            self.assertIn("Exit status: 0 done", text)

    def test_documented_options_are_there(self):
        expected = {
            "simulate": "trace num-ranks num-nodes redundants policies batch-tokens window "
            "rebalance-every backend threads json html num-replicas skip-steps drop-repeats "
            "warm-up expert-bytes write-placement policy",
            "place": "load policy num-replicas num-groups num-nodes num-ranks redundants from json",
            "solve": "placement load solver backend json",
            "replicate": "placement load slots target min-tokens num-domains threads json",
            "plan": "placement topk out backend json",
            "bench": "json filter backend trace",
            "info": "json",
        }
        for command, names in expected.items():
            self.assertLessEqual({f"--{name}" for name in names.split()}, self.listed(command))

    def test_help_names_usage_defaults_and_exit_status(self):
        for command in COMMANDS:
            text = self.ok(f"{command} --help")
            self.assertTrue(text.startswith(f"usage: lplb {command} "))
            self.assertIn("Exit status: 0 done", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 80, command)
        self.assertRegex(self.ok("simulate --help"), r"--window N +[^\[]*\[default: 8\]")
        self.assertRegex(self.ok("solve --help"), r"--load FILE +[^\[]*\[required\]")

    def test_help_fits_the_terminal(self):
        for columns, most in ((40, 40), (60, 60), (100, 100), (300, 100)):
            for command in COMMANDS:
                done = subprocess.run(
                    support.argv(f"{command} --help"),
                    capture_output=True,
                    text=True,
                    check=True,
                    env={**os.environ, "COLUMNS": str(columns)},
                )
                for line in done.stdout.splitlines():
                    # A word may be longer than a line.
                    fits = len(line) <= most or len(line.split()) <= 4
                    self.assertTrue(fits, (columns, line))
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 64, 0, 0))
        subprocess.run(support.argv("solve --help"), stdout=slave, check=True)
        os.close(slave)
        text = os.read(master, 100000).decode().replace("\r", "")
        self.assertLessEqual(max(map(len, text.splitlines())), 64)
        self.assertGreater(max(map(len, text.splitlines())), 56)

    def test_examples_can_be_copied(self):
        for command in COMMANDS:
            text = self.ok(f"{command} --help")
            if "Example" not in text:
                continue
            lines = re.split("Examples?: ", text)[1].split("\n\n")[0].splitlines()
            for line, after in zip(lines, lines[1:]):
                ends = after.strip().startswith("lplb ")
                self.assertEqual(line.endswith(" \\"), not ends, lines)
                self.assertNotRegex(line, r" --[a-z-]+ \\$")

    def test_help_and_version_are_commands_too(self):
        self.assertEqual(self.ok("help"), self.ok("--help"))
        self.assertEqual(self.ok("help solve"), self.ok("solve --help"))
        self.assertEqual(self.ok("version"), self.ok("--version"))
        done = self.run_command("help slove")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"did you mean solve?", done.stderr)

    def test_the_man_page_has_every_option(self):
        page = self.ok("--help-man")
        self.assertTrue(page.splitlines()[1].startswith(".TH LPLB 1 "), page[:80])
        plain = page.replace("\\-", "-").replace("\\&", "")
        for command in COMMANDS:
            section = plain.split(f".SS lplb {command}")[1].split("\n.S")[0]
            self.assertLessEqual(self.listed(command), options_in(section))
        self.assertIn("Exit status: 0 done", plain)
        for line in page.splitlines():
            self.assertRegex(line, r"^(\.(TH|SH|SS|B|I|TP|PP|nf|fi|\\\")|[^.'])")
        if shutil.which("groff"):
            done = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", "-z"],
                input=page.encode(),
                capture_output=True,
                check=True,
            )
            self.assertEqual(done.stderr, b"")

    def test_what_was_meant(self):
        for line, meant in (
            ("simulat", "simulate"),
            ("simulate --trac x", "--trace"),
            ("simulate --trace synthetic:W6_rotating_hotspt", "synthetic:W6_rotating_hotspot"),
            ("simulate --trace synthetic:W0_balanced --policies none,cube+lpbl", "cube+lplb"),
            ("simulate --trace synthetic:W0_balanced --solver flwo", "flow"),
            ("simulate --trace synthetic:W0_balanced --policies cub+lplb", "cube"),
            ("simulate --trace synthetic:W0_balanced --policies toru:2x4+even", "torus:2x4"),
            ("simulate --trace synthetic:W6_rot", "synthetic:W6_rotating_hotspot"),
            ("simulate --trace W6_rotating_hotspot", "synthetic:W6_rotating_hotspot"),
            ("simulate --trace synthetc:W7_burst", "synthetic:W7_burst"),
            ("place --load x --num-ranks 8 --redundants 1 --policy rng:8", "ring:8"),
            ("bench --backend cud", "cuda"),
            ("completion ba", "bash"),
        ):
            done = self.run_command(line)
            self.assertEqual(done.returncode, 2, line)
            self.assertTrue(done.stderr.decode().endswith(f"did you mean {meant}?\n"), done.stderr)

    def test_the_page_is_what_the_command_prints(self):
        page = self.ok("--help-markdown")
        written = (ROOT / "docs/command.md").read_text()
        self.assertEqual(written, page, "run: lplb --help-markdown > docs/command.md")
        for command in COMMANDS:
            section = page.split(f"\n## lplb {command}\n")[1].split("\n## ")[0]
            self.assertLessEqual(self.listed(command), options_in(section))

    def test_completion_scripts_know_every_option(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.ok(f"completion {shell}")
            names = options_in(script) | {f"--{n}" for n in re.findall(r" -l ([a-z-]+)", script)}
            for command in COMMANDS:
                self.assertIn(command, script)
                self.assertLessEqual(self.listed(command), names, (shell, command))
            if shutil.which(shell):
                path = self.folder / self.file("script", script)
                done = subprocess.run([shell, "-n", path], capture_output=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, b""), shell)

    def complete(self, line):
        """What bash offers at the end of `line`."""
        if not shutil.which("bash"):
            self.skipTest("no bash")
        self.file("script", self.ok("completion bash"))
        words = line.split(" ")
        code = (
            'source ./script; COMP_LINE=$1; COMP_POINT=${#1}; shift; COMP_WORDS=("$@"); '
            "COMP_CWORD=$(($# - 1)); _lplb; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", code, "bash", line, *words],
            cwd=self.folder,
            capture_output=True,
            check=True,
        )
        self.assertEqual(done.stderr, b"")
        return set(done.stdout.decode().split())

    def test_zsh_is_given_choices_with_their_colons_escaped(self):
        choices = r":value:(eplb homes cube hypercube torus\:MxN ring\:N r2o\:FILE)"
        self.assertIn(choices, self.ok("completion zsh"))

    def test_bash_completes(self):
        self.assertEqual(self.complete("lplb s"), {"simulate", "solve"})
        self.assertEqual(self.complete("lplb help pl"), {"place", "plan"})
        self.assertEqual(self.complete("lplb solve --solver=c"), {"cut"})
        self.assertEqual(self.complete("lplb solve --load=scr"), {"script"})
        self.assertEqual(
            self.complete("lplb simulate --policies none,eplb-spread+l"), {"none,eplb-spread+lplb"}
        )
        self.assertEqual(
            self.complete("lplb simulate --policies=cu"),
            {"cube+even", "cube+lplb", "cube+time", "cube+stale", "cube+dynamic:1"},
        )
        self.assertEqual(
            self.complete("lplb simulate --trace synthetic:W6"), {"W6_rotating_hotspot"}
        )
        self.assertEqual(
            self.complete("lplb simulate --trace synth"),
            {
                f"synthetic:{name}"
                for name in (
                    "W0_balanced",
                    "W1_hot_expert_set",
                    "W2_hot_rank",
                    "W3_spread_hot_experts",
                    "W4_source_ragged",
                    "W5_zero_expert_rank",
                    "W6_rotating_hotspot",
                    "W7_burst",
                )
            },
        )
        self.assertEqual(self.complete("lplb solve --pl"), {"--placement"})
        self.assertEqual(self.complete("lplb solve --solver "), support.SOLVERS)
        for command in ("solve", "plan", "simulate", "bench"):
            self.assertEqual(self.complete(f"lplb {command} --backend "), {"auto", "cpu", "cuda"})
        policies = ",".join(self.complete("lplb simulate --policies "))
        self.ok(
            "simulate --trace synthetic:W0_balanced --synthetic-num-steps 1 "
            f"--synthetic-num-tokens 64 --num-ranks 16 --policies {policies} "
            f"--cost {ROOT / 'data/cost/h200-dsv3-bf16.json'}"
        )
        self.assertEqual(self.complete("lplb completion "), {"bash", "zsh", "fish"})
        self.assertEqual(self.complete("lplb solve --load scr"), {"script"})
        self.assertEqual(self.complete("lplb solve "), self.listed("solve"))


if __name__ == "__main__":
    support.main()
