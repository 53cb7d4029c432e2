#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `lplb place` makes of good input. usage: place_test.py LPLB"""

import json
import random

import support
from support import ROOT, ranks_of


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

    def test_homes_stay_and_few_experts_move(self):
        rng = random.Random(7)
        heat = [rng.random() ** 3 for _ in range(32)]
        for name in ("now.json", "next.json"):
            rows = [[1000 * h * (0.5 + rng.random()) for h in heat] for _ in range(3)]
            self.file(name, {"load": rows})
        self.ok("place --load now.json --policy homes --num-ranks 8 --redundants 2 --json p.json")
        now = json.loads((self.folder / "p.json").read_text())
        out = self.json_of("place --load next.json --policy homes --from p.json --max-moves 2")
        for layer in range(3):
            old, new = now["physical_to_logical"][layer], out["physical_to_logical"][layer]
            for rank in range(8):
                slots = new[6 * rank : 6 * rank + 6]
                self.assertEqual(slots[:4], list(range(4 * rank, 4 * rank + 4)))
                self.assertEqual(len(set(slots)), 6)
            self.assertLessEqual(sum(a != b for a, b in zip(old, new, strict=True)), 2)
        place = "place --load next.json --policy homes --from p.json"
        few = self.json_of(f"{place} --max-bytes 3999 --expert-bytes 1000")
        fetched = [move for move in few["moves"] if move["kind"] != "same_rank"]
        self.assertEqual(len(fetched), 3)  # of all layers
        self.assertEqual(
            self.json_of(f"{place} --budget 0")["physical_to_logical"],
            self.json_of(f"{place} --budget-seconds 0")["physical_to_logical"],
        )
        many = self.json_of(f"{place} --budget 100000")
        self.assertEqual(self.json_of(f"{place} --budget-seconds 3600"), many)

    def test_homes_judge_each_batch_of_a_trace(self):
        trace = ROOT / "data/traces/deepseek-v2-lite.load.jsonl"
        place = f"place --trace {trace} --batch-tokens 1024 --window 4 --policy homes --num-ranks 8"
        table = self.ok(f"{place} --redundants 1 --layers 3,5-6")
        rows = [line.split() for line in table.splitlines()[2:]]
        self.assertEqual([row[0] for row in rows], ["3", "5", "6"])
        for row in rows:  # the exact split is far better than the even one
            self.assertLess(float(row[2]), 1 + (float(row[1]) - 1) / 2)
        least = self.ok(f"{place} --redundants 1 --layers 3,5-6 --budget 0")
        self.assertNotEqual(least, table)
        self.ok(f"{place} --redundants 1 --move-homes --layers 3")
        copies = self.ok(f"{place} --redundants 1 --layers 3,5-6 --num-nodes 4 --dynamic-slots 1")
        self.assertIn("with copies", copies)
        for row in [line.split() for line in copies.splitlines()[2:]]:
            self.assertLess(float(row[2]), 1.02)

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
        for options in ("", "--keep-slots", "--keep-ranks", "--keep-ranks --num-groups 2"):
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
            for keep in ("", " --keep-slots", " --keep-ranks"):
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
        self.assertIn("1 expert is on no live rank", self.ok(dead))
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
        skipped = self.json_of(f"place --trace t.jsonl --skip-steps 2 {shape}")
        self.assertEqual(skipped, self.json_of(f"place --trace t.jsonl --window 1 {shape}"))

    def test_padding_in_a_trace_is_told_and_left_out(self):
        stem = ROOT / "data/traces/deepseek-v2-lite"
        place = f"place --trace {stem}.topk.npy --num-ranks 8 --redundants 2 --drop-repeats"
        self.assertIn("No tokens were dropped", self.ok(place))

    def test_layers_without_load_stay_and_are_in_no_mean(self):
        self.file("l.json", {"load": [[5, 9, 1, 1, 30, 2], [60, 50, 40, 30, 20, 10]]})
        self.ok("place --load l.json --num-ranks 4 --num-replicas 8 --json old.json")
        self.file("l.json", {"load": [[0] * 6, [10, 20, 30, 40, 50, 60]]})
        old = json.loads((self.folder / "old.json").read_text())
        new = self.json_of("place --load l.json --from old.json")
        for key in ("physical_to_logical", "replica_count"):
            self.assertEqual(new[key][0], old[key][0])
        self.assertNotEqual(new["physical_to_logical"][1], old["physical_to_logical"][1])
        table = self.ok("place --load l.json --from old.json").splitlines()
        self.assertEqual(table[1].split()[1:3], ["-", "-"])
        before, now = table[2].split()[1:3]
        self.assertIn(f"mean imbalance {before} with the old placement, {now} with", table[-1])
        self.assertIn("(1 layer without tokens)", table[-1])
        for command in ("solve", "replicate"):
            table = self.ok(f"{command} --placement old.json --load l.json").splitlines()
            self.assertEqual(
                (table[1].split()[4], table[2].split()[4]), ("-", table[3].split()[7][:-1])
            )
            self.assertIn("(1 row without tokens)", table[3])
        moved = self.json_of("place --load l.json --from old.json --num-ranks 3 --num-replicas 9")
        self.assertEqual(len(moved["physical_to_logical"][0]), 9)

    def test_layers_of_the_old_placement_may_have_different_numbers_of_slots(self):
        self.file("l.json", {"load": [[4, 3, 2, 1], [1, 2, 3, 4]]})
        rows = [[0, 1, 2, 3], [0, 1, 2, 3, 0, 1]]
        old = {"num_ranks": 2, "num_logical_experts": 4, "physical_to_logical": rows}
        self.file("old.json", old)
        new = self.json_of("place --load l.json --from old.json --num-replicas 6")
        self.assertEqual([len(row) for row in new["physical_to_logical"]], [6, 6])

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

    def test_keep_ranks_saves_moves_and_keeps_what_ranks_hold(self):
        rng = random.Random(8)
        for name in ("l1.json", "l2.json"):
            self.file(name, {"load": [[rng.randrange(1000) for _ in range(32)]]})

        def placements(groups):
            shape = f"--num-replicas 40 --num-ranks 8 --num-nodes 2 --num-groups {groups}"
            self.ok(f"place --load l1.json {shape} --json old.json")
            for keep in ("--keep-slots", "--keep-ranks"):
                yield self.json_of(f"place --load l2.json --from old.json {shape} {keep}")

        def fetched(placement):
            return sum(move["kind"] != "same_rank" for move in placement["moves"])

        def contents(placement, ranks):
            held = [sorted(rank) for rank in ranks_of(placement)]
            return sorted(sorted(held[i : i + ranks]) for i in range(0, 8, ranks))

        plain, kept = placements(1)
        self.assertLess(fetched(kept), fetched(plain))
        self.assertEqual(contents(kept, 8), contents(plain, 8))
        plain, kept = placements(4)  # hierarchical: what is on a node stays together
        self.assertLess(fetched(kept), fetched(plain))
        self.assertEqual(contents(kept, 4), contents(plain, 4))

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


if __name__ == "__main__":
    support.main()
