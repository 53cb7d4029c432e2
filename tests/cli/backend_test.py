#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What --backend does on a machine without a GPU. On a machine with one,
apps/lplb/command_cuda_test.cc compares the two backends. usage: backend_test.py LPLB"""

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
            "solve": "solve --placement p.json --load l.json",
            "plan": "plan --placement p.json --topk t.npy --out out.npy",
            "place": "place --load l.json --policy homes --num-ranks 3 --redundants 1",
            "simulate": "simulate --trace synthetic:W7_burst --synthetic-num-steps 3",
        }
        if info["benchmarks"]:
            self.commands["bench"] = "bench"

    def test_cuda_is_refused_with_the_reason(self):
        says = ["--backend: cuda is not available: ", self.reason]
        for line in self.commands.values():
            self.refused(f"{line} --backend cuda", status=USAGE, says=says)

    def test_it_is_refused_before_files_are_read(self):
        line = "solve --placement none.json --load none.json --backend cuda"
        self.refused(line, status=USAGE, says=[self.reason])

    def test_other_names_are_refused(self):
        for line in self.commands.values():
            for name in ("gpu", "CUDA", "cuda:0"):
                says = ["--backend: ", f'"{name}"', "auto, cpu or cuda"]
                self.refused(f"{line} --backend {name}", status=USAGE, says=says)

    def test_auto_is_the_cpu_and_says_why(self):
        for command in ("solve", "plan", "place"):
            line = f"{self.commands[command]} --json -"
            done = self.run_command(f"{line} --backend auto")
            self.assertEqual(done.returncode, 0, done.stderr)
            note = f"lplb: backend cpu: cuda is not available: {self.reason}\n"
            self.assertEqual(done.stderr.decode(), note)
            self.assertEqual(done.stdout.decode(), self.ok(line))
            self.assertEqual(done.stdout.decode(), self.ok(f"{line} --backend cpu"))

    def test_a_replay_tells_it_too_and_its_report_does_not(self):
        line = f"{self.commands['simulate']} --json - --backend"
        done = self.run_command(f"{line} auto")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stderr.decode().startswith("lplb: backend cpu: "), done.stderr)
        reports = [json.loads(text) for text in (done.stdout, self.ok(f"{line} cpu"))]
        for report in reports:
            for policy in report["policies"]:
                policy.pop("solve_us")
        self.assertEqual(*reports)

    def test_traces_that_cannot_be_measured_are_refused(self):
        if "bench" not in self.commands:
            self.skipTest("no benchmarks in this build")
        self.refused("bench --trace none.jsonl", status=3, says=["none.jsonl"])
        step = {"step": 0, "domain": "a", "num_tokens": 1, "num_topk": 2, "first_layer": 0}
        self.file("short.jsonl", json.dumps({**step, "load": [[1, 1, 0, 0]]}) + "\n")
        says = ["--trace: short.jsonl holds 1 batches of 1024 tokens"]
        self.refused("bench --trace short.jsonl", status=USAGE, says=says)


if __name__ == "__main__":
    support.main()
