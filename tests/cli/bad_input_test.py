#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad files and arguments: each is refused with one line that says what is wrong, and nothing is
written. usage: bad_input_test.py LPLB"""

import os

import support
from support import SMALL, npy

USAGE, INPUT = 2, 3
HUGE = 2**63


def small(**changes):
    return {k: v for k, v in {**SMALL, **changes}.items() if v is not None}


# Texts that are no JSON value, for any file: (text, what the message says).
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
    (small(physical_to_logical=[[0, 1, 2, 0], [0, 1, 1, 0]]), ["layer 1", "expert 2"]),
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
    (
        '{"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": [0, 1, 2, 0], '
        '"rank_speed": [1, NaN]}',
        ["line 1"],
    ),
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
    (
        small(moves=[{"layer": 1, "logical": 0, "source": 0, "target": 0, "kind": "same_rank"}]),
        ["moves[0]", "layer", "1"],
    ),
    (
        small(moves=[{"layer": 0, "logical": 1, "source": 0, "target": 0, "kind": "same_rank"}]),
        ["moves[0]", "target"],
    ),
    (
        small(moves=[{"layer": 0, "logical": 0, "source": 0, "target": 0, "kind": "by_foot"}]),
        ["moves[0]", "kind"],
    ),
]

GOOD_NPY = npy("<i4", (2, 1, 2), [0, 1, 2, -1])


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


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
    (npy("|u1", (2, 1, 2), [0, 1, 2, 2]), ["|u1"]),
    (npy("<i4", (4,), [0, 1, 2, -1]), ["[4]", "num_ranks"]),
    (npy("<i4", (4, 1, 1), [0, 1, 2, -1]), ["[4, 1, 1]"]),
    (npy("<i4", (2, 2, 0), []), ["[2, 2, 0]"]),
    (npy("<i4", (2, 1, 2), [0, 1, 2, 3]), ["[1, 0, 1]", "expert 3"]),
    (npy("<i4", (2, 1, 2), [0, -2, 2, -1]), ["[0, 0, 1]", "expert -2"]),
    (npy("<i8", (2, 1, 2), [0, 2**32, 2, -1]), ["[0, 0, 1]", str(2**32)]),
    (npy("<i4", (2, 1, 2**62), []), ["shape"]),
    (npy("<i4", (2, 0, 2**62), []), ["shape"]),
    (npy("<i4", (2**40, 2**40, 0), []), ["shape"]),
    (header("{'descr': '<i4', 'fortran_order': False, 'shape': (-2, 1, 2), }"), ["-2"]),
    (header("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1.5, 2), }"), [".5"]),
    (header("{'descr': '<i4', 'fortran_order': False, 'shape': 4}"), ["header"]),
    (header("{'descr': '<i4', 'fortran_order': False, 'shape': (4)}"), ["tuple"]),
    (header("{'descr': '<i4', 'fortran_order': 0, 'shape': (2, 1, 2), }"), ["fortran_order"]),
    (header("{'descr': '<i4', 'shape': (2, 1, 2), }"), ["fortran_order"]),
    (header("{'descr': '<i4', 'descr': '<i4', 'shape': (2, 1, 2), }"), ["twice"]),
    (header("{'kind': '<i4', 'fortran_order': False, 'shape': (2, 1, 2), }"), ["kind"]),
    (header("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}"), ["records"]),
    (header("{'descr': '<i4"), ["no end"]),
    (
        header("{'descr': '<i4', 'fortran_order': False, 'shape': (" + "1, " * 40 + ")}"),
        ["dimensions"],
    ),
    (header(""), ["header"]),
    (header("\0\1\2"), ["header"]),
]


class BadFiles(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[1, 2, 3]]})
        self.file("t.npy", GOOD_NPY)

    def test_texts_that_are_no_json(self):
        for text, says in BAD_JSON:
            self.file("bad.json", text)
            self.refused(
                "solve",
                "--placement",
                "p.json",
                "--load",
                "bad.json",
                status=INPUT,
                says=["bad.json", *says],
            )
            self.refused(
                "solve",
                "--placement",
                "bad.json",
                "--load",
                "l.json",
                status=INPUT,
                says=["bad.json"],
            )
            self.refused(
                "place",
                "--load",
                "bad.json",
                "--num-ranks",
                "1",
                "--num-replicas",
                "3",
                status=INPUT,
                says=["bad.json"],
            )

    def test_loads(self):
        for load, says in BAD_LOAD:
            self.file("bad.json", load)
            self.refused(
                "solve",
                "--placement",
                "p.json",
                "--load",
                "bad.json",
                "--json",
                "o.json",
                status=INPUT,
                says=["bad.json", *says],
            )

    def test_a_load_of_other_rows_than_layers(self):
        self.file("p.json", small(physical_to_logical=[[0, 1, 2, 0]] * 2))
        for rows in (1, 3):
            self.file("bad.json", {"load": [[1, 2, 3]] * rows})
            self.refused(
                "solve",
                "--placement",
                "p.json",
                "--load",
                "bad.json",
                status=INPUT,
                says=["bad.json", f"{rows} rows", "expected 2"],
            )

    def test_real_loads(self):
        for entry, says in ((-0.5, "-0.5"), ("x", '"x"'), (None, "null"), ([1], "list")):
            self.file("bad.json", {"load": [[1, 2, 3], [1, 2, entry]]})
            self.refused(
                "place",
                "--load",
                "bad.json",
                "--num-ranks",
                "1",
                "--num-replicas",
                "3",
                status=INPUT,
                says=["bad.json", "load[1][2]", says],
            )

    def test_placements(self):
        for placement, says in BAD_PLACEMENT:
            self.file("bad.json", placement)
            self.refused(
                "solve",
                "--placement",
                "bad.json",
                "--load",
                "l.json",
                "--json",
                "o.json",
                status=INPUT,
                says=["bad.json", *says],
            )
            self.refused(
                "plan",
                "--placement",
                "bad.json",
                "--topk",
                "t.npy",
                "--out",
                "o.npy",
                status=INPUT,
                says=["bad.json"],
            )

    def test_arrays(self):
        for data, says in BAD_NPY:
            self.file("bad.npy", data)
            self.refused(
                "plan",
                "--placement",
                "p.json",
                "--topk",
                "bad.npy",
                "--out",
                "o.npy",
                "--json",
                "o.json",
                status=INPUT,
                says=["bad.npy", *says],
            )

    def test_experts_that_a_topology_cannot_deal_out(self):
        self.file("bad.json", {"load": [[1, 2, 3]]})
        self.refused(
            "place",
            "--load",
            "bad.json",
            "--policy",
            "cube",
            "--redundants",
            "1",
            status=INPUT,
            says=["bad.json", "key load", "3 experts", "8 ranks"],
        )

    def test_plan_takes_one_layer(self):
        self.file("p.json", small(physical_to_logical=[[0, 1, 2, 0]] * 2))
        self.refused(
            "plan",
            "--placement",
            "p.json",
            "--topk",
            "t.npy",
            "--out",
            "o.npy",
            status=INPUT,
            says=["p.json", "2 layers"],
        )

    def test_topology_files(self):
        self.file("l.json", {"load": [[1, 2, 3, 4]]})
        for text, says in BAD_JSON:
            self.file("r2o.json", text)
            self.refused(
                "place",
                "--load",
                "l.json",
                "--policy",
                "r2o:r2o.json",
                "--redundants",
                "1",
                status=INPUT,
                says=["r2o.json"],
            )
        for r2o in (
            [],
            [[]],
            [[0], [1]],
            [[1], [1]],
            [[1], [2]],
            [[-1], [0]],
            [[1], [0, 0]],
            [[1.5], [0]],
            "x",
            [1, 0],
        ):
            self.file("r2o.json", {"r2o": r2o})
            done = self.run_command(
                "place", "--load", "l.json", "--policy", "r2o:r2o.json", "--redundants", "1"
            )
            self.assertIn(done.returncode, (USAGE, INPUT), (r2o, done.stderr))
            self.assertIn(b"r2o", done.stderr)
            self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_traces(self):
        for text, _ in BAD_JSON:
            self.file("bad.jsonl", text)
            self.refused(
                "simulate",
                "--trace",
                "bad.jsonl",
                "--json",
                "o.json",
                "--html",
                "o.html",
                status=INPUT,
                says=["bad.jsonl"],
            )

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
        for text, says in (
            (own, ["no steps"]),
            (own + full + full, ["batch 1", "2^63 - 1"]),
            (recorded.format(0) + recorded.format(2), ["line 2", "key step", "is 2, expected 1"]),
        ):
            self.file("bad.jsonl", text)
            self.refused(
                "simulate",
                "--trace",
                "bad.jsonl",
                "--num-ranks",
                "2",
                "--redundants",
                "1",
                status=INPUT,
                says=["bad.jsonl", *says],
            )
            self.refused(
                "simulate",
                "--trace",
                "-",
                "--num-ranks",
                "2",
                "--redundants",
                "1",
                status=INPUT,
                says=["standard input", *says],
                stdin=text.encode(),
            )
        self.refused(
            "simulate",
            "--trace",
            "-",
            status=INPUT,
            stdin=GOOD_NPY,
            says=["standard input", "STEM.load.jsonl"],
        )

    def test_every_file_may_be_missing_a_folder_or_unreadable(self):
        (self.folder / "folder").mkdir()
        self.file("secret", "{}")
        (self.folder / "secret").chmod(0)
        commands = [
            ("solve", "--placement", None, "--load", "l.json"),
            ("solve", "--placement", "p.json", "--load", None),
            ("place", "--load", None, "--num-ranks", "1", "--num-replicas", "3"),
            ("place", "--load", "l.json", "--from", None),
            ("place", "--load", "l.json", "--policy", "r2o:{}", "--redundants", "1"),
            ("plan", "--placement", None, "--topk", "t.npy", "--out", "o.npy"),
            ("plan", "--placement", "p.json", "--topk", None, "--out", "o.npy"),
            ("simulate", "--trace", None),
        ]
        for command in commands:
            for path, says in (
                ("none.json", "No such file"),
                ("folder", "folder"),
                ("l.json/x", "Not a directory"),
            ):
                args = [path if a is None else a.replace("{}", path) for a in command]
                self.refused(*args, status=INPUT, says=[path, says])
            if os.geteuid() != 0:  # root may read everything
                args = ["secret" if a is None else a.replace("{}", "secret") for a in command]
                self.refused(*args, status=INPUT, says=["secret", "denied"])

    def test_a_name_with_control_characters_makes_one_line(self):
        name = "a\nb\x1b[0m"
        self.refused(
            "solve", "--placement", name, "--load", "l.json", status=INPUT, says=["a\\x0ab\\x1b[0m"]
        )
        self.refused(
            "solve",
            "--placement",
            "p.json",
            "--load",
            b"\xff\xfe".decode("latin-1"),
            status=INPUT,
            says=["No such file"],
        )

    def test_pipes_without_a_writer_do_not_hang(self):
        os.mkfifo(self.folder / "pipe")
        self.refused(
            "solve",
            "--placement",
            "pipe",
            "--load",
            "l.json",
            status=INPUT,
            says=["pipe", "nobody"],
        )
        self.refused("simulate", "--trace", "pipe", status=INPUT, says=["pipe", "nobody"])


class BadArguments(support.CommandTest):
    def setUp(self):
        super().setUp()
        self.file("p.json", SMALL)
        self.file("l.json", {"load": [[1, 2, 3, 4]]})
        self.file("l3.json", {"load": [[1, 2, 3]]})

    def test_names(self):
        self.refused(status=USAGE, says=["COMMAND", "--help"])
        self.refused("sovle", status=USAGE, says=["sovle", "did you mean solve?"])
        self.refused("frobnicate", status=USAGE, says=["frobnicate", "simulate", "place", "solve"])
        self.refused("--bogus", status=USAGE, says=["--bogus"])
        self.refused("simulate", "--version", status=USAGE, says=["lplb simulate --help"])
        self.refused(
            "solve",
            "--placemnt",
            "p.json",
            status=USAGE,
            says=["--placemnt", "did you mean --placement?"],
        )
        self.refused(
            "solve", "--frobnicate", status=USAGE, says=["--frobnicate", "lplb solve --help"]
        )
        self.refused(
            "solve",
            "--placement",
            "p.json",
            "--load",
            "l3.json",
            "extra",
            status=USAGE,
            says=["extra"],
        )
        self.refused("info", "--", "extra", status=USAGE, says=["extra"])
        self.refused("completion", "tcsh", status=USAGE, says=["tcsh", "fish"])

    def test_required_options(self):
        for command, options in {
            "solve": {"--placement": "p.json", "--load": "l3.json"},
            "plan": {"--placement": "p.json", "--topk": "t.npy", "--out": "o.npy"},
            "place": {"--load": "l.json", "--num-ranks": "2", "--num-replicas": "4"},
            "simulate": {"--trace": "synthetic:W0_balanced"},
        }.items():
            for missing in options:
                args = [w for o, v in options.items() if o != missing for w in (o, v)]
                self.refused(command, *args, status=USAGE, says=[missing])

    def test_values(self):
        solve = ("solve", "--placement", "p.json", "--load", "l3.json")
        for value in ("", "x", "1.5", "0x2", "1e3", "0", "-1", "99999", "9" * 30, "1 2", "+2"):
            self.refused(*solve, "--threads", value, status=USAGE, says=["--threads", value])
        self.refused(*solve, "--solver", "imp", status=USAGE, says=["--solver", "imp", "flow"])
        self.refused(*solve, "--solver", status=USAGE, says=["--solver", "no value"])
        self.refused(*solve, "--solver=", status=USAGE, says=["--solver", "no value"])
        self.refused(*solve, "--load", "l3.json", status=USAGE, says=["--load", "more than once"])
        self.refused(*solve, "--json", "", status=USAGE, says=["--json"])

    def test_a_forced_solver_is_not_replaced(self):
        self.file(
            "p.json",
            {"num_ranks": 9, "num_logical_experts": 9, "physical_to_logical": list(range(9))},
        )
        self.file("l.json", {"load": [[1] * 9]})
        self.refused(
            "solve",
            "--placement",
            "p.json",
            "--load",
            "l.json",
            "--solver",
            "cut",
            status=USAGE,
            says=["cut", "8"],
        )

    def test_shapes_that_do_not_fit(self):
        place = ("place", "--load", "l.json")
        for args, says in (
            (("--num-ranks", "3", "--num-replicas", "4"), ["--num-replicas", "4", "3"]),
            (("--num-ranks", "2", "--num-replicas", "2"), ["--num-replicas", "2", "4"]),
            (
                ("--num-ranks", "2", "--num-replicas", "4", "--num-groups", "3"),
                ["--num-groups", "3"],
            ),
            (
                (
                    "--num-ranks",
                    "2",
                    "--num-replicas",
                    "4",
                    "--num-groups",
                    "4",
                    "--num-nodes",
                    "4",
                ),
                ["--num-nodes", "4"],
            ),
            (("--num-ranks", "2", "--num-replicas", "4", "--redundants", "1"), ["--redundants"]),
            (("--num-ranks", "1024", "--redundants", "4096"), ["--redundants", "4096"]),
            (("--policy", "cube"), ["--redundants"]),
            (("--policy", "cube", "--num-replicas", "8"), ["--num-replicas", "cube"]),
            (("--policy", "ring:4", "--redundants", "2"), ["redundants"]),
            (("--policy", "ring:4", "--redundants", "1", "--num-ranks", "6"), ["6", "4"]),
            (("--policy", "sphere", "--redundants", "1"), ["--policy", "sphere", "cube"]),
            (("--policy", "torus:2", "--redundants", "1"), ["torus:2"]),
            (("--policy", "torus:0x4", "--redundants", "1"), ["torus:0x4"]),
            (("--policy", "ring:1", "--redundants", "1"), ["ring:1"]),
            (("--policy", "ring:99999999999", "--redundants", "1"), ["ring:99999999999"]),
            (("--num-ranks", "2", "--num-replicas", "4", "--keep-slots"), ["--keep-slots"]),
        ):
            self.refused(*place, *args, status=USAGE, says=says)

    def test_a_placement_in_use_must_fit(self):
        for args, says in (
            (("--load", "l.json"), ["3 logical experts", "4"]),
            (("--load", "l3.json", "--num-ranks", "1"), ["2 ranks", "1"]),
            (("--load", "l3.json", "--num-nodes", "2"), ["1 nodes", "2"]),
            (("--load", "l3.json", "--num-replicas", "6"), ["4 physical experts", "6"]),
        ):
            self.refused(
                "place", "--from", "p.json", *args, status=USAGE, says=["--from", "p.json", *says]
            )
        self.file("l2.json", {"load": [[1, 2, 3]] * 2})
        self.refused(
            "place",
            "--load",
            "l2.json",
            "--from",
            "p.json",
            status=INPUT,
            says=["p.json", "1 layers", "2"],
        )

    def test_a_new_placement_must_reach_live_ranks(self):
        self.file("l2.json", {"load": [[9, 1, 1]]})
        refused = 0
        for dead in range(3):  # experts 1 and 2 get one replica, on one of these ranks
            self.file(
                "dead.json",
                {
                    "num_ranks": 3,
                    "num_logical_experts": 3,
                    "physical_to_logical": [0, 1, 2, 0, 1, 2],
                    "rank_alive": [rank != dead for rank in range(3)],
                },
            )
            args = ("place", "--load", "l2.json", "--from", "dead.json")
            if self.run_command(*args).returncode == 0:
                continue
            self.refused(
                *args, status=USAGE, says=["--from: dead.json has dead ranks", "layer 0", "expert"]
            )
            refused += 1
        self.assertGreater(refused, 0)

    def test_simulate(self):
        trace = ("simulate", "--trace", "synthetic:W0_balanced", "--synthetic-num-steps", "2")
        for args, says in (
            (("--policies", "eplp"), ["--policies", "eplp", "eplb"]),
            (("--policies", ""), ["--policies"]),
            (("--policies", "eplb,,none"), ["--policies"]),
            (("--policies", "eplb,"), ["--policies", '""']),
            (("--policies", "none,none"), ["--policies", "none"]),
            (("--policies", "hypercube+lplb"), ["hypercube"]),
            (("--policies", "none+lplb"), ["none+lplb"]),
            (("--num-ranks", "7"), ["--num-ranks", "7"]),
            (("--num-nodes", "3"), ["--num-nodes", "3"]),
            (("--redundants", "4096"), ["redundants", "4096"]),
            (("--window", "0"), ["--window", "0"]),
            (("--rebalance-every", "0"), ["--rebalance-every", "0"]),
            (("--batch-tokens", "-1"), ["--batch-tokens", "-1"]),
            (("--solver", "x"), ["--solver", "x"]),
            (("--synthetic-num-topk", "257"), ["--synthetic-num-topk", "257"]),
            (("--jobs", "0"), ["--jobs", "0"]),
        ):
            self.refused(*trace, *args, status=USAGE, says=says)
        self.refused(
            "simulate",
            "--trace",
            "synthetic:W9",
            status=USAGE,
            says=["synthetic:W9", "W0_balanced"],
        )
        self.refused(
            "simulate",
            "--trace",
            "l.json",
            "--synthetic-seed",
            "1",
            status=USAGE,
            says=["--synthetic-seed", "l.json"],
        )

    def test_bench(self):
        if not self.json_of("info")["benchmarks"]:
            self.skipTest("this build has no benchmarks")
        self.refused("bench", "--filter", "[", status=USAGE, says=["--filter", "["])
        self.refused("bench", "--filter", "no such name", status=USAGE, says=["no such name"])
        self.refused("bench", "--min-time", "-1", status=USAGE, says=["--min-time", "-1"])


if __name__ == "__main__":
    support.main()
