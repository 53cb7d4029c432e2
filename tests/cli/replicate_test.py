#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lplb replicate: its JSON and its table. usage: replicate_test.py LPLB"""

import random

import support

HOMES = {"num_ranks": 2, "num_logical_experts": 4, "physical_to_logical": [0, 1, 2, 3]}


class Replicate(support.CommandTest):
    def replicate(self, placement, load, options=""):
        self.file("p.json", placement)
        self.file("l.json", {"load": load})
        return self.json_of(f"replicate --placement p.json --load l.json {options}")

    def test_the_example_of_the_page(self):
        self.assertEqual(
            self.replicate(HOMES, [[60, 20, 0, 10]]),
            {
                "num_ranks": 2,
                "slots_per_rank": 1,
                "results": [
                    {
                        "status": "optimal",
                        "max_load": 45,
                        "lower_bound": 45,
                        "copies": 1,
                        "slot_expert": [[-1], [0]],
                        "rank_load": [45, 45],
                        "physical_load": [25, 20, 0, 0, 10, 35],
                    }
                ],
            },
        )

    def test_options(self):
        load = [[60, 20, 0, 10]]
        two = self.replicate(HOMES, load, "--slots 2")
        self.assertEqual(two["slots_per_rank"], 2)
        self.assertEqual(two["results"][0]["slot_expert"], [[-1, -1], [0, -1]])
        self.assertEqual(len(two["results"][0]["physical_load"]), 8)
        for options in ("--target 2", "--min-tokens 71", "--num-domains 2"):
            result = self.replicate(HOMES, load, options)["results"][0]
            self.assertEqual((result["copies"], result["max_load"]), (0, 80), options)
        bound = self.replicate(HOMES, load, "--target 2")["results"][0]
        self.assertEqual((bound["status"], bound["lower_bound"]), ("bounded", 45))

    def test_speeds_and_dead_ranks(self):
        fast = self.replicate({**HOMES, "rank_speed": [1, 0.5]}, [[60, 30, 0, 0]])["results"][0]
        self.assertEqual((fast["max_load"], fast["rank_load"]), (60.0, [60, 30]))
        dead = {
            "num_ranks": 3,
            "num_logical_experts": 2,
            "physical_to_logical": [0, 1, 0],
            "rank_alive": [True, True, False],
        }
        result = self.replicate(dead, [[10, 0]])["results"][0]
        self.assertEqual(result["rank_load"], [5, 5, 0])
        self.assertEqual(result["slot_expert"], [[-1], [0], [-1]])

    def test_layers_threads_and_sums(self):
        rng = random.Random(1)
        layers = [rng.sample(range(32), 32) for _ in range(9)]
        placement = {"num_ranks": 8, "num_logical_experts": 32, "physical_to_logical": layers}
        loads = [[rng.randrange(1000) for _ in range(32)] for _ in range(9)]
        one = self.replicate(placement, loads, "--threads 1")
        self.assertEqual(one, self.replicate(placement, loads, "--threads 3"))
        for experts, load, result in zip(layers, loads, one["results"], strict=True):
            taken = [0] * 32
            for rank in range(8):
                own = experts[rank * 4 : rank * 4 + 4] + result["slot_expert"][rank]
                tokens = result["physical_load"][rank * 5 : rank * 5 + 5]
                self.assertEqual(sum(tokens), result["rank_load"][rank])
                for expert, count in zip(own, tokens, strict=True):
                    self.assertTrue(expert >= 0 or count == 0)
                    taken[expert] += count
            self.assertEqual(taken, load)
            self.assertGreaterEqual(result["max_load"], result["lower_bound"])

    def test_the_table(self):
        self.file("p.json", HOMES)
        self.file("l.json", {"load": [[60, 20, 0, 10]] * 30})
        table = self.ok("replicate --placement p.json --load l.json")
        self.assertIn("0    optimal        45           45     1.0000       1          1", table)
        self.assertIn("... and 10 rows more", table)
        self.assertIn("30 of 30 proven optimal", table)
        self.assertIn("copies a row 1.0", table)

    def test_simulate_makes_copies(self):
        self.file(
            "c.json", {"unit": "us", "tokens": [1], "cost": [1], "then_every": 1, "then_cost": 1}
        )
        trace = "--trace synthetic:W7_burst --synthetic-num-steps 9 --synthetic-num-layers 2"
        policies = "none,eplb,none+dynamic:1,eplb+dynamic:2"
        line = f"simulate {trace} --redundants 1 --policies {policies} --expert-bytes 1000000"
        table = self.ok(line)
        for text in ("copies", "copied", " MB  ", "by copies for each batch", "experts are copied"):
            self.assertIn(text, table)
        plain = self.ok(f"simulate {trace} --policies none")
        self.assertNotIn("copies", plain)
        out = self.json_of(line)
        none, eplb, one, two = out["policies"]
        self.assertIsNone(none["copies"])
        self.assertIsNone(eplb["copies"])
        self.assertLess(one["imbalance"]["mean"], none["imbalance"]["mean"] - 0.05)
        self.assertLess(one["gap"]["max"], 0.01)
        self.assertEqual(one["solves"], 18)
        self.assertGreater(one["optimal"], 9)
        self.assertEqual(one["copies"]["mean_bytes"], one["copies"]["mean"] * 1e6)
        self.assertIsNone(one["copies"]["exposed_us"])
        self.assertEqual(one["moved_experts"]["total"], 0)
        self.assertGreater(two["copies"]["busiest"], 0)

        fewer = self.json_of(f"{line} --copy-target 1.2")["policies"][2]
        self.assertLess(fewer["copies"]["mean"], one["copies"]["mean"])
        self.assertGreater(fewer["imbalance"]["mean"], one["imbalance"]["mean"])
        heavy = self.json_of(f"{line} --copy-min-tokens 1000000000")["policies"][2]
        self.assertEqual(heavy["copies"]["max"], 0)
        self.assertEqual(heavy["imbalance"], none["imbalance"])
        alone = self.json_of(f"{line} --copy-domains 8")["policies"][2]
        self.assertEqual(alone["imbalance"], none["imbalance"])

        line = f"simulate {trace} --policies none+dynamic:1,none+dynamic:1:time,none+time"
        line += " --expert-bytes 1000000 --cost c.json --copy-gigabytes-per-s"
        cheap = self.json_of(f"{line} 1000000")["policies"]
        dear = self.json_of(f"{line} 100 --copy-hidden-us 5")["policies"]
        self.assertGreater(dear[0]["copies"]["exposed_us"], 4)
        self.assertAlmostEqual(
            dear[0]["cost"]["mean"] - dear[0]["copies"]["exposed_us"],
            cheap[0]["cost"]["mean"] - cheap[0]["copies"]["exposed_us"],
        )
        self.assertIsNone(dear[0]["cost"]["gap"]["mean"])
        for time, without in ((cheap[1], cheap[2]), (dear[1], dear[2])):
            self.assertLessEqual(time["cost"]["mean"], without["cost"]["mean"])
            self.assertGreaterEqual(time["cost"]["gap"]["mean"], 0)
        free = self.json_of(f"{line} 0")["policies"][0]
        self.assertIsNone(free["copies"]["exposed_us"])

    def test_simulate_refuses(self):
        line = "simulate --trace synthetic:W0_balanced --policies"
        for policy, says in (
            ("none+dynamic:0", "expected 1 to 8"),
            ("none+dynamic:9", "expected 1 to 8"),
            ("none+dynamic:x", "is unknown"),
            ("none+dynamic:1:time", "needs a cost model"),
        ):
            self.refused(f"{line} {policy}", status=2, says=["--policies", policy, says])
        for option, says in (
            ("--copy-target 0.9", "0.9"),
            ("--copy-min-tokens 0", "0"),
            ("--copy-domains 3", "num_ranks (8)"),
            ("--copy-gigabytes-per-s -1", "-1"),
            ("--copy-gigabytes-per-s 400", "expert_bytes"),
            ("--copy-hidden-us x", "x"),
        ):
            self.refused(
                f"{line} none+dynamic:1 {option}", status=2, says=[option.split()[0], says]
            )

    def test_files_that_do_not_fit(self):
        self.file("p.json", HOMES)
        self.file("l.json", {"load": [[1, 2, 3]]})
        says = ["l.json", "3 experts", "expected 4"]
        self.refused("replicate --placement p.json --load l.json", status=3, says=says)
        layers = {**HOMES, "physical_to_logical": [[0, 1, 2, 3]] * 2}
        self.file("p.json", layers)
        self.file("l.json", {"load": [[1, 2, 3, 4]] * 3})
        says = ["l.json", "3 rows", "expected 2"]
        self.refused("replicate --placement p.json --load l.json", status=3, says=says)


if __name__ == "__main__":
    support.main()
