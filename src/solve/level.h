// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>

#include "lplb/types.h"
#include "solve/speed_level.h"

// Scalar rules of water-filling: how to divide one expert's tokens so that the ranks that hold it
// end level, given all other loads. Pull request 9 of deepseek-ai/LPLB levels pairs of ranks in
// this way, in floating point. Here tokens are whole, and an expert may have any number of places.
namespace lplb::solvers {

/// How many of `w` tokens rank a takes, so that a and b end level if they carry `a` and `b` without
/// them. The odd token goes to a.
inline Load level_two(Load w, Load a, Load b) {
  const Load twice = w + b - a;
  return std::clamp<Load>((twice >> 1) + (twice & 1), 0, w);  // NOTE: twice + 1 may not fit
}

/// Levels `w` tokens over `k` >= 1 ranks that carry `other` [k] without them. Writes `x` [k], which
/// sum to w. Ranks above the level drop out until none is above it; of those that stay, the first
/// ones in the list take the odd tokens. It does not sort, so that a warp can do the same with
/// nothing but sums. w + the sum of `other` must fit. O(k) for each new level, of which there are
/// few.
inline void level_uniform(Load w, Index k, const Load* other, Load* x) {
  Load level = std::numeric_limits<Load>::max();
  for (;;) {
    Load filled = w;
    Load count = 0;
    for (Index i = 0; i < k; ++i) {
      if (other[i] > level) continue;
      filled += other[i];
      ++count;
    }
    const Load next = filled / count;
    bool all_stay = true;
    for (Index i = 0; i < k; ++i) all_stay = all_stay && (other[i] > level || other[i] <= next);
    level = next;
    if (!all_stay) continue;
    Load extra = filled % count;
    for (Index i = 0; i < k; ++i) {
      x[i] = other[i] > level ? 0 : level - other[i] + (extra > 0);
      extra -= other[i] <= level && extra > 0;
    }
    return;
  }
}

/// The same if rank i works at `speed` [k]: levels load / speed. Doubles find the level, in a fixed
/// order of operations; then whole tokens are dealt so that x sums to w.
inline void level_speeds(Load w, Index k, const Load* other, const double* speed, Load* x,
                         Index* order) {
  for (Index i = 0; i < k; ++i) order[i] = i;
  std::sort(order, order + k,
            [other, speed](Index i, Index j) { return is_lower(other, speed, i, j); });
  level_in_order(w, k, other, speed, order, x);
}

}  // namespace lplb::solvers
