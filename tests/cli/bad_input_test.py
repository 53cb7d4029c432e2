#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad files: each is refused with one line that says what is wrong, and nothing is written.
usage: bad_input_test.py LPLB"""

import math
import os

import support
from support import SMALL, npy

USAGE, INPUT = 2, 3
HUGE = 2**63


def small(**changes):
    return {k: v for k, v in {**SMALL, **changes}.items() if v is not None}


# Each table holds pairs: the contents of a file, and what the message says. The texts of BAD_JSON
# are wrong in any file.
BAD_JSON = [
    ("", ["is empty"]),
    (" \n\t ", ["is empty"]),
    ("{", ["line 1, column 2"]),
    ('{"load": [[1, 2, 3]', ["line 1"]),
    ('{"load": [[1, 2,\n 3]]', ["line 2"]),
    ('{"load": [[1, 2, 3]]} {}', ["line 1, column 23"]),
    ('{"load": [[NaN, 2, 3]]}', ["line 1, column 12"]),
    ('{"load": [[Infinity, 2, 3]]}', ["line 1"]),
    ('{"load": [[1e999, 2, 3]]}', ["1e999"]),
    ('{"load": [[01, 2, 3]]}', ["line 1"]),
    ('{"load": [[0x1, 2, 3]]}', ["line 1"]),
    ('{"load": [[1, 2, 3],]}', ["line 1"]),
    ("{'load': [[1, 2, 3]]}", ["line 1, column 2"]),
    ('{"load": [[1, 2, 3]] // no\n}', ["line 1"]),
    ('{"load": [[1, 2, 3]], "load": [[1, 2, 3]]}', ["load", "twice"]),
    ('{"load": ' + "[" * 100000, ["nested deeper than 16"]),
    ('{"a":' * 100000, ["nested deeper than 16"]),
    (b"\x00\x01\x02\xff" * 100, ["line 1, column 1"]),
    (b'{"load\xff": 1}', ["UTF-8"]),
    (b'\x1b[31m{"load": 1}', ["line 1, column 1"]),
    (b"\x93NUMPY\x01\x00", ["line 1, column 1"]),
    ("[]", ["a list"]),
    ("3", ["3"]),
    ("null", ["null"]),
    ('"text"', ["text"]),
    ("{}", ["missing"]),
]

BAD_LOAD = [
    ({"loads": [[1, 2, 3]]}, ["loads", "unknown"]),
    ({"load": [[1, 2, 3]], "speed": 1}, ["speed", "unknown"]),
    ({"load": []}, ["key load", "empty"]),
    ({"load": [[]]}, ["load[0]", "empty"]),
    ({"load": [1, 2, 3]}, ["load[0]", "1"]),
    ({"load": {"0": 1}}, ["key load", "object"]),
    ({"load": [[1, 2, 3], [1, 2]]}, ["load[1]", "2 entries", "3"]),
    ({"load": [[1, 2, [3]]]}, ["load[0][2]", "list"]),
    ({"load": [[1, 2, None]]}, ["load[0][2]", "null"]),
    ({"load": [[1, 2, True]]}, ["load[0][2]", "true"]),
    ({"load": [[1, 2, "3"]]}, ["load[0][2]", '"3"']),
    ({"load": [[1, 2, -3]]}, ["load[0][2]", "-3"]),
    ({"load": [[1, 2, 3], [1, 2, 1.5]]}, ["load[1][2]", "1.5"]),
    ({"load": [[1, 2, 3.0]]}, ["load[0][2]", "3.0"]),
    ('{"load": [[1, 2, 1e3]]}', ["load[0][2]", "1000"]),
    ({"load": [[1, 2, HUGE]]}, ["load[0][2]", str(HUGE)]),
    ('{"load": [[1, 2, 123456789012345678901234567890]]}', ["load[0][2]"]),
    ({"load": [[0, 0, 0], [HUGE - 1, 0, 1]]}, ["load[1]", "2^63"]),
    ({"load": [[1, 2]]}, ["key load", "2", "3"]),
    ({"load": [[1, 2, 3, 4]]}, ["key load", "4", "3"]),
    ({"load": [[1, 2, "x" * 5000]]}, ["load[0][2]", "..."]),
]

MOVE = {"layer": 0, "logical": 0, "source": 0, "target": 0, "kind": "same_rank"}

BAD_PLACEMENT = [
    (small(num_rank=2), ["num_rank", "unknown"]),
    (small(num_ranks=None), ["num_ranks", "missing"]),
    (small(num_logical_experts=None), ["num_logical_experts", "missing"]),
    (small(physical_to_logical=None), ["physical_to_logical", "missing"]),
    (small(num_ranks=0), ["num_ranks", "0"]),
    (small(num_ranks=-1), ["num_ranks", "-1"]),
    (small(num_ranks=2.0), ["num_ranks", "2.0"]),
    (small(num_ranks="2"), ["num_ranks", '"2"']),
    (small(num_ranks=1025), ["num_ranks", "1025", "1024"]),
    (small(num_ranks=HUGE), ["num_ranks", str(HUGE)]),
    (small(num_ranks=3), ["physical_to_logical", "4", "3"]),
    (small(num_logical_experts=0), ["num_logical_experts", "0"]),
    (small(num_logical_experts=5), ["num_logical_experts", "5"]),
    (small(num_logical_experts=4), ["expert 3"]),
    (small(physical_to_logical=[]), ["physical_to_logical", "empty"]),
    (small(physical_to_logical=[[]]), ["physical_to_logical[0]", "empty"]),
    (small(physical_to_logical=[0, 1, 2, 3]), ["physical_to_logical[3]", "3"]),
    (small(physical_to_logical=[0, 1, 2, -1]), ["physical_to_logical[3]", "-1"]),
    (small(physical_to_logical=[0, 1, 2, 0.5]), ["physical_to_logical[3]", "0.5"]),
    (small(physical_to_logical=[0, 1, 0, 1]), ["expert 2"]),
    (
        small(physical_to_logical=[[0, 1, 2, 0], [0, 1, 1, 0]]),
        ["physical_to_logical[1]", "expert 2"],
    ),
    (small(physical_to_logical=[[0, 1, 2, 0], [0, 1, 2]]), ["physical_to_logical[1]"]),
    (small(physical_to_logical=[[0, 1, 2, 0], 3]), ["physical_to_logical[1]"]),
    (small(physical_to_logical=[[[0, 1, 2, 0]]]), ["physical_to_logical[0][0]"]),
    (small(physical_to_logical="0120"), ["physical_to_logical", "0120"]),
    (small(physical_to_logical=[0, 1, 2] * 1366), ["4098", "4096"]),
    (small(num_nodes=0), ["num_nodes", "0"]),
    (small(num_nodes=3), ["num_nodes", "3"]),
    (small(rank_speed=[1]), ["rank_speed", "1", "2"]),
    (small(rank_speed=[]), ["rank_speed"]),
    (small(rank_speed=2), ["rank_speed"]),
    (small(rank_speed=[1, 0]), ["rank_speed", "rank 1"]),
    (small(rank_speed=[1, -1]), ["rank_speed[1]", "-1"]),
    (small(rank_speed=[1, "fast"]), ["rank_speed[1]", "fast"]),
    (small(rank_speed=[1, math.nan]), ["line 1"]),
    (small(rank_alive=[True]), ["rank_alive", "1", "2"]),
    (small(rank_alive=[True, 1]), ["rank_alive[1]"]),
    (small(rank_alive="yes"), ["rank_alive"]),
    (small(rank_alive=[True, False]), ["expert 2", "live"]),
    (small(rank_alive=[False, False]), ["live"]),
    (small(replica_count=[1, 1, 2]), ["replica_count", "agree"]),
    (small(replica_count=[2, 1]), ["replica_count", "agree"]),
    (small(physical_to_logical=[[0, 1, 2, 0]], replica_count=[2, 1, 1]), ["replica_count"]),
    (small(logical_to_physical=[[0, 3], [1, -1], [1, -1]]), ["logical_to_physical[2]", "agree"]),
    (small(logical_to_physical=[[0, 3], [-1, 1], [2, -1]]), ["logical_to_physical[1]", "agree"]),
    (small(logical_to_physical=[[0, 0], [1, -1], [2, -1]]), ["logical_to_physical[0]", "agree"]),
    (small(logical_to_physical=[[0, 3], [1, -1]]), ["logical_to_physical", "2 rows"]),
    (small(logical_to_physical=3), ["logical_to_physical"]),
    (small(moves={}), ["moves"]),
    (small(moves=[{"layer": 0}]), ["moves[0]", "missing"]),
    (small(moves=[{**MOVE, "layer": 1}]), ["moves[0]", "layer", "1"]),
    (small(moves=[{**MOVE, "logical": 1}]), ["moves[0]", "target"]),
    (small(moves=[{**MOVE, "kind": "by_foot"}]), ["moves[0]", "kind"]),
]

GOOD_NPY = npy("<i4", (2, 1, 2), [0, 1, 2, -1])


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


INT32 = "{'descr': '<i4', 'fortran_order': False, "

BAD_NPY = [
    (b"", ["empty"]),
    (b"\x93NUMP", ["byte 0"]),
    (b'{"load": [[1]]}', ["byte 0"]),
    (GOOD_NPY[:6], ["byte 6"]),
    (GOOD_NPY[:9], ["byte 9"]),
    (GOOD_NPY[:40], ["cut off"]),
    (GOOD_NPY[:-1], ["bytes"]),
    (GOOD_NPY + b"\0", ["bytes"]),
    (b"\x93NUMPY\x04\x00" + GOOD_NPY[8:], ["4.0"]),
    (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", ["4294967295"]),
    (npy("<i4", (2, 1, 2), [0, 1, 2, -1], fortran=True), ["fortran_order"]),
    (npy(">i4", (2, 1, 2), [0, 1, 2, -1]), [">i4"]),
    (npy("<f4", (2, 1, 2), [0, 1, 2, -1]), ["<f4"]),
    (npy("|u1", (2, 1, 2), [0, 1, 2, 255]), ["[1, 0, 1]", "expert 255"]),
    (npy("<i4", (4,), [0, 1, 2, -1]), ["[4]", "num_ranks"]),
    (npy("<i4", (4, 1, 1), [0, 1, 2, -1]), ["[4, 1, 1]"]),
    (npy("<i4", (2, 2, 0), []), ["[2, 2, 0]"]),
    (npy("<i4", (2, 1, 2), [0, 1, 2, 3]), ["[1, 0, 1]", "expert 3"]),
    (npy("<i4", (2, 1, 2), [0, -2, 2, -1]), ["[0, 0, 1]", "expert -2"]),
    (npy("<i8", (2, 1, 2), [0, 2**32, 2, -1]), ["[0, 0, 1]", str(2**32)]),
    (npy("<i4", (2, 1, 2**62), []), ["shape"]),
    (npy("<i4", (2, 0, 2**62), []), ["shape"]),
    (npy("<i4", (2**40, 2**40, 0), []), ["shape"]),
    (header(INT32 + "'shape': (-2, 1, 2), }"), ["-2"]),
    (header(INT32 + "'shape': (2, 1.5, 2), }"), [".5"]),
    (header(INT32 + "'shape': 4}"), ["header"]),
    (header(INT32 + "'shape': (4)}"), ["tuple"]),
    (header("{'descr': '<i4', 'fortran_order': 0, 'shape': (2, 1, 2), }"), ["fortran_order"]),
    (header("{'descr': '<i4', 'shape': (2, 1, 2), }"), ["fortran_order"]),
    (header("{'descr': '<i4', 'descr': '<i4', 'shape': (2, 1, 2), }"), ["twice"]),
    (header("{'kind': '<i4', 'fortran_order': False, 'shape': (2, 1, 2), }"), ["kind"]),
    (header("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}"), ["records"]),
    (header("{'descr': '<i4"), ["no end"]),
    (header(INT32 + "'shape': (" + "1, " * 40 + ")}"), ["dimensions"]),
    (header(""), ["header"]),
    (header("\0\1\2"), ["header"]),
]


class BadFiles(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[1, 2, 3]]})
        self.file("t.npy", GOOD_NPY)

    def bad(self, line, *says, **options):
        """`line` is refused because of what it reads; the message holds all of `says`."""
        self.refused(line, status=INPUT, says=says, **options)

    def test_texts_that_are_no_json(self):
        for text, says in BAD_JSON:
            self.file("bad.json", text)
            self.bad("solve --placement p.json --load bad.json", "bad.json", *says)
            self.bad("solve --placement bad.json --load l.json", "bad.json")
            self.bad("place --load bad.json --num-ranks 1 --num-replicas 3", "bad.json")

    def test_loads(self):
        for load, says in BAD_LOAD:
            self.file("bad.json", load)
            self.bad("solve --placement p.json --load bad.json --json o.json", "bad.json", *says)

    def test_a_load_of_other_rows_than_layers(self):
        self.file("p.json", small(physical_to_logical=[[0, 1, 2, 0]] * 2))
        for rows in (1, 3):
            self.file("bad.json", {"load": [[1, 2, 3]] * rows})
            says = ("bad.json", f"{rows} rows", "expected 2")
            self.bad("solve --placement p.json --load bad.json", *says)

    def test_real_loads(self):
        for entry, says in ((-0.5, "-0.5"), ("x", '"x"'), (None, "null"), ([1], "list")):
            self.file("bad.json", {"load": [[1, 2, 3], [1, 2, entry]]})
            place = "place --load bad.json --num-ranks 1 --num-replicas 3"
            self.bad(place, "bad.json", "load[1][2]", says)

    def test_placements(self):
        for placement, says in BAD_PLACEMENT:
            self.file("bad.json", placement)
            self.bad("solve --placement bad.json --load l.json --json o.json", "bad.json", *says)
            self.bad("plan --placement bad.json --topk t.npy --out o.npy", "bad.json")

    def test_arrays(self):
        plan = "plan --placement p.json --topk bad.npy --out o.npy --json o.json"
        for data, says in BAD_NPY:
            self.file("bad.npy", data)
            self.bad(plan, "bad.npy", *says)

    def test_experts_that_a_topology_cannot_deal_out(self):
        self.file("bad.json", {"load": [[1, 2, 3]]})
        place = "place --load bad.json --policy cube --redundants 1"
        self.bad(place, "bad.json", "key load", "3 experts", "8 ranks")

    def test_plan_takes_one_layer(self):
        self.file("p.json", small(physical_to_logical=[[0, 1, 2, 0]] * 2))
        self.bad("plan --placement p.json --topk t.npy --out o.npy", "p.json", "2 layers")

    def test_topology_files(self):
        place = "place --load l.json --policy r2o:r2o.json --redundants 1"
        self.file("l.json", {"load": [[1, 2, 3, 4]]})
        for text, _ in BAD_JSON:
            self.file("r2o.json", text)
            self.bad(place, "r2o.json")
        one_column = ([[1], [1]], [[1], [2]], [[-1], [0]], [[1.5], [0]], [[0], [1]])
        for r2o in ([], [[]], *one_column, [[1], [0, 0]], "x", [1, 0]):
            self.file("r2o.json", {"r2o": r2o})
            done = self.run_command(place)
            self.assertIn(done.returncode, (USAGE, INPUT), (r2o, done.stderr))
            self.assertIn(b"r2o", done.stderr)
            self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_traces(self):
        for text, _ in BAD_JSON:
            self.file("bad.jsonl", text)
            self.bad("simulate --trace bad.jsonl --json o.json --html o.html", "bad.jsonl")

    def test_traces_line_by_line(self):
        own = (
            '{"format": "lplb-trace", "version": 1, "num_layers": 1, "num_logical_experts": 2, '
            '"num_topk": 1}\n'
        )
        recorded = (
            '{{"step": {}, "domain": "", "num_tokens": 3, "num_topk": 1, '
            '"first_layer": 0, "load": [[1, 2]]}}\n'
        )
        full = '{"load": [[9223372036854775807, 0]]}\n'
        ranks = "--num-ranks 2 --redundants 1"
        for text, says in (
            (own, ["no steps"]),
            (own + full + full, ["batch 1", "2^63 - 1"]),
            (recorded.format(0) + recorded.format(2), ["line 2", "key step", "is 2, expected 1"]),
        ):
            self.file("bad.jsonl", text)
            self.bad(f"simulate --trace bad.jsonl {ranks}", "bad.jsonl", *says)
            stdin = text.encode()
            self.bad(f"simulate --trace - {ranks}", "standard input", *says, stdin=stdin)
        self.bad("simulate --trace -", "standard input", "STEM.load.jsonl", stdin=GOOD_NPY)

    def test_every_file_may_be_missing_a_folder_or_unreadable(self):
        (self.folder / "folder").mkdir()
        self.file("secret", "{}")
        (self.folder / "secret").chmod(0)
        problems = {"none.json": "No such file", "folder": "folder", "l.json/x": "Not a directory"}
        if os.geteuid() != 0:  # root may read everything
            problems["secret"] = "denied"
        for line in (
            "solve --placement FILE --load l.json",
            "solve --placement p.json --load FILE",
            "place --load FILE --num-ranks 1 --num-replicas 3",
            "place --load l.json --from FILE",
            "place --load l.json --policy r2o:FILE --redundants 1",
            "plan --placement FILE --topk t.npy --out o.npy",
            "plan --placement p.json --topk FILE --out o.npy",
            "simulate --trace FILE",
        ):
            for path, says in problems.items():
                self.bad(line.replace("FILE", path), path, says)

    def test_a_name_with_control_characters_makes_one_line(self):
        after = ("--load", "l.json")
        name, shown = "a\nb\x1b[0m", "a\\x0ab\\x1b[0m"
        self.refused("solve --placement", name, *after, status=INPUT, says=[shown])
        name = b"\xff\xfe".decode("latin-1")
        self.refused("solve --placement p.json --load", name, status=INPUT, says=["No such file"])

    def test_pipes_without_a_writer_do_not_hang(self):
        os.mkfifo(self.folder / "pipe")
        self.bad("solve --placement pipe --load l.json", "pipe", "nobody")
        self.bad("simulate --trace pipe", "pipe", "nobody")


if __name__ == "__main__":
    support.main()
