// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "solve/time/state.h"

namespace lplb::solvers {

/// The scratch of match(), and the set that it ends with.
struct Matching {
  std::vector<Index> found;      // ranks that the last search reached, the worst first
  std::vector<Index> came_by;    // [num_ranks]: place by which a rank was reached, -1: not reached
  std::vector<Index> came_from;  // [num_ranks]: the place that would give the tokens
};

/// Whether no replicated expert has more tokens than the first step of the table, on any of its
/// ranks. Then dividing an expert never pays, and all parts on a rank cost alike.
bool is_decode(const TimeState& state);

/// The split with the least largest price, if is_decode(): each active expert whole on one rank, as
/// a matching of experts with ranks (augmenting paths, after Hall and Koenig). `found` is then a
/// set that proves it: its experts can go nowhere else, and with one part more any of its ranks
/// would cost as much as the worst.
void match(TimeState& state, Matching& scratch);

}  // namespace lplb::solvers
