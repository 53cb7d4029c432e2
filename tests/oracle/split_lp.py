# SPDX-License-Identifier: MIT
"""The split problem as a linear program, for HiGHS. It shares no code with the library."""

import dataclasses
import math

import highspy
import numpy as np


@dataclasses.dataclass
class SplitLp:
    """Minimizes T, where T * speed(rank) >= load(rank) and every token is on a rank.

    Column 0 is T. The first rows are one for each live rank; the others are one for each expert
    that needs one. Only the bounds depend on the load, so one model serves every batch of a
    placement.
    """

    lp: highspy.HighsLp
    num_ranks: int
    carried_by: list  # (expert, row): the rank of the row takes the rest of the expert's tokens
    at_most: list  # (expert, is a row, row or column): the upper bound is the expert's load
    exactly: list  # (expert, row): the row equals the expert's load

    def set_load(self, load):
        """Writes the bounds of one batch into `lp`."""
        lower = np.zeros(self.lp.num_row_)
        lower[self.num_ranks :] = -math.inf
        upper = np.full(self.lp.num_row_, math.inf)
        column_upper = np.full(self.lp.num_col_, math.inf)
        for expert, row in self.carried_by:
            lower[row] += load[expert]
        for expert, is_row, i in self.at_most:
            (upper if is_row else column_upper)[i] = load[expert]
        for expert, row in self.exactly:
            lower[row] = upper[row] = load[expert]
        self.lp.row_lower_, self.lp.row_upper_ = lower, upper
        self.lp.col_upper_ = column_upper


def live_ranks(placement):
    """The distinct live ranks of each expert of a one-layer placement."""
    slots = len(placement["physical_to_logical"]) // placement["num_ranks"]
    alive = placement.get("rank_alive") or [True] * placement["num_ranks"]
    ranks = [set() for _ in range(placement["num_logical_experts"])]
    for physical, expert in enumerate(placement["physical_to_logical"]):
        if alive[physical // slots]:
            ranks[expert].add(physical // slots)
    return [sorted(r) for r in ranks]


def split_lp(placement, plain=False, integer=False):
    """Builds the program of a one-layer placement.

    plain: one column for every expert and rank that holds it, and one equation for every expert.
    Otherwise an expert on k ranks has k - 1 columns, because they determine what its last rank
    takes.
    integer: the columns of tokens are integers; T is not.
    """
    ranks = live_ranks(placement)
    live = sorted(set().union(*ranks))
    row_of = {rank: row for row, rank in enumerate(live)}
    speed = placement.get("rank_speed") or [1.0] * placement["num_ranks"]

    columns = [[(row_of[rank], speed[rank]) for rank in live]]
    carried_by, at_most, exactly = [], [], []
    num_rows = len(live)
    for expert, places in enumerate(ranks):
        has_row = plain or len(places) > 2
        last = row_of[places[-1]]
        if plain:
            exactly.append((expert, num_rows))
        else:
            carried_by.append((expert, last))
            if has_row:
                at_most.append((expert, True, num_rows))
            elif len(places) == 2:
                at_most.append((expert, False, len(columns)))
        for rank in places if plain else places[:-1]:
            column = [(row_of[rank], -1.0)]
            if not plain:
                column.append((last, 1.0))
            if has_row:
                column.append((num_rows, 1.0))
            columns.append(column)
        num_rows += has_row

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(columns), num_rows
    lp.col_cost_ = np.array([1.0] + [0.0] * (len(columns) - 1))
    lp.col_lower_ = np.zeros(len(columns))
    lp.col_upper_ = np.full(len(columns), math.inf)
    lp.row_lower_, lp.row_upper_ = np.zeros(num_rows), np.full(num_rows, math.inf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.cumsum([0] + [len(column) for column in columns])
    lp.a_matrix_.index_ = np.array([row for column in columns for row, _ in column])
    lp.a_matrix_.value_ = np.array([value for column in columns for _, value in column])
    if integer:
        kinds = [highspy.HighsVarType.kInteger] * len(columns)
        kinds[0] = highspy.HighsVarType.kContinuous
        lp.integrality_ = kinds
    return SplitLp(lp, len(live), carried_by, at_most, exactly)


def quiet_highs():
    """A single-threaded solver without output."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    return highs
