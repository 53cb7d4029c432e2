#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two reports side by side. usage: report_test.py LPLB"""

import json

import support

LINE = "simulate --trace synthetic:W6_rotating_hotspot --synthetic-num-layers 2 --policies "


class Report(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.a = self.json_of(f"{LINE}none,eplb,eplb+lplb")
        self.b = self.json_of(f"{LINE}eplb,eplb+lplb,cube+lplb --redundants 1 --window 4")
        self.file("a.json", json.dumps(self.a))
        self.file("b.json", json.dumps(self.b))

    def test_the_figures_are_those_of_the_reports(self):
        lines = self.ok("report a.json b.json").splitlines()
        self.assertEqual(lines[:2], ["A: a.json", "B: b.json"])
        rows = {line.split()[0]: line.split()[1:] for line in lines if line}
        means = [
            {p["name"]: p["imbalance"]["mean"] for p in report["policies"]}
            for report in (self.a, self.b)
        ]
        for name in ("eplb", "eplb+lplb"):
            a, b = (mean[name] for mean in means)
            self.assertEqual(rows[name][:2], [f"{a:.3f}", f"{b:.3f}"])
            self.assertEqual(float(rows[name][2]), round(100 * (b / a - 1), 1))
        self.assertEqual(rows["none"][:3], [f"{means[0]['none']:.3f}", "-", "-"])
        self.assertEqual(rows["cube+lplb"][:3], ["-", f"{means[1]['cube+lplb']:.3f}", "-"])
        self.assertEqual(rows["settings.redundants"], ["2", "1"])
        self.assertEqual(rows["settings.window"], ["8", "4"])
        self.assertNotIn("settings.num_ranks", rows)

    def test_a_report_is_like_itself(self):
        text = self.ok("report a.json a.json")
        self.assertIn("Trace and settings are the same.", text)
        self.assertRegex(text, r"eplb\+lplb +[\d.]+ +[\d.]+ +0.0 %")

    def test_the_page_has_both_with_the_same_axes(self):
        self.ok("report a.json b.json --html c.html")
        page = (self.folder / "c.html").read_text()
        self.assertEqual(page.count('<figure class="ranges">'), 2)
        self.assertEqual(page.count('<figure class="time">'), 2)
        scales = [
            part.split("</g>")[0].split("<text", 1)[1]
            for part in page.split('height="40" aria-hidden="true"><g class="drawn">')[1:]
        ]
        self.assertEqual(len(scales), 2)
        self.assertEqual(scales[0], scales[1])
        self.assertIn("lplb</span> <span>report</span> <span>a.json</span>", page)
        self.assertEqual(
            page,
            self.ok("report a.json b.json --html -").replace(
                "--html</span> <span>-", "--html</span> <span>c.html"
            ),
        )

    def test_what_is_no_report_is_refused(self):
        del self.b["policies"][1]["over_time"]
        self.file("lacks.json", json.dumps(self.b))
        for name, text, words in (
            ("text.json", "{", "not valid JSON"),
            ("list.json", "[1]", "expected an object"),
            ("empty.json", "{}", "trace"),
            ("lacks.json", None, 'policies[1]: key "over_time" is missing'),
            ("none.json", json.dumps({**self.a, "policies": []}), "expected at least one"),
        ):
            if text is not None:
                self.file(name, text)
            done = self.run_command(f"report a.json {name}")
            self.assertEqual(done.returncode, 3, (name, done.stderr))
            self.assertEqual(done.stderr.count(b"\n"), 1)
            self.assertIn(words, done.stderr.decode())
        self.assertEqual(self.run_command("report a.json missing.json").returncode, 3)
        for line, words in (
            ("report a.json", b"B is required"),
            ("report a.json b.json --html b.json", b"--html: b.json is the file of B"),
            ("report - -", b"A takes already"),
        ):
            done = self.run_command(line)
            self.assertEqual(done.returncode, 2, (line, done.stderr))
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    support.main()
