#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Splits by a cost model: their output, and models that are refused.
usage: cost_test.py LPLB"""

import random

import support
from support import ROOT, SMALL, npy

INPUT = 3
MODEL = {
    "unit": "us",
    "rank": 32.1,
    "tokens": [128, 256, 384, 512],
    "cost": [31.0, 42.1, 65.3, 76.4],
    "then_every": 256,
    "then_cost": 34.3,
}
WEIGHTS = {"unit": "experts", "tokens": [1], "cost": [1], "then_every": 1, "then_cost": 0}


def changed(**changes):
    return {k: v for k, v in {**MODEL, **changes}.items() if v is not None}


# Pairs: the contents of a cost file, and what the message says.
BAD = [
    ([], ["a list", "object"]),
    (changed(unit=None), ['key "unit" is missing']),
    (changed(unit=3), ["key unit", "3", "a string"]),
    (changed(tokens=None), ['key "tokens" is missing']),
    (changed(then_every=None), ['key "then_every" is missing']),
    (changed(then_cost=None), ['key "then_cost" is missing']),
    (changed(price=1), ["price", "unknown", "then_every"]),
    (changed(tokens=[], cost=[]), ["key tokens", "empty"]),
    (changed(tokens=128), ["key tokens", "128", "a list"]),
    (changed(cost=[31.0]), ["key cost", "1 entries", "4"]),
    (changed(tokens=[128, 256, 256, 512]), ["key tokens[2]", "256", "more than 256"]),
    (changed(tokens=[128, 256, 384.5, 512]), ["key tokens[2]", "384.5"]),
    (changed(tokens=[0, 256, 384, 512]), ["key tokens[0]", "0"]),
    (changed(tokens=[128, 256, 384, 2**60]), ["key tokens[3]", str(2**60)]),
    (changed(cost=[31.0, 30.9, 65.3, 76.4]), ["key cost[1]", "30.9", "at least 31"]),
    (changed(cost=[-31.0, 42.1, 65.3, 76.4]), ["key cost[0]", "-31"]),
    (changed(cost=[0, 42.1, 65.3, 76.4]), ["key cost[0]", "0", "more than 0"]),
    (changed(cost=["31", 42.1, 65.3, 76.4]), ["key cost[0]", '"31"', "a number"]),
    (changed(cost=[1, 2, 3, 1e13]), ["key cost[3]", "10000000000000", "9007199254740"]),
    (changed(rank=-0.5), ["key rank", "-0.5"]),
    (changed(rank="32"), ["key rank", '"32"', "a number"]),
    (changed(then_every=0), ["key then_every", "0"]),
    (changed(then_every=1.5), ["key then_every", "1.5"]),
    (changed(then_cost=-1), ["key then_cost", "-1"]),
    ({"unit": "us", "ranks": []}, ["key ranks", "empty"]),
    ({"unit": "us", "ranks": {}}, ["key ranks", "an object", "a list"]),
    ({"unit": "us", "ranks": [WEIGHTS]}, ["key ranks[0]", "unit", "unknown"]),
    ({"unit": "us", "ranks": [{"tokens": [1]}]}, ["key ranks[0]", '"cost" is missing']),
    (dict(MODEL, ranks=[]), ["unknown", "unit, ranks"]),
]


class Cost(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[10, 2, 4], [300, 300, 10], [0, 0, 0]]})

    def solve(self, model, options=""):
        self.file("c.json", model)
        line = f"solve --placement p.json --load l.json --cost c.json {options}"
        return self.json_of(line)["results"]

    def test_keys_and_figures(self):
        weights, _, nothing = self.solve(WEIGHTS)
        keys = "status max_load lower_bound bottleneck_ranks rank_load physical_load max_cost "
        keys += "cost_lower_bound cost_bottleneck_ranks rank_cost active_experts"
        self.assertEqual(list(weights), keys.split())
        # Expert 0 is on both ranks and stays whole, on one of them.
        self.assertEqual((weights["status"], weights["max_cost"]), ("optimal", 2))
        self.assertEqual(sorted(weights["rank_cost"]), [1, 2])
        self.assertEqual(sum(weights["active_experts"]), 3)
        self.assertIn(10, weights["physical_load"])
        self.assertEqual((nothing["max_cost"], nothing["rank_cost"]), (0, [0, 0]))
        self.assertEqual(nothing["status"], "optimal")

    def test_a_large_expert_is_divided_at_a_step(self):
        result = self.solve(MODEL)[1]
        # Expert 1 costs 65.3 on rank 0, expert 2 costs 31 on rank 1. If expert 0 is whole on rank
        # 1, that rank costs 32.1 + 31 + 65.3; no division is better.
        self.assertEqual(result["max_cost"], 128.4)
        self.assertEqual(result["rank_cost"][1], 128.4)
        self.assertIn(result["rank_cost"][0], (97.4, 128.4))

    def test_speeds_divide(self):
        self.file("p.json", dict(SMALL, rank_speed=[1, 0.5]))
        result = self.solve(dict(WEIGHTS, rank=3))[0]
        self.assertEqual(result["rank_cost"], [5, 8])
        self.assertEqual((result["max_cost"], result["cost_lower_bound"]), (8, 8))

    def test_tables_by_rank(self):
        slow = dict(WEIGHTS, cost=[9])
        tables = [{k: v for k, v in m.items() if k != "unit"} for m in (WEIGHTS, slow)]
        result = self.solve({"unit": "us", "ranks": tables})[0]
        self.assertEqual((result["rank_cost"], result["active_experts"]), ([2, 9], [2, 1]))

    def test_threads_and_the_table(self):
        rng = random.Random(5)
        loads = [[rng.randrange(700) for _ in range(3)] for _ in range(30)]
        self.file("l.json", {"load": loads})
        self.assertEqual(self.solve(MODEL, "--threads 1"), self.solve(MODEL, "--threads 3"))
        table = self.ok("solve --placement p.json --load l.json --cost c.json")
        self.assertIn("max cost", table)
        self.assertIn("costs in us", table)

    def test_plan_takes_a_cost(self):
        self.file("c.json", WEIGHTS)
        self.file("t.npy", npy("<i4", (2, 3, 1), [0, 0, 1, 0, 2, 0]))
        line = "plan --placement p.json --topk t.npy --cost c.json --out o.npy"
        out = self.json_of(line)
        self.assertEqual((out["planned"], out["max_cost"], out["status"]), (6, 2, "optimal"))

    def test_simulate_shows_costs(self):
        self.file("c.json", WEIGHTS)
        trace = "--trace synthetic:W7_burst --synthetic-num-steps 9 --synthetic-num-layers 2"
        line = f"simulate {trace} --redundants 1 --synthetic-num-tokens 20 --threads 2"
        policies = "--policies none,eplb,eplb+lplb,eplb+time"
        table = self.ok(f"{line} --cost c.json {policies}")
        for text in ("experts mean  experts p99  experts gap", "a layer against", "Mean cost: "):
            self.assertIn(text, table)
        out = self.json_of(f"{line} --cost c.json {policies}")
        self.assertEqual(out["settings"]["cost_file"], "c.json")
        self.assertEqual(out["settings"]["cost"]["unit"], "experts")
        none, eplb, exact, time = (p["cost"] for p in out["policies"])
        self.assertLess(time["mean"], exact["mean"])
        self.assertLess(time["mean"], eplb["mean"])
        self.assertEqual(time["gap"], {"mean": 0, "max": 0})  # decode: proven optimal
        self.assertGreater(exact["gap"]["mean"], 0)
        self.assertEqual(none["mean"], sum(p["cost"] for p in out["policies"][0]["layers"]) / 2)
        self.assertEqual(out["policies"][3]["optimal"], 18)
        without = self.json_of(f"{line} --policies none,eplb,eplb+lplb")
        for old, new in zip(without["policies"], out["policies"]):
            self.assertEqual((old["imbalance"], old["gap"]), (new["imbalance"], new["gap"]))
            self.assertIsNone(old["cost"])

    def test_simulate_refuses(self):
        self.file("c.json", WEIGHTS)
        line = "simulate --trace synthetic:W0_balanced --policies"
        for policy in ("none+time", "eplb+time", "cube+time", "file:p.json+time"):
            self.refused(f"{line} {policy}", status=2, says=[policy, "needs a cost model"])
        self.refused(
            f"{line} eplb --cost c.json --solver time", status=2, says=["--solver", "+time"]
        )
        table = {k: v for k, v in WEIGHTS.items() if k != "unit"}
        self.file("c.json", {"unit": "us", "ranks": [table] * 3})
        says = ["c.json: key ranks", "3 tables", "num_ranks (8)"]
        self.refused(f"{line} eplb+time --cost c.json", status=INPUT, says=says)

    def test_models_of_the_project_are_taken(self):
        for path in sorted((ROOT / "data" / "cost").glob("*.json")):
            line = f"solve --placement p.json --load l.json --cost {path}"
            for result in self.json_of(line)["results"]:
                self.assertEqual(result["max_cost"], max(result["rank_cost"]), path)

    def test_bad_models(self):
        for model, says in BAD:
            self.file("c.json", model)
            line = "solve --placement p.json --load l.json --cost c.json"
            self.refused(line, status=INPUT, says=["c.json", *says])

    def test_a_model_for_other_ranks(self):
        table = {k: v for k, v in WEIGHTS.items() if k != "unit"}
        self.file("c.json", {"unit": "us", "ranks": [table] * 3})
        says = ["c.json: key ranks", "3 tables", "num_ranks (2)"]
        self.refused(
            "solve --placement p.json --load l.json --cost c.json", status=INPUT, says=says
        )

    def test_solvers(self):
        self.file("c.json", WEIGHTS)
        line = "solve --placement p.json --load l.json"
        self.refused(f"{line} --solver time", status=2, says=["time", "needs a cost model"])
        self.refused(f"{line} --cost c.json --solver cut", status=2, says=["cut", "no cost model"])


if __name__ == "__main__":
    support.main()
