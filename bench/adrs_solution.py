# SPDX-License-Identifier: MIT
"""What would be handed in to the EPLB problem of the ADRS leaderboard (adrs.py says more).

The leaderboard takes a class Solution whose solve() returns the text of a program. Its image must
have the package lplb.
"""

PROGRAM = """
import lplb
import torch


def rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_gpus):
    # The next window differs. Loads that are nearer to their mean give copies that fit both.
    load = weight.double()
    load = load + MARGIN * load.mean(dim=1, keepdim=True)
    # All experts are one group, so that a hot one may have copies on every node.
    return lplb.rebalance_experts(load, num_replicas, 1, 1, num_gpus)
""".replace("MARGIN", "0.25")


class Solution:
    def solve(self):
        return PROGRAM
