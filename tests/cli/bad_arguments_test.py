#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad arguments: each is refused with one line that says what is wrong, and nothing is written.
usage: bad_arguments_test.py LPLB"""

import support
from support import SMALL

USAGE, INPUT = 2, 3


class BadArguments(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[1, 2, 3, 4]]})
        self.file("l3.json", {"load": [[1, 2, 3]]})

    def bad(self, line, *says):
        """`line` is refused because of its arguments; the message holds all of `says`."""
        self.refused(line, status=USAGE, says=says)

    def test_names(self):
        self.bad("", "COMMAND", "--help")
        self.bad("sovle", "sovle", "did you mean solve?")
        self.bad("xyzzy", "xyzzy", "simulate", "place", "solve")
        self.bad("--bogus", "--bogus")
        self.bad("simulate --version", "lplb simulate --help")
        self.bad("solve --placemnt p.json", "--placemnt", "did you mean --placement?")
        self.bad("solve --frobnicate", "--frobnicate", "lplb solve --help")
        self.bad("solve --placement p.json --load l3.json extra", "extra")
        self.bad("info -- extra", "extra")
        self.bad("completion tcsh", "tcsh", "fish")

    def test_controller(self):
        simulate = "simulate --trace synthetic:W0_balanced --controller "
        self.bad(simulate + "cheap", '"cheap" is not KEY=VALUE', "round-cost, life, min-gain")
        self.bad(simulate + "liffe=3", '"liffe=3"', "did you mean life=?")
        self.bad(simulate + "life=long", 'life is "long", expected a number of at least 0')
        self.bad(simulate + "life=0", "life: 0 is not a finite number > 0")
        self.bad(simulate + "round-cost=-1", 'round-cost is "-1", expected a number')
        self.bad(simulate + "interval=0", "interval", "0")
        self.bad(simulate + "homes=stay", 'homes is "stay", expected keep or move')

    def test_required_options(self):
        for command, options in {
            "solve": ("--placement p.json", "--load l3.json"),
            "replicate": ("--placement p.json", "--load l3.json"),
            "plan": ("--placement p.json", "--topk t.npy", "--out o.npy"),
            "place": ("--load l.json", "--num-ranks 2", "--num-replicas 4"),
            "simulate": ("--trace synthetic:W0_balanced",),
        }.items():
            for missing in options:
                given = " ".join(option for option in options if option != missing)
                self.bad(f"{command} {given}", missing.split()[0])

    def test_values(self):
        solve = "solve --placement p.json --load l3.json"
        for value in ("", "x", "1.5", "0x2", "1e3", "0", "-1", "99999", "9" * 30, "1 2", "+2"):
            self.refused(f"{solve} --threads", value, status=USAGE, says=["--threads", value])
        self.bad(f"{solve} --solver imp", "--solver", "imp", "flow")
        self.bad(f"{solve} --solver", "--solver", "no value")
        self.bad(f"{solve} --solver=", "--solver", "no value")
        self.bad(f"{solve} --load l3.json", "--load", "more than once")
        self.refused(f"{solve} --json", "", status=USAGE, says=["--json"])

    def test_values_of_replicate(self):
        line = "replicate --placement p.json --load l3.json"
        for option, values in {
            "--slots": ("0", "9", "1.5", "x", ""),
            "--target": ("0.99", "1001", "nan", "inf", "1,5", "x", "", "1.0 "),
            "--min-tokens": ("0", "-1", "1e3"),
            "--num-domains": ("0", "3", "x"),
        }.items():
            for value in values:
                says = [option, value.strip()]
                self.refused(f"{line} {option}", value, status=USAGE, says=says)
        many = {"num_ranks": 1024, "num_logical_experts": 4096}
        self.file("many.json", {**many, "physical_to_logical": list(range(4096))})
        self.file("many_load.json", {"load": [[1] * 4096]})
        self.bad("replicate --placement many.json --load many_load.json", "--slots", "5120", "4096")

    def test_a_forced_solver_is_not_replaced(self):
        experts = list(range(9))
        placement = {"num_ranks": 9, "num_logical_experts": 9, "physical_to_logical": experts}
        self.file("p.json", placement)
        self.file("l.json", {"load": [[1] * 9]})
        solve = "solve --placement p.json --load l.json --solver"
        self.bad(f"{solve} cut", '"cut" takes up to 8 ranks, not 9\n')  # and no "did you mean cut"
        self.bad(f"{solve} fast-time", '"fast-time" needs a cost model\n')

    def test_shapes_that_do_not_fit(self):
        for options, says in (
            ("--num-ranks 3 --num-replicas 4", ["--num-replicas", "4", "3"]),
            ("--num-ranks 2 --num-replicas 2", ["--num-replicas", "2", "4"]),
            ("--num-ranks 2 --num-replicas 4 --num-groups 3", ["--num-groups", "3"]),
            ("--num-ranks 2 --num-replicas 4 --num-groups 4 --num-nodes 4", ["--num-nodes", "4"]),
            ("--num-ranks 2 --num-replicas 4 --redundants 1", ["--redundants"]),
            ("--num-ranks 1024 --redundants 4096", ["--redundants", "4096"]),
            ("--policy cube", ["--redundants"]),
            ("--policy cube --num-replicas 8", ["--num-replicas", "cube"]),
            ("--policy ring:4 --redundants 2", ["redundants"]),
            ("--policy ring:4 --redundants 1 --num-ranks 6", ["6", "4"]),
            ("--policy sphere --redundants 1", ["--policy", "sphere", "cube"]),
            ("--policy torus:2 --redundants 1", ["torus:2"]),
            ("--policy torus:0x4 --redundants 1", ["torus:0x4"]),
            ("--policy ring:1 --redundants 1", ["ring:1"]),
            ("--policy ring:99999999999 --redundants 1", ["ring:99999999999"]),
            ("--num-ranks 2 --num-replicas 4 --keep-slots", ["--keep-slots"]),
            ("--num-ranks 2 --num-replicas 4 --keep-ranks", ["--keep-ranks", "--from"]),
            ("--policy ring:4 --redundants 1 --keep-ranks", ["--keep-ranks", "ring:4"]),
            ("--num-ranks 2", ["--num-replicas", "--redundants"]),
            ("--num-ranks 4 --num-replicas 8 --num-nodes 3", ["--num-nodes: 3 does not divide"]),
            ("--num-ranks 3 --redundants 1", ["--redundants: 1 on each of 3", "6 or 9 would do"]),
            ("--num-ranks 2 --num-replicas 10 --spread", ["--spread", "5 slots for 4 experts"]),
            ("--policy ring:4 --redundants 1 --spread", ["--spread", "ring:4"]),
            ("--policy homes --num-ranks 2 --redundants 1 --spread", ["--spread", "homes"]),
            ("--policy homes --num-ranks 2 --redundants 3", ["--redundants", "5 slots", "twice"]),
            (
                "--policy homes --num-ranks 2 --redundants 1 --max-moves 1",
                ["--max-moves", "--from"],
            ),
            ("--policy homes --num-ranks 2 --redundants 1 --budget -1", ["--budget", "-1"]),
            (
                "--policy homes --num-ranks 2 --redundants 1 --max-bytes 1 --expert-bytes 1",
                ["--max-bytes", "--from"],
            ),
            (
                "--policy homes --num-ranks 2 --redundants 1 --budget-seconds -1",
                ["--budget-seconds", "-1"],
            ),
            ("--num-ranks 2 --redundants 1 --budget-seconds 1", ["--budget-seconds", "homes"]),
            ("--num-ranks 2 --redundants 1 --move-homes", ["--move-homes", "--policy homes"]),
            ("--num-ranks 2 --redundants 1 --backend auto", ["--backend", "--policy homes"]),
            ("--num-ranks 2 --num-replicas 4 --dead-ranks 2", ["--dead-ranks: 2", "0 to 1"]),
            ("--num-ranks 2 --num-replicas 4 --dead-ranks 0,1", ["--dead-ranks", "every rank"]),
            (
                "--num-ranks 2 --num-replicas 4 --dead-ranks 1",
                ["1 live rank must", "--num-replicas 8 would"],
            ),
            ("--num-ranks 2 --num-replicas 4 --dead-ranks x", ["--dead-ranks", '"x"']),
            ("--num-ranks 2 --num-replicas 4 --rank-speed 1", ["--rank-speed", "1 numbers", "(2)"]),
            ("--num-ranks 2 --num-replicas 4 --rank-speed 1,0", ["--rank-speed", '"0"']),
            ("--num-ranks 2 --num-replicas 4 --layers 1", ["--layers", "1 is no layer", "0 to 0"]),
            ("--num-ranks 2 --num-replicas 4 --layers 3-1", ["--layers", "3-1", "ascending"]),
            ("--num-ranks 2 --num-replicas 4 --window 3", ["--window", "needs --trace"]),
            ("--num-ranks 2 --num-replicas 4 --batch-tokens 3", ["--batch-tokens", "--trace"]),
            ("--num-ranks 2 --num-replicas 4 --skip-steps 3", ["--skip-steps", "needs --trace"]),
            ("--num-ranks 2 --num-replicas 4 --drop-repeats", ["--drop-repeats", "needs --trace"]),
            ("--num-ranks 2 --num-replicas 4 --synthetic-seed 3", ["--synthetic-seed"]),
            ("--num-ranks 2 --num-replicas 4 --trace l.json", ["--load", "--trace"]),
        ):
            self.bad(f"place --load l.json {options}", *says)

    def test_a_placement_in_use_must_fit(self):
        for options, says in (
            ("--load l.json", ["--from: p.json has 3 logical experts", "4"]),
            ("--load l3.json --num-ranks 1", ["2 slots of a rank of p.json", "--num-replicas 3"]),
        ):
            self.bad(f"place --from p.json {options}", *says)
        self.file("l2.json", {"load": [[1, 2, 3]] * 2})
        says = ["p.json", "1 layer, expected 2"]
        self.refused("place --load l2.json --from p.json", status=INPUT, says=says)
        rows = [[0, 1, 2, 0], [0, 1, 2, 0, 1, 2]]
        self.file("two.json", {**SMALL, "physical_to_logical": rows})
        says = ["--num-replicas", "two.json", "such as 4 and 6"]
        self.bad("place --load l2.json --from two.json", *says)

    def test_a_trace_that_is_placed(self):
        place = "place --trace synthetic:W0_balanced --num-ranks 8 --redundants 1"
        self.bad(f"{place} --skip-steps 64", "--skip-steps: 64 leaves none of the 64 steps")
        self.bad(f"{place} --drop-repeats", "--drop-repeats", "STEM.topk.npy")

    def test_simulate(self):
        simulate = "simulate --trace synthetic:W0_balanced --synthetic-num-steps 2"
        for options, says in (
            ("--policies eplp", ["--policies", "eplp", "eplb"]),
            ("--policies eplb,,none", ["--policies"]),
            ("--policies eplb,", ["--policies", '""']),
            ("--policies none,none", ["--policies", "none"]),
            ("--policies hypercube+lplb", ["hypercube"]),
            ("--policies none+lplb", ["none+lplb"]),
            ("--num-ranks 7", ["--num-ranks", "7"]),
            ("--num-nodes 3", ["--num-nodes", "3"]),
            ("--redundants 4096", ["redundants", "4096"]),
            ("--num-replicas 257", ["--num-replicas: 257", "256 or 264 would do"]),
            ("--num-replicas 0", ["--num-replicas", "0"]),
            ("--num-replicas 264 --redundants 1", ["--redundants", "--num-replicas"]),
            ("--policies file:", ["file:PATH+even"]),
            ("--skip-steps 2", ["--skip-steps: 2 leaves none of the 2 steps"]),
            ("--warm-up 2", ["--warm-up: 2 leaves none of the 2 batches"]),
            ("--drop-repeats", ["--drop-repeats", "STEM.topk.npy"]),
            ("--expert-bytes 0", ["--expert-bytes", "0"]),
            ("--write-placement p.json", ["--policy", "--write-placement"]),
            ("--policy eplb", ["--write-placement", "--policy"]),
            ("--write-placement p.json --policy cube", ["--policy", "cube", "eplb+lplb"]),
            ("--window 0", ["--window", "0"]),
            ("--rebalance-every 0", ["--rebalance-every", "0"]),
            ("--batch-tokens -1", ["--batch-tokens", "-1"]),
            ("--solver x", ["--solver", "x"]),
            ("--synthetic-num-topk 257", ["--synthetic-num-topk", "257"]),
            ("--threads 0", ["--threads", "0"]),
        ):
            self.bad(f"{simulate} {options}", *says)
        self.bad(
            f"{simulate} --synthetic-num-logical-experts 60 --redundants 1",
            "--num-ranks: 8 does not divide the 60 experts",
            "64 or 72 would do",
        )
        self.refused(f"{simulate} --policies", "", status=USAGE, says=["--policies"])
        self.bad("simulate --trace synthetic:W9", "synthetic:W9", "W0_balanced")
        self.bad("simulate --trace l.json --synthetic-seed 1", "--synthetic-seed", "l.json")

    def test_bench(self):
        if not self.json_of("info")["benchmarks"]:
            self.skipTest("this build has no benchmarks")
        self.bad("bench --filter [", "--filter", "[")
        self.refused("bench --filter", "no such name", status=USAGE, says=["no such name"])
        self.bad("bench --min-time -1", "--min-time", "-1")


if __name__ == "__main__":
    support.main()
