# SPDX-License-Identifier: MIT
"""The EPLB policy in slow, plain Python. rebalance_experts() is compared with it.

It follows deepseek-ai/EPLB's eplb.py on PyTorch's CPU backend and uses only the standard library.
Two details of that backend change the result and are modelled here:
- Sums of a group's loads are float32, in the order of PyTorch's 8-lane reduction.
- sort() is not stable beyond 16 items. Equal loads come out in the order of an introsort with a
  median of three; the replicas of one expert always have equal loads.
"""

import ctypes


def f32(x):
    """x rounded to float32, or infinity if x is above its range."""
    return ctypes.c_float(x).value


def f32_sum(values):
    """The float32 sum of a list, rounded like PyTorch's contiguous reduction."""
    lanes = 8 if len(values) >= 8 else 1
    vectors = [values[i : i + lanes] for i in range(0, len(values) - lanes + 1, lanes)]
    tail = values[len(vectors) * lanes :]

    def add(a, b):
        return [f32(x + y) for x, y in zip(a, b)]

    zero = [0.0] * lanes
    rows = len(vectors) // 4
    total = []
    for k in range(4):
        column = vectors[k : rows * 4 : 4]
        blocks = zero
        while len(column) >= 16:
            block = zero
            for v in column[:16]:
                block = add(block, v)
            blocks = add(blocks, block)
            column = column[16:]
        rest = zero
        for v in column:
            rest = add(rest, v)
        total.append(add(rest, blocks))
    for v in vectors[rows * 4 :]:
        total[0] = add(total[0], v)
    for k in (1, 2, 3):
        total[0] = add(total[0], total[k])
    result = 0.0
    for x in tail + total[0]:
        result = f32(result + x)
    return result


def descending(values):
    """The ids of `values`, largest first; ties in the order that the introsort leaves."""
    a = list(range(len(values)))

    def before(i, j):
        return values[i] > values[j]

    def sift(lo, n, hole, item):
        top = hole
        while 2 * hole + 1 < n:
            child = 2 * hole + 2
            if child == n or before(a[lo + child], a[lo + child - 1]):
                child -= 1
            a[lo + hole] = a[lo + child]
            hole = child
        while hole > top and before(a[lo + (hole - 1) // 2], item):
            a[lo + hole] = a[lo + (hole - 1) // 2]
            hole = (hole - 1) // 2
        a[lo + hole] = item

    def heap_sort(lo, hi):
        n = hi - lo
        for parent in reversed(range(n // 2)):
            sift(lo, n, parent, a[lo + parent])
        for size in range(n - 1, 0, -1):
            item = a[lo + size]
            a[lo + size] = a[lo]
            sift(lo, size, 0, item)

    stack = [(0, len(a), 2 * (len(a).bit_length() - 1))]
    while stack:
        lo, hi, depth = stack.pop()
        if hi - lo <= 16:
            continue
        if depth == 0:
            heap_sort(lo, hi)
            continue
        # The median of three goes first. These comparisons decide which of equal items that is.
        x, y, z = lo + 1, lo + (hi - lo) // 2, hi - 1
        if before(a[x], a[y]):
            median = y if before(a[y], a[z]) else z if before(a[x], a[z]) else x
        else:
            median = x if before(a[x], a[z]) else z if before(a[y], a[z]) else y
        a[lo], a[median] = a[median], a[lo]
        i, j = lo + 1, hi - 1
        while True:
            while before(a[i], a[lo]):
                i += 1
            while before(a[lo], a[j]):
                j -= 1
            if i >= j:
                break
            a[i], a[j] = a[j], a[i]
            i += 1
            j -= 1
        stack += [(lo, i, depth - 1), (i, hi, depth - 1)]
    # The rest is an insertion sort, which is stable.
    return sorted(a, key=lambda i: -values[i])


def pack(weights, num_packs):
    """The (pack, position in the pack) of each item."""
    size = len(weights) // num_packs
    if size == 1:
        return [(i, 0) for i in range(len(weights))]
    place = [None] * len(weights)
    total = [0.0] * num_packs
    filled = [0] * num_packs
    for item in descending(weights):
        p = min((p for p in range(num_packs) if filled[p] < size), key=lambda p: total[p])
        place[item] = (p, filled[p])
        filled[p] += 1
        total[p] = f32(total[p] + weights[item])
    return place


def replicate(weights, num_replicas):
    """The expert of each replica, the number of each replica among its expert's replicas, and the
    number of replicas of each expert."""
    experts = list(range(len(weights)))
    ordinals = [0] * len(weights)
    counts = [1] * len(weights)
    while len(experts) < num_replicas:
        share = [f32(w / c) for w, c in zip(weights, counts)]
        e = share.index(max(share))
        experts.append(e)
        ordinals.append(counts[e])
        counts[e] += 1
    return experts, ordinals, counts


def rebalance_layer(load, num_replicas, num_groups, num_nodes, num_ranks):
    if num_groups % num_nodes:
        num_groups = num_nodes = 1
    load = [f32(x) for x in load]
    size = len(load) // num_groups
    groups = [list(range(g * size, (g + 1) * size)) for g in range(num_groups)]
    place = pack([f32_sum([load[e] for e in g]) for g in groups], num_nodes)
    ordered = sorted(range(num_groups), key=place.__getitem__)

    per_node = num_replicas // num_nodes
    per_rank = num_replicas // num_ranks
    groups_a_node = num_groups // num_nodes
    slots = [None] * num_replicas
    for node in range(num_nodes):
        own = ordered[node * groups_a_node : (node + 1) * groups_a_node]
        mine = [e for g in own for e in groups[g]]
        weights = [load[e] for e in mine]
        experts, ordinals, counts = replicate(weights, per_node)
        shares = [f32(weights[e] / counts[e]) for e in experts]
        for r, (rank, position) in enumerate(pack(shares, num_ranks // num_nodes)):
            slots[node * per_node + rank * per_rank + position] = (mine[experts[r]], ordinals[r])
    return slots


def rebalance_experts(load, num_replicas, num_groups, num_nodes, num_ranks):
    """physical_to_logical, logical_to_physical and replica_count of every layer."""
    layers = [rebalance_layer(w, num_replicas, num_groups, num_nodes, num_ranks) for w in load]
    physical_to_logical = [[e for e, _ in slots] for slots in layers]
    count = [[row.count(e) for e in range(len(load[0]))] for row in physical_to_logical]
    most = max(max(c) for c in count)
    logical_to_physical = []
    for slots in layers:
        table = [[-1] * most for _ in load[0]]
        for p, (e, ordinal) in enumerate(slots):
            table[e][ordinal] = p
        logical_to_physical.append(table)
    return physical_to_logical, logical_to_physical, count
