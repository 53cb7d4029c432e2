#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files in, files out: what each command makes of good input. usage: formats_test.py LPLB"""

import html
import json
import random
import re

import support
from support import ROOT, SMALL, npy, ranks_of, read_npy


class Solve(support.CommandTest):
    def check(self, placement, load, result, layer=0):
        """The split adds up, and its bound holds by definition. All speeds are 1."""
        slots = sum(ranks_of(placement, layer), [])
        per_rank = len(slots) // placement["num_ranks"]
        taken = [0] * len(load)
        rank_load = [0] * placement["num_ranks"]
        for slot, tokens in enumerate(result["physical_load"]):
            self.assertGreaterEqual(tokens, 0)
            taken[slots[slot]] += tokens
            rank_load[slot // per_rank] += tokens
        self.assertEqual(taken, load)
        self.assertEqual(rank_load, result["rank_load"])
        self.assertEqual(max(rank_load), result["max_load"])
        bottleneck = set(result["bottleneck_ranks"])
        inside = 0  # tokens of experts that have all their slots in the bottleneck
        for expert, tokens in enumerate(load):
            ranks = {slot // per_rank for slot, e in enumerate(slots) if e == expert}
            inside += tokens if ranks <= bottleneck else 0
        self.assertEqual(-(-inside // len(bottleneck)), result["lower_bound"])
        self.assertEqual(result["status"], "optimal")
        self.assertEqual(result["max_load"], result["lower_bound"])

    def solve(self, placement, load, options=""):
        self.file("p.json", placement)
        self.file("l.json", {"load": load})
        return self.json_of(f"solve --placement p.json --load l.json {options}")

    def test_keys_and_types_are_those_of_the_format(self):
        out = self.solve(SMALL, [[10, 3, 4]])
        self.assertEqual(list(out), ["num_ranks", "results"])
        keys = "status max_load lower_bound bottleneck_ranks rank_load physical_load"
        self.assertEqual(list(out["results"][0]), keys.split())
        self.assertIsInstance(out["results"][0]["max_load"], int)
        self.check(SMALL, [10, 3, 4], out["results"][0])

    def test_loads_up_to_the_largest_are_exact(self):
        for load in ([2**63 - 1, 0, 0], [2**62 + 1, 3, 2**61], [0, 2**53 + 1, 0], [0, 0, 0]):
            self.check(SMALL, load, self.solve(SMALL, [load])["results"][0])

    def test_every_solver_and_thread_count_proves_the_same_optimum(self):
        rng = random.Random(7)
        slots = [e % 12 for e in range(16)]
        placement = {"num_ranks": 8, "num_logical_experts": 12, "physical_to_logical": slots}
        loads = [[rng.randrange(1000) for _ in range(12)] for _ in range(40)]
        for solver in ("auto", "cut", "flow"):
            one = self.solve(placement, loads, f"--solver {solver} --threads 1")
            many = self.solve(placement, loads, f"--solver {solver} --threads 3")
            self.assertEqual(one, many)
            for load, result in zip(loads, one["results"]):
                self.check(placement, load, result)

    def test_layer_i_serves_row_i(self):
        placement = dict(SMALL, physical_to_logical=[[0, 1, 2, 0], [1, 1, 0, 2]])
        loads = [[9, 1, 1], [5, 6, 7]]
        for layer, result in enumerate(self.solve(placement, loads)["results"]):
            self.check(placement, loads[layer], result, layer)

    def test_speeds_weigh_and_dead_ranks_take_nothing(self):
        placement = dict(SMALL, rank_speed=[1, 0.5])
        result = self.solve(placement, [[9, 0, 0]])["results"][0]
        self.assertEqual((result["rank_load"], result["max_load"]), ([6, 3], 6.0))
        placement = {"num_ranks": 2, "num_logical_experts": 1, "physical_to_logical": [0, 0]}
        placement["rank_alive"] = [False, True]
        result = self.solve(placement, [[9]])["results"][0]
        self.assertEqual((result["rank_load"], result["max_load"]), ([0, 9], 9))

    def test_the_imbalance_is_that_of_live_ranks_by_their_speeds(self):
        def imbalance(load, **options):
            slots = [0, 1, 2, 3, 4, 5, 0, 2]
            placement = {"num_ranks": 4, "num_logical_experts": 6, "physical_to_logical": slots}
            self.file("p.json", {**placement, **options})
            self.file("l.json", {"load": [load]})
            return self.ok("solve --placement p.json --load l.json").split()

        dead = imbalance([55, 55, 0, 55, 110, 55], rank_alive=[True, True, True, False])
        self.assertEqual(dead[7:12], ["0", "optimal", "165", "165", "1.5000"])
        slow = imbalance([60, 60, 60, 60, 10, 10], rank_speed=[1, 1, 0.25, 1])
        self.assertEqual(slow[7:12], ["0", "optimal", "80.000", "80.000", "1.0000"])

    def test_speeds_of_one_are_no_speeds(self):
        plain = self.solve(SMALL, [[10, 3, 4]])
        same = dict(SMALL, rank_speed=[1, 1.0], num_nodes=2, rank_alive=[True, True])
        self.assertEqual(plain, self.solve(same, [[10, 3, 4]]))

    def test_standard_input_is_a_file(self):
        self.file("l.json", {"load": [[1, 2, 3]]})
        stdin = json.dumps(SMALL).encode()
        out = self.json_of("solve --placement - --load l.json", stdin=stdin)
        self.check(SMALL, [1, 2, 3], out["results"][0])

    def test_the_table_shows_what_the_json_says(self):
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[10, 3, 4]] * 25})
        table = self.ok("solve --placement p.json --load l.json")
        self.assertEqual(table.split("\n")[1].split(), ["0", "optimal", "9", "9", "1.0588"])
        self.assertIn("... and 5 rows more", table)
        self.assertIn("25 of 25 proven optimal", table)

    def test_layers_may_have_different_numbers_of_slots(self):
        slots = [[0, 1, 2, 0], [2, 1, 1, 0, 0, 2]]
        self.file(
            "p.json", {"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": slots}
        )
        self.file("l.json", {"load": [[8, 2, 2], [8, 2, 2]]})
        results = self.json_of("solve --placement p.json --load l.json")["results"]
        # Layer 0: expert 0 on both ranks. Layer 1: rank 0 has experts 1 and 2, rank 1 all but 1.
        self.assertEqual([len(result["physical_load"]) for result in results], [4, 6])
        self.assertEqual([result["max_load"] for result in results], [6, 8])


class Plan(support.CommandTest):
    def plan(self, placement, dtype, ids, shape):
        self.file("p.json", placement)
        self.file("t.npy", npy(dtype, shape, ids))
        out = self.json_of("plan --placement p.json --topk t.npy --out o.npy")
        return out, read_npy((self.folder / "o.npy").read_bytes())

    def test_each_token_reaches_a_replica_and_quotas_are_met(self):
        rng = random.Random(11)
        placement = {
            "num_ranks": 4,
            "num_logical_experts": 8,
            "num_nodes": 2,
            "physical_to_logical": [0, 1, 2, 2, 3, 0, 4, 5, 1, 6, 7, 0],
        }
        shape = (4, 50, 2)
        ids = [rng.choice([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]) for _ in range(400)]
        results = []
        for dtype in ("<i4", "<i8"):
            out, (out_dtype, out_shape, physical) = self.plan(placement, dtype, ids, shape)
            self.assertEqual((out_dtype, out_shape), (dtype, shape))
            taken = [0] * 12
            for logical, slot in zip(ids, physical):
                if logical < 0:
                    self.assertEqual(slot, -1)
                    continue
                self.assertEqual(placement["physical_to_logical"][slot], logical)
                taken[slot] += 1
            self.assertEqual(taken, out["physical_load"])
            self.assertEqual(out["load"], [ids.count(e) for e in range(8)])
            self.assertEqual(out["dropped"], ids.count(-1))
            self.assertEqual(out["planned"], 400 - ids.count(-1))
            ranks = [i // 100 for i in range(400)]
            same_rank = sum(s >= 0 and s // 3 == r for s, r in zip(physical, ranks))
            same_node = sum(s >= 0 and s // 6 == r // 2 for s, r in zip(physical, ranks))
            self.assertEqual((out["same_rank"], out["same_node"]), (same_rank, same_node))
            self.assertEqual(out["status"], "optimal")
            self.assertEqual(out["max_load"], max(out["rank_load"]))
            results.append((out, physical))
        self.assertEqual(results[0], results[1])

    def test_ids_of_any_integer_type(self):
        """Recorded choices are uint8. The result has room for every slot, and for -1."""
        placement = {
            "num_ranks": 2,
            "num_logical_experts": 3,
            "physical_to_logical": [0, 1] + [2] * 600 + [0, 1],
        }
        ids = [0, 1, 2, 2, 0, 0, 1, 2]
        want = self.plan(placement, "<i4", ids, (2, 2, 2))
        for dtype in ("|u1", "<i2", "<u4"):
            self.assertEqual(self.plan(placement, dtype, ids, (2, 2, 2)), want)
        self.assertEqual(want[1][0], "<i4")
        self.assertGreater(max(want[1][2]), 255)

    def test_no_tokens_are_a_batch_too(self):
        out, (_, shape, values) = self.plan(SMALL, "<i8", [], (2, 0, 4))
        self.assertEqual((shape, values, out["max_load"]), ((2, 0, 4), (), 0))

    def test_later_header_versions_are_read(self):
        self.file("p.json", SMALL)
        self.file("t.npy", npy("<i4", (2, 1, 1), [0, 2], version=(2, 0)))
        self.ok("plan --placement p.json --topk t.npy --out o.npy")
        self.assertEqual(len(read_npy((self.folder / "o.npy").read_bytes())[2]), 2)

    def test_the_table_shows_the_figures(self):
        self.file("p.json", SMALL)
        self.file("t.npy", npy("<i4", (2, 2, 1), [0, 0, 0, -1]))
        table = self.ok("plan --placement p.json --topk t.npy --out o.npy")
        row = table.split("\n")[1].split()
        self.assertEqual(row[:6], ["optimal", "2", "2", "1.3333", "3", "1"])


class Simulate(support.CommandTest):
    LINE = (
        "simulate --trace synthetic:W1_hot_expert_set --synthetic-num-logical-experts 64 "
        "--synthetic-num-steps 6 --num-ranks 8 --redundants 1 "
        "--policies none,eplb,eplb+lplb,cube+lplb"
    )

    def without_times(self, report):
        report["settings"].pop("num_threads")
        for policy in report["policies"]:
            policy.pop("solve_us")
        return report

    def test_the_report_has_the_policies_asked_for_whatever_the_jobs(self):
        one = self.json_of(f"{self.LINE} --threads 1")
        names = [policy["name"] for policy in one["policies"]]
        self.assertEqual(names, ["none", "eplb", "eplb+lplb", "cube+lplb"])
        self.assertTrue(one["trace"]["synthetic"])
        for policy in one["policies"]:
            self.assertEqual(policy["solves"], policy["optimal"])
            self.assertGreaterEqual(policy["imbalance"]["max"], policy["imbalance"]["mean"])
        two = self.json_of(f"{self.LINE} --threads 2")
        self.assertEqual(self.without_times(one), self.without_times(two))

    def test_table_json_and_page_come_from_one_run(self):
        table = self.ok(f"{self.LINE} --json r.json --html r.html")
        report = json.loads((self.folder / "r.json").read_text())
        rows = {row[0]: row for row in map(str.split, table.splitlines()) if len(row) == 10}
        for policy in report["policies"]:
            self.assertEqual(rows[policy["name"]][1], f"{policy['imbalance']['mean']:.3f}")
        self.assertIn("synthetic, not recorded", table)
        means = {p["name"]: p["imbalance"]["mean"] for p in report["policies"]}
        best = min(means["eplb+lplb"], means["cube+lplb"])
        self.assertIn(f"load by {100 * (1 - best / means['eplb']):.1f} % against EPLB", table)
        page = (self.folder / "r.html").read_text()
        self.assertTrue(page.startswith("<!"), page[:80])
        self.assertIn("synthetic:W1_hot_expert_set", page)

    def test_a_recorded_trace(self):
        trace = ROOT / "data/traces/qwen3-30b-a3b.load.jsonl"
        report = self.json_of("simulate --policies none --trace", trace)
        self.assertEqual(report["trace"]["num_logical_experts"], 128)
        self.assertAlmostEqual(report["policies"][0]["imbalance"]["mean"], 1.462, places=3)

    def test_the_placement_is_written_solved_and_replayed(self):
        trace = ROOT / "data/traces/deepseek-v2-lite.load.jsonl"
        line = "simulate --num-ranks 8 --num-nodes 2 --redundants 2 --batch-tokens 4096 --trace"
        table = self.ok(
            f"{line} {trace} --policies eplb,eplb+lplb --write-placement p,+.json --policy eplb"
        )
        placement = json.loads((self.folder / "p,+.json").read_text())
        self.assertEqual(len(placement["physical_to_logical"]), 26)
        self.assertEqual(len(placement["physical_to_logical"][0]), 80)
        self.assertEqual(placement["num_nodes"], 2)
        self.assertEqual(placement["layers"], list(range(1, 27)))
        self.file("l.json", {"load": [[1] * 64] * 26})
        self.assertEqual(
            len(self.json_of("solve --load l.json --placement", "p,+.json")["results"]), 26
        )
        again = self.json_of(f"{line} {trace} --policies file:p\\,+.json,file:p\\,+.json+lplb")
        even, exact = again["policies"]
        self.assertEqual(even["name"], "file:p,+.json")
        self.assertEqual((even["rebalances"], even["solves"]), (0, 0))
        self.assertLess(exact["imbalance"]["mean"], even["imbalance"]["mean"])
        self.assertIn("slots of a layer fetch an expert from another rank", table)

    def test_the_page_has_the_command_that_writes_the_placement(self):
        self.ok(
            f"{self.LINE} --html r.html --write-placement expected.json --policy eplb+lplb "
            "--synthetic-seed 3 --window 2"
        )
        page = (self.folder / "r.html").read_text()
        command = re.search("<code data-deploy>(.*?)</code>", page)[1]
        words = html.unescape(re.sub("<[^>]*>", "", command)).split()
        self.assertEqual(words[:2], ["lplb", "simulate"])
        self.ok(" ".join(words[1:]))
        written, expected = (
            (self.folder / name).read_text() for name in ("placement.json", "expected.json")
        )
        self.assertEqual(written, expected)

    def test_one_is_singular(self):
        table = self.ok(
            "simulate --trace synthetic:W0_balanced --synthetic-num-steps 1 --num-ranks 1 "
            "--redundants 1 --synthetic-num-logical-experts 8"
        )
        self.assertIn("1 batch, 1 layer, 8 experts; 1 rank, 1 redundant a rank\n", table)
        self.assertIn("LPLB does not help here: the slowest rank's load is that of EPLB.", table)
        self.assertNotIn("cuts", table)

    def test_empty_pairs_and_left_out_policies_are_said(self):
        header = {"format": "lplb-trace", "version": 1, "num_layers": 2}
        header |= {"num_logical_experts": 6, "num_topk": 2}
        steps = [{"load": [[4, 2, 2, 2, 1, 1], [0] * 6]}, {"load": [[0] * 6] * 2}]
        lines = "".join(json.dumps(line) + "\n" for line in [header, *steps])
        self.file("t.jsonl", lines)
        table = self.ok("simulate --trace t.jsonl --num-ranks 4 --num-replicas 8")
        self.assertIn("3 of 4 (batch, layer) pairs have no tokens and are in no figure.", table)
        self.assertIn("The policy none is left out", table)


class Info(support.CommandTest):
    def test_it_says_what_there_is_and_why_something_is_not(self):
        info = self.json_of("info")
        version = (ROOT / "include/lplb/version.h").read_text()
        names = [f"LPLB_VERSION_{part} " for part in ("MAJOR", "MINOR", "PATCH")]
        parts = [version.split(name)[1].split()[0] for name in names]
        self.assertEqual(info["version"], ".".join(parts))
        self.assertEqual(self.ok("--version"), f"lplb {info['version']}\n")
        self.assertTrue(info["backends"]["cpu"]["available"])
        self.assertFalse(info["backends"]["cuda"]["available"])
        table = self.ok("info")
        self.assertIn(info["backends"]["cuda"]["reason"], table)
        self.assertEqual(set(info["solvers"]), support.SOLVERS)
        self.assertIn(f"\nsolvers           {', '.join(info['solvers'])}\n", table)

    def test_it_says_what_the_exchange_takes_of_a_ranks_memory(self):
        exchange = self.json_of("info")["exchange"]
        self.assertEqual(exchange["transports"], ["ipc", "fabric", "nccl", "nvshmem"])
        table = self.ok("info")

        def aligned(count):
            return -(-count // 256) * 256

        for buffer in exchange["buffers"]:
            ranks, lines = buffer["num_ranks"], 1 + (buffer["max_counts"] + 1) // 2
            channel = aligned(256 + 2 * 16 * ranks * lines)
            self.assertEqual(buffer["bytes"], aligned(8 * ranks) + buffer["num_channels"] * channel)
            self.assertIn(str(buffer["bytes"]), table)
        self.assertEqual([b["num_channels"] for b in exchange["buffers"]], [1, 1, 58])


class Bench(support.CommandTest):
    def test_it_measures_or_says_how_to_get_benchmarks(self):
        if not self.json_of("info")["benchmarks"]:
            self.refused("bench", status=2, says=["libbenchmark-dev"])
            return
        out = self.json_of("bench --filter solve/.*cube --min-time 0.01")
        self.assertGreater(len(out["benchmarks"]), 0)


if __name__ == "__main__":
    support.main()
