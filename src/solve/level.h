// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "lplb/types.h"

// Scalar rules of water-filling: how one expert's tokens level the ranks that hold it, all other
// loads given. Pull request 9 of deepseek-ai/LPLB levels pairs in this way in floating point; here
// it is whole tokens and any replica count.
namespace lplb::solvers {

/// Of `w` tokens, those that rank a takes beside loads `a` and `b` so that both end level; the odd
/// token goes to b.
inline Load level_two(Load w, Load a, Load b) { return std::clamp<Load>((w + b - a) >> 1, 0, w); }

/// Levels `w` tokens over `k` >= 1 ranks that carry `other` [k] without them; writes `x` [k], which
/// sum to w. Of equal ranks the first in the list gets the odd token. `order` [k] is scratch.
/// w + the sum of `other` must fit. O(k log k).
inline void level_uniform(Load w, Index k, const Load* other, Load* x, Index* order) {
  for (Index i = 0; i < k; ++i) order[i] = i;
  std::sort(order, order + k, [other](Index i, Index j) {
    return other[i] != other[j] ? other[i] < other[j] : i < j;
  });
  // The `count` lowest ranks hold `filled` tokens in all once level. A rank below that level joins.
  Load filled = w + other[order[0]];
  Index count = 1;
  while (count < k && other[order[count]] < filled / count + (filled % count != 0)) {
    filled += other[order[count++]];
  }
  const Load level = filled / count;
  const Load extra = filled % count;
  for (Index i = 0; i < k; ++i) {
    x[order[i]] = i < count ? level - other[order[i]] + (i < extra) : 0;
  }
}

/// The same where rank i works at `speed` [k]: levels load / speed. Doubles pick the level (in a
/// fixed order of operations), whole tokens are dealt so that x sums to w.
inline void level_speeds(Load w, Index k, const Load* other, const double* speed, Load* x,
                         Index* order) {
  for (Index i = 0; i < k; ++i) order[i] = i;
  std::sort(order, order + k, [other, speed](Index i, Index j) {
    const double a = static_cast<double>(other[i]) / speed[i];
    const double b = static_cast<double>(other[j]) / speed[j];
    return a != b ? a < b : i < j;
  });
  double filled = static_cast<double>(w) + static_cast<double>(other[order[0]]);
  double joint_speed = speed[order[0]];
  Index count = 1;
  for (; count < k; ++count) {
    const Index g = order[count];
    if (static_cast<double>(other[g]) / speed[g] >= filled / joint_speed) break;
    filled += static_cast<double>(other[g]);
    joint_speed += speed[g];
  }
  const double level = filled / joint_speed;
  Load left = w;
  for (Index i = 0; i < k; ++i) x[i] = 0;
  for (Index i = 0; i < count; ++i) {
    const Index g = order[i];
    const double room = level * speed[g] - static_cast<double>(other[g]);
    // NOTE: `left` as a double may round up past it: compare before converting.
    x[g] = room <= 0 ? 0 : room >= static_cast<double>(left) ? left : static_cast<Load>(room);
    left -= x[g];
  }
  // Rounding left a few tokens over: deal them in order.
  for (Index i = 0; left > 0; ++i) {
    const Load share = (left + count - i - 1) / (count - i);
    x[order[i]] += share;
    left -= share;
  }
}

}  // namespace lplb::solvers
