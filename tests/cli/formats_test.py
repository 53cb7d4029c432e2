#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files in, files out: what each command makes of good input. usage: formats_test.py LPLB"""

import json
import random

import support
from support import ROOT, SMALL, npy, read_npy


def ranks_of(placement, layer=0):
    """[rank][slot] -> expert."""
    slots = placement["physical_to_logical"]
    slots = slots[layer] if isinstance(slots[0], list) else slots
    per_rank = len(slots) // placement["num_ranks"]
    return [slots[i : i + per_rank] for i in range(0, len(slots), per_rank)]


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


class Place(support.CommandTest):
    def test_eplb_gives_the_reference_vectors(self):
        for case in json.loads((ROOT / "tests/data/eplb_reference.json").read_text()):
            self.file("l.json", {"load": case["weight"]})
            replicas, ranks = case["num_replicas"], case["num_gpus"]
            groups, nodes = case["num_groups"], case["num_nodes"]
            if ranks % nodes != 0:  # the command refuses it; the reference ignores such nodes
                self.assertNotEqual(groups % nodes, 0)
                groups = nodes = 1
            out = self.json_of(
                f"place --load l.json --policy eplb --num-replicas {replicas} "
                f"--num-groups {groups} --num-nodes {nodes} --num-ranks {ranks}"
            )
            self.assertEqual(out["physical_to_logical"], case["physical_to_logical"], case["name"])
            self.assertEqual(out["logical_to_physical"], case["logical_to_physical"], case["name"])
            self.assertEqual(out["replica_count"], case["expert_count"], case["name"])

    def test_the_output_is_a_placement_file_that_all_commands_take(self):
        load = {"load": [[5.5, 1, 2, 3.25, 0, 0, 9e3, 1]] * 2}
        self.file("l.json", load)
        shape = "--num-replicas 12 --num-ranks 4 --num-nodes 2"
        self.ok(f"place --load l.json {shape} --json p.json")
        placement = json.loads((self.folder / "p.json").read_text())
        keys = "num_ranks num_logical_experts num_nodes"
        maps = "physical_to_logical logical_to_physical replica_count"
        self.assertEqual(list(placement), f"{keys} {maps}".split())
        self.file("t.json", {"load": [[1, 2, 3, 4, 5, 6, 7, 8]] * 2})
        out = self.json_of("solve --placement p.json --load t.json")
        self.assertEqual([sum(r["rank_load"]) for r in out["results"]], [36, 36])

    def test_topologies_share_experts_along_their_edges(self):
        rng = random.Random(3)
        self.file("l.json", {"load": [[rng.randrange(100) for _ in range(32)]] * 2})
        for policy, ranks in (("cube", 8), ("hypercube", 16), ("torus:2x4", 8), ("ring:4", 4)):
            out = self.json_of(f"place --load l.json --policy {policy} --redundants 1")
            self.assertEqual(out["num_ranks"], ranks)
            for layer in range(2):
                self.assertEqual(max(out["replica_count"][layer]), 2)
                self.assertEqual(len(out["physical_to_logical"][layer]), 32 + ranks)

    def test_the_table_shows_loads_of_any_size_in_proportion(self):
        tables = set()
        for scale in (1e-320, 1, 1e308):
            self.file("l.json", {"load": [[scale, 0, 0, 0, 0, 0, 0, scale]]})
            table = self.ok("place --load l.json --policy ring:4 --redundants 0")
            tables.add(tuple(table.splitlines()[1].split()))
        self.assertEqual(tables, {("0", "2.0000", "1")})

    def test_a_custom_topology_is_a_file(self):
        self.file("l.json", {"load": [[4, 3, 2, 1]]})
        self.ok("place --load l.json --policy ring:4 --redundants 1 --json ring.json")
        self.file("r2o.json", {"r2o": [[1], [2], [3], [0]]})
        self.ok("place --load l.json --policy r2o:r2o.json --redundants 1 --json custom.json")
        ring, custom = (self.folder / "ring.json", self.folder / "custom.json")
        self.assertEqual(ring.read_text(), custom.read_text())

    def moves(self, options=""):
        """An old placement, and a new one for other loads."""
        self.file("l1.json", {"load": [[9, 1, 1, 1, 1, 1, 1, 8]]})
        self.file("l2.json", {"load": [[1, 1, 9, 1, 1, 7, 1, 1]]})
        shape = "--num-replicas 12 --num-ranks 4 --num-nodes 2"
        self.ok(f"place --load l1.json {shape} --json old.json")
        new = self.json_of(f"place --load l2.json --from old.json {options}")
        old = json.loads((self.folder / "old.json").read_text())
        return old, new

    def test_moves_lead_from_the_old_placement_to_the_new_one(self):
        for options in ("", "--keep-slots"):
            old, new = self.moves(options)
            self.assertEqual(new["num_nodes"], 2)
            before, after = old["physical_to_logical"][0], list(old["physical_to_logical"][0])
            for move in new["moves"]:
                self.assertEqual(list(move), ["layer", "logical", "source", "target", "kind"])
                self.assertEqual(before[move["source"]], move["logical"])
                after[move["target"]] = move["logical"]
                source, target = move["source"] // 3, move["target"] // 3
                same_node = "same_node" if source // 2 == target // 2 else "other_node"
                self.assertEqual(move["kind"], "same_rank" if source == target else same_node)
            self.assertEqual(after, new["physical_to_logical"][0])
            self.assertGreater(len(new["moves"]), 0)

    def apply(self, old, new):
        """The slots of each rank of `new` after its moves; those of dead ranks stay."""
        old_slots = len(old["physical_to_logical"][0]) // old["num_ranks"]
        new_slots = len(new["physical_to_logical"][0]) // new["num_ranks"]
        before = ranks_of(old)
        after = [
            before[rank][:new_slots] if rank < len(before) else []
            for rank in range(new["num_ranks"])
        ]
        after = [rank + [-1] * (new_slots - len(rank)) for rank in after]
        for move in new["moves"]:
            giver, source = divmod(move["source"], old_slots)
            self.assertEqual(before[giver][source], move["logical"])
            taker, target = divmod(move["target"], new_slots)
            after[taker][target] = move["logical"]
        return after

    def test_a_placement_for_another_number_of_ranks(self):
        old, _ = self.moves()
        for options in ("--num-ranks 6", "--num-ranks 2 --num-replicas 10", "--num-replicas 16"):
            for keep in ("", " --keep-slots"):
                new = self.json_of(f"place --load l2.json --from old.json {options}{keep}")
                self.assertEqual(self.apply(old, new), ranks_of(new))
                self.assertEqual(new.get("num_nodes", 1), new["num_ranks"] // 2)
                self.file("new.json", new)
                self.ok("solve --placement new.json --load l2.json")

    def test_dead_ranks_keep_their_slots_and_nothing_else_uses_them(self):
        old = {
            "num_ranks": 4,
            "num_logical_experts": 6,
            "physical_to_logical": [[0, 1, 2, 3, 4, 5, 0, 2]],
            "rank_alive": [True, True, True, True],
        }
        self.file("old.json", old)
        self.file("l.json", {"load": [[120, 110, 100, 90, 110, 70]]})
        self.ok("place --load l.json --from old.json --dead-ranks 3 --json new.json")
        new = json.loads((self.folder / "new.json").read_text())
        self.assertEqual(new["rank_alive"], [True, True, True, False])
        self.assertEqual(sorted(sum(ranks_of(new)[:3], [])), [0, 1, 2, 3, 4, 5])
        self.assertEqual(ranks_of(new)[3], [0, 2])
        self.assertEqual(self.apply(old, new), ranks_of(new))
        solved = self.json_of("solve --placement new.json --load l.json")["results"][0]
        self.assertEqual(solved["max_load"], 210)  # no placement on three ranks has less
        # Expert 1 was only on rank 0.
        dead = "place --load l.json --from old.json --dead-ranks 0"
        lost = [move for move in self.json_of(dead)["moves"] if move["kind"] == "lost"]
        self.assertEqual([(move["logical"], move["source"]) for move in lost], [(1, -1)])
        self.assertIn("1 experts are on no live rank", self.ok(dead))
        again = self.json_of("place --load l.json --from new.json --dead-ranks none")
        self.assertNotIn("rank_alive", again)

    def test_speeds_say_how_much_a_rank_gets(self):
        self.file("l.json", {"load": [[8, 7, 6, 5, 4, 3, 2, 1]]})
        place = "place --load l.json --num-ranks 4 --num-replicas 8 --rank-speed 1,1,1,0.25"
        new = self.json_of(place)
        self.assertEqual(new["rank_speed"], [1, 1, 1, 0.25])
        self.assertEqual(sorted(ranks_of(new)[3]), [6, 7])

    def test_spread_puts_no_expert_on_a_rank_twice(self):
        self.file("l.json", {"load": [[1] * 8]})
        self.file("hot.json", {"load": [[800] + [100] * 7]})
        for spread, most in (("", 800), ("--spread", 400)):
            self.ok(f"place --load l.json --num-ranks 8 --redundants 1 {spread} --json p.json")
            solved = self.json_of("solve --placement p.json --load hot.json")
            self.assertEqual(solved["results"][0]["max_load"], most)

    def test_a_trace_is_a_load(self):
        header = {"format": "lplb-trace", "version": 1, "num_layers": 2, "num_logical_experts": 4}
        header |= {"num_topk": 1, "first_layer": 3, "layer_stride": 2}
        steps = [
            [[9, 1, 1, 1], [1, 9, 1, 1]],
            [[1, 1, 9, 1], [1, 1, 9, 1]],
            [[0, 1, 1, 5], [7, 0, 0, 0]],
        ]
        lines = [header] + [{"load": load} for load in steps]
        self.file("t.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        shape = "--num-ranks 2 --num-replicas 6"
        for options, last in (("", 3), ("--window 0", 3), ("--window 2", 2), ("--window 9", 3)):
            loads = [[sum(x) for x in zip(*layer)] for layer in zip(*steps[-last:])]
            self.file("l.json", {"load": loads, "layers": [3, 5]})
            got = self.json_of(f"place --trace t.jsonl {options} {shape}")
            self.assertEqual(got, self.json_of(f"place --load l.json {shape}"))
        one = self.json_of(f"place --trace t.jsonl --window 1 --layers 5 {shape}")
        self.assertEqual((one["layers"], one["replica_count"]), ([5], [[3, 1, 1, 1]]))
        self.file("old.json", self.json_of(f"place --trace t.jsonl {shape}"))
        again = self.json_of("place --trace t.jsonl --layers 5 --from old.json")
        self.assertEqual(again["moves"], [])
        table = self.ok(f"place --trace t.jsonl --window 1 {shape}")
        self.assertEqual(table.splitlines()[0], "t.jsonl: the load of 1 of 3 batches")
        table = self.ok("place --trace synthetic:W1_hot_expert_set --num-ranks 8 --redundants 2")
        self.assertIn("synthetic, not recorded", table)

    def test_from_shows_what_the_old_placement_gives(self):
        self.moves()
        table = self.ok("place --load l1.json --from old.json").splitlines()
        self.assertEqual(table[1].split()[1], table[1].split()[2])
        self.assertIn("0 of 12 experts move to another rank", table[-1])
        table = self.ok("place --load l2.json --from old.json").splitlines()
        self.assertGreater(float(table[1].split()[1]), float(table[1].split()[2]))

    def test_keep_slots_saves_moves_and_keeps_ranks(self):
        _, plain = self.moves()
        _, kept = self.moves("--keep-slots")
        self.assertLessEqual(len(kept["moves"]), len(plain["moves"]))
        self.assertEqual([sorted(r) for r in ranks_of(kept)], [sorted(r) for r in ranks_of(plain)])
        self.file("again.json", kept)
        self.file("t.json", {"load": [[1] * 8]})
        self.json_of("solve --placement again.json --load t.json")

    def test_layers_keep_the_numbers_of_the_load_file_or_the_old_placement(self):
        load = {"load": [[5, 1], [1, 5], [3, 3]]}
        self.file("l.json", {**load, "layers": [1, 2, 4]})
        self.ok("place --load l.json --num-ranks 2 --num-replicas 4 --json p.json")
        placement = json.loads((self.folder / "p.json").read_text())
        self.assertEqual(placement["layers"], [1, 2, 4])
        self.file("l.json", load)
        again = self.json_of("place --load l.json --from p.json")
        self.assertEqual(again["layers"], [1, 2, 4])
        table = self.ok("place --load l.json --from p.json").splitlines()
        self.assertEqual([line.split()[0] for line in table[1:4]], ["1", "2", "4"])

    def test_the_same_placement_again_moves_nothing(self):
        self.moves()
        new = self.json_of("place --load l1.json --from old.json")
        self.assertEqual(new["moves"], [])


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
        report["settings"].pop("jobs")
        for policy in report["policies"]:
            policy.pop("solve_us")
        return report

    def test_the_report_has_the_policies_asked_for_whatever_the_jobs(self):
        one = self.json_of(f"{self.LINE} --jobs 1")
        names = [policy["name"] for policy in one["policies"]]
        self.assertEqual(names, ["none", "eplb", "eplb+lplb", "cube+lplb"])
        self.assertTrue(one["trace"]["synthetic"])
        for policy in one["policies"]:
            self.assertEqual(policy["solves"], policy["optimal"])
            self.assertGreaterEqual(policy["imbalance"]["max"], policy["imbalance"]["mean"])
        two = self.json_of(f"{self.LINE} --jobs 2")
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
        self.assertEqual(info["solvers"], ["auto", "cut", "flow", "ipm"])

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
