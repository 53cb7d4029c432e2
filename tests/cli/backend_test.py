#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--backend where there is no GPU; with one, apps/lplb/command_cuda_test.cc compares the two.
usage: backend_test.py LPLB"""

import json

import support
from support import SMALL, npy

USAGE = 2


class Backend(support.CommandTest):
    def setUp(self):
        super().setUp()
        info = self.json_of("info")
        cuda = info["backends"]["cuda"]
        if cuda["available"]:
            self.skipTest("there is a GPU")
        self.reason = cuda["reason"]
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[10, 3, 4], [0, 0, 1]]})
        self.file("t.npy", npy("<i4", (2, 3, 1), [0, 1, 2, 0, 0, -1]))
        self.commands = {
            "solve": ["--placement", "p.json", "--load", "l.json"],
            "plan": ["--placement", "p.json", "--topk", "t.npy", "--out", "out.npy"],
            "simulate": ["--trace", "synthetic:W7_burst", "--synthetic-num-steps", "3"],
        }
        if info["benchmarks"]:
            self.commands["bench"] = []

    def test_cuda_is_refused_with_the_reason(self):
        for command, words in self.commands.items():
            self.refused(
                command,
                *words,
                "--backend",
                "cuda",
                status=USAGE,
                says=["--backend: cuda is not available: ", self.reason],
            )

    def test_it_is_refused_before_files_are_read(self):
        self.refused(
            "solve",
            "--placement",
            "none.json",
            "--load",
            "none.json",
            "--backend",
            "cuda",
            status=USAGE,
            says=[self.reason],
        )

    def test_other_names_are_refused(self):
        for command, words in self.commands.items():
            for name in ("gpu", "CUDA", "cuda:0"):
                self.refused(
                    command,
                    *words,
                    "--backend",
                    name,
                    status=USAGE,
                    says=["--backend: ", f'"{name}"', "auto, cpu or cuda"],
                )

    def test_auto_is_the_cpu_and_says_why(self):
        for command in ("solve", "plan"):
            words = [command, *self.commands[command], "--json", "-"]
            done = self.run_command(*words, "--backend", "auto")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(
                done.stderr.decode(), f"lplb: backend cpu: cuda is not available: {self.reason}\n"
            )
            self.assertEqual(done.stdout.decode(), self.ok(*words))
            self.assertEqual(done.stdout.decode(), self.ok(*words, "--backend", "cpu"))

    def test_a_replay_tells_it_too_and_its_report_does_not(self):
        words = ["simulate", *self.commands["simulate"], "--json", "-", "--backend"]
        done = self.run_command(*words, "auto")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stderr.decode().startswith("lplb: backend cpu: "), done.stderr)
        reports = [json.loads(text) for text in (done.stdout, self.ok(*words, "cpu"))]
        for report in reports:
            for policy in report["policies"]:
                policy.pop("solve_us")
        self.assertEqual(*reports)

    def test_traces_that_cannot_be_measured_are_refused(self):
        if "bench" not in self.commands:
            self.skipTest("no benchmarks in this build")
        self.refused("bench", "--trace", "none.jsonl", status=3, says=["none.jsonl"])
        self.file(
            "short.jsonl",
            json.dumps(
                {
                    "step": 0,
                    "domain": "a",
                    "num_tokens": 1,
                    "num_topk": 2,
                    "first_layer": 0,
                    "load": [[1, 1, 0, 0]],
                }
            )
            + "\n",
        )
        self.refused(
            "bench",
            "--trace",
            "short.jsonl",
            status=USAGE,
            says=["--trace: short.jsonl holds 1 batches of 1024 tokens"],
        )


if __name__ == "__main__":
    support.main()
