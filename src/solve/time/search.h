// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "solve/time/state.h"

namespace lplb::solvers {

/// The scratch of improve().
struct SearchScratch {
  std::vector<Load> before;     // [num places]
  std::vector<Index> began;     // the experts that the chains so far began with
  std::vector<int> free_again;  // [K]: the move of a chain from which on an expert may move again
};

/// Makes the largest price smaller, move after move, until none helps or it is at most `enough`.
/// Never makes it larger. Returns the number of moves.
int improve(TimeState& state, Cost enough, SearchScratch& scratch);

}  // namespace lplb::solvers
