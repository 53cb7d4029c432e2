# SPDX-License-Identifier: MIT
"""Writes tests/data/eplb_vectors.json: loads with ties, fractions and extreme values, and the
placements that eplb_oracle.py computes for them.

    eplb_vectors.py            write the file
    eplb_vectors.py --check    fail if the file is not what would be written, or if the oracle does
                               not agree with the reference's own vectors
    eplb_vectors.py --torch    compare with a real EPLB; `eplb` (deepseek-ai/EPLB's eplb.py) and
                               torch must be importable
"""

import json
import pathlib
import random
import sys

import eplb_oracle

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
OUTPUT = DATA / "eplb_vectors.json"
REFERENCE = DATA / "eplb_reference.json"
RESULTS = ("physical_to_logical", "logical_to_physical", "expert_count")


def loads(kind, n, rnd):
    """One layer of n loads. They use only random() and randrange() of `rnd`, so that they are the
    same on all machines."""
    rank = list(range(n))
    if kind == "zeros":
        return [0] * n
    if kind == "equal":
        return [7] * n
    if kind == "one hot":
        return [int(i == n // 3) * 1000 for i in rank]
    if kind == "few values":
        return [rnd.randrange(4) for _ in rank]
    if kind == "pairs":
        return [rnd.randrange(30000) // 2 * 2 for _ in range((n + 1) // 2) for _ in (0, 1)][:n]
    if kind == "tokens":
        return [rnd.randrange(30000) for _ in rank]
    if kind == "falling":
        return [n - i for i in rank]
    if kind == "rising":
        return [i // 2 for i in rank]
    if kind == "pipes":
        return [min(i, n - i) for i in rank]
    if kind == "skewed":
        values = [int(100000 / (i + 1) ** 1.2) for i in rank]
        return [values.pop(rnd.randrange(len(values))) for _ in rank]
    if kind == "fractions":
        return [rnd.random() * 10 for _ in rank]
    if kind == "above 2^24":
        return [rnd.randrange(2**24, 2**26) for _ in rank]
    if kind == "wide":
        return [rnd.random() * 2.0 ** rnd.randrange(-100, 100) for _ in rank]
    if kind == "tiny":
        return [rnd.random() * 2.0**-140 for _ in rank]
    if kind == "beyond float32":
        return [rnd.random() * 2.0 ** rnd.randrange(120, 131) for _ in rank]
    if kind == "same sums":  # four groups whose sums differ by rounding alone
        values = [rnd.randrange(2**24) for _ in range(n // 4)]
        return [values[(k * 29 + i) % len(values)] for k in range(4) for i in range(len(values))]
    if kind == "lopsided":
        return lopsided(n)
    raise ValueError(kind)


def lopsided(n):
    """Loads for which every median of three is among the largest, so that the sort falls back to
    its heap sort (after McIlroy, "A killer adversary for quicksort", 1999)."""
    value = {}
    state = {"solid": 0, "candidate": 0}

    class Item:
        def __init__(self, i):
            self.i = i

        def __neg__(self):
            return self

        def __lt__(self, other):  # only the oracle's last, stable pass calls it
            return value.get(self.i, n) < value.get(other.i, n)

        def __gt__(self, other):
            if self.i not in value and other.i not in value:
                frozen = self.i if self.i == state["candidate"] else other.i
                value[frozen] = state["solid"]
                state["solid"] += 1
            if self.i not in value:
                state["candidate"] = self.i
            elif other.i not in value:
                state["candidate"] = other.i
            return value.get(self.i, n) < value.get(other.i, n)

    eplb_oracle.descending([Item(i) for i in range(n)])
    return [n - value.get(i, n) + 1 for i in range(n)]


# (layers, experts, replicas, groups, nodes, ranks)
SHAPES = [
    ("few values", (3, 12, 16, 4, 2, 8)),
    ("zeros", (1, 64, 72, 8, 2, 8)),
    ("equal", (1, 64, 80, 8, 4, 8)),
    ("equal", (1, 100, 120, 1, 1, 12)),
    ("one hot", (2, 32, 64, 4, 2, 16)),
    ("few values", (2, 64, 96, 8, 2, 8)),
    ("few values", (1, 256, 288, 8, 4, 32)),
    ("pairs", (2, 60, 72, 6, 3, 12)),
    ("pairs", (1, 128, 160, 1, 1, 16)),
    ("tokens", (2, 64, 64, 8, 1, 8)),
    ("tokens", (1, 256, 320, 8, 3, 64)),
    ("tokens", (1, 160, 192, 8, 8, 32)),
    ("falling", (1, 96, 96, 1, 1, 8)),
    ("rising", (1, 96, 128, 12, 4, 8)),
    ("pipes", (1, 120, 128, 1, 1, 16)),
    ("lopsided", (1, 128, 128, 1, 1, 8)),
    ("lopsided", (1, 200, 240, 200, 2, 8)),
    ("skewed", (2, 64, 128, 1, 1, 16)),
    ("fractions", (2, 72, 80, 4, 2, 8)),
    ("fractions", (1, 90, 96, 6, 3, 6)),
    ("fractions", (1, 264, 288, 8, 4, 32)),
    ("above 2^24", (1, 280, 288, 8, 2, 16)),
    ("above 2^24", (1, 62, 64, 2, 1, 8)),
    ("wide", (2, 84, 96, 6, 2, 8)),
    ("tiny", (1, 40, 48, 1, 1, 8)),
    ("beyond float32", (2, 48, 64, 8, 2, 8)),
    ("tokens", (2, 5, 5, 1, 1, 1)),
    ("tokens", (2, 5, 8, 1, 1, 8)),
    ("tokens", (1, 1, 16, 1, 1, 4)),
    ("tokens", (1, 17, 20, 2, 3, 5)),
    ("fractions", (1, 1100, 1104, 2, 1, 16)),
    ("same sums", (1, 2304, 2320, 4, 2, 16)),
]


def make_cases():
    rnd = random.Random(20240815)
    cases = []
    for kind, (layers, experts, replicas, groups, nodes, ranks) in SHAPES:
        case = {
            "name": f"{kind} {layers}x{experts}->{replicas} g{groups} n{nodes} r{ranks}",
            "num_replicas": replicas,
            "num_groups": groups,
            "num_nodes": nodes,
            "num_gpus": ranks,
            "weight": [loads(kind, experts, rnd) for _ in range(layers)],
        }
        result = eplb_oracle.rebalance_experts(case["weight"], replicas, groups, nodes, ranks)
        cases.append(case | dict(zip(RESULTS, result)))
    return cases


def as_text(cases):
    rows = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    return f"[\n{rows}\n]\n"


def differences(cases, rebalance):
    """The name and the key of each result that is not what `rebalance` returns."""
    found = []
    for case in cases:
        shape = [case[key] for key in ("num_replicas", "num_groups", "num_nodes", "num_gpus")]
        for key, value in zip(RESULTS, rebalance(case["weight"], *shape)):
            if value != case[key]:
                found.append(f"{case['name']}: {key}")
    return found


def main(arguments):
    reference = json.loads(REFERENCE.read_text())
    if arguments == ["--check"]:
        wrong = differences(reference, eplb_oracle.rebalance_experts)
        if as_text(make_cases()) != OUTPUT.read_text():
            wrong.append(f"{OUTPUT.name} is not what this program writes")
    elif arguments == ["--torch"]:
        import eplb
        import torch

        def rebalance(weight, *shape):
            load = torch.tensor(weight, dtype=torch.float64)
            return [maps.tolist() for maps in eplb.rebalance_experts(load, *shape)]

        cases = json.loads(OUTPUT.read_text()) + reference
        wrong = differences(cases, rebalance)
        print(f"torch {torch.__version__}: {len(cases)} cases")
    elif not arguments:
        OUTPUT.write_text(as_text(make_cases()))
        wrong = []
    else:
        sys.exit(__doc__)
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main(sys.argv[1:])
