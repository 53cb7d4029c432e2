// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

#include "lplb/types.h"

namespace lplb {

/// Compares the ranks of a placement. Writes for each live rank its load / speed, divided by the
/// mean of these over the live ranks; 0 for dead ranks, whose load counts for nothing. Returns the
/// largest: the imbalance.
///
/// If the live ranks have no load, every live rank gets 1, and 1 is returned. `rank_load` is
/// [num_ranks]; T is an integer or a double whose sum over the ranks is finite. `relative` is
/// [num_ranks], or empty if only the imbalance is wanted. Allocates nothing.
template <class T>
double relative_loads(const Placement& placement, std::span<const T> rank_load,
                      std::span<double> relative) {
  double fastest = 0;
  Index live = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    fastest = std::max(fastest, placement.speed(g));
    ++live;
  }
  // NOTE: speeds may be near the ends of the range of double. Only their ratios matter, and a ratio
  // below kLeastRatio counts as that, so that sums stay finite.
  constexpr double kLeastRatio = 1e-280;
  const auto time = [&](Index g) {
    return static_cast<double>(rank_load[g]) / std::max(placement.speed(g) / fastest, kLeastRatio);
  };
  double total = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (placement.alive(g)) total += time(g);
  }
  double largest = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    double value = 0;
    if (placement.alive(g)) value = total > 0 ? time(g) / (total / live) : 1;
    if (!relative.empty()) relative[g] = value;
    largest = std::max(largest, value);
  }
  return largest;
}

}  // namespace lplb
