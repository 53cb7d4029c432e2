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
