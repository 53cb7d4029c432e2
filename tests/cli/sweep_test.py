#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A sweep gives the figures of the replays one by one. usage: sweep_test.py LPLB"""

import json

import support
from support import ROOT

TRACE = f"--trace {ROOT / 'data/traces/deepseek-v2-lite.load.jsonl'} --batch-tokens 1024"


class Sweep(support.CommandTest):
    def test_each_value_is_the_replay_with_it(self):
        policies = "none,eplb,eplb+lplb,cube+lplb"
        line = f"simulate {TRACE} --policies {policies}"
        sweep = self.json_of(f"{line} --sweep redundants=0:2")
        self.assertEqual(sweep["sweep"], "redundants")
        self.assertEqual([point["value"] for point in sweep["points"]], [0, 1, 2])
        self.assertEqual(sweep["problems"], [])
        for point in sweep["points"]:
            alone = self.json_of(f"{line} --redundants {point['value']}")
            for ours, theirs in zip(point["policies"], alone["policies"], strict=True):
                for key in ("layers", "over_time", "rank_heat"):
                    theirs.pop(key)
                for policy in (ours, theirs):
                    policy.pop("solve_us")
                self.assertEqual(ours, theirs)

        lines = self.ok(f"{line} --sweep redundants=0:2").splitlines()
        self.assertEqual(lines[0].split()[-3:], ["0", "1", "2"])
        for i, name in enumerate(policies.split(",")):
            means = [f"{p['policies'][i]['imbalance']['mean']:.3f}" for p in sweep["points"]]
            self.assertEqual(lines[1 + i].split(), [name, *means])

    def test_it_says_how_many_redundants_are_enough(self):
        text = self.ok(f"simulate {TRACE} --policies eplb+lplb,cube+lplb --sweep redundants=1:3")
        self.assertIn(
            "at most 1.05: eplb+lplb from redundants 3, cube+lplb from redundants 2.", text
        )
        text = self.ok(f"simulate {TRACE} --policies eplb+lplb,cube+lplb --sweep redundants=2")
        self.assertIn("cube+lplb from redundants 2; not enough for eplb+lplb.", text)
        text = self.ok(f"simulate {TRACE} --sweep window=1:9:4")
        self.assertNotIn("at most", text)
        self.assertEqual(text.splitlines()[0].split()[-3:], ["1", "5", "9"])

    def test_what_does_not_fit_is_named_and_the_rest_kept(self):
        line = f"simulate {TRACE} --policies eplb,cube+lplb --sweep num-ranks=8,16,2"
        done = self.ok(f"{line} --html s.html")
        rows = {row.split()[0]: row.split()[1:] for row in done.splitlines()[:3]}
        self.assertEqual(rows["mean"][-3:], ["2", "8", "16"])
        self.assertEqual([value == "-" for value in rows["cube+lplb"]], [True, False, False])
        self.assertNotIn("-", rows["eplb"])
        self.assertIn("num-ranks 2, cube+lplb: ", done)
        page = (self.folder / "s.html").read_text()
        self.assertIn('data-policy="cube+lplb" data-metric="imbalance.mean" data-value=""', page)
        self.assertNotIn("nan", page.split("<script>")[0].split("</style>")[1])

    def test_bad_sweeps_are_refused(self):
        for sweep, words in (
            ("redundants", ["NAME=LOW:HIGH"]),
            ("redundant=1", ["cannot be swept", "did you mean redundants?"]),
            ("redundants=3:1", ['"3:1" has no values']),
            ("redundants=0:1000", ["too many values", "1 to 100"]),
            ("redundants=1:2:3:4", ["LOW:HIGH:STEP"]),
            ("redundants=1:2:0", ["expected an integer from 1"]),
            ("redundants=a,b", ['"a"', "expected an integer"]),
            ("num-ranks=0", ['"0"', "expected an integer from 1"]),
            ("num-ranks=7,9", ["nothing can be replayed"]),
        ):
            done = self.run_command(f"simulate {TRACE} --policies eplb --sweep {sweep}")
            self.assertEqual(done.returncode, 2, sweep)
            text = done.stderr.decode()
            self.assertTrue(text.startswith("lplb: --sweep: "), text)
            for word in words:
                self.assertIn(word, text)
        line = f"simulate {TRACE} --sweep redundants=1 --policies eplb --policy eplb"
        done = self.run_command(f"{line} --write-placement p.json")
        self.assertIn(b"--write-placement: is for one replay", done.stderr)

    def test_json_is_json(self):
        text = self.ok(f"simulate {TRACE} --policies eplb --sweep window=1 --json -")
        self.assertEqual(json.loads(text)["points"][0]["settings"]["window"], 1)


if __name__ == "__main__":
    support.main()
