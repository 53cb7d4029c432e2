// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

#include "lplb/types.h"

namespace lplb {

/// Compares the ranks of a placement. Writes for each live rank its load / speed, divided by what
/// every live rank would have if the load were divided in proportion to the speeds; 0 for dead
/// ranks, whose load counts for nothing. Returns the largest: the imbalance.
///
/// If the live ranks have no load, every live rank gets 1, and 1 is returned. `rank_load` is
/// [num_ranks]; T is an integer or a double whose sum over the ranks is finite. `relative` is
/// [num_ranks], or empty if only the imbalance is wanted. Allocates nothing.
template <class T>
double relative_loads(const Placement& placement, std::span<const T> rank_load,
                      std::span<double> relative) {
  // NOTE: speeds may be near the ends of the range of double. They are divided by the largest, so
  // that their sum stays finite.
  double fastest = 0;
  double total = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    fastest = std::max(fastest, placement.speed(g));
    total += static_cast<double>(rank_load[g]);
  }
  double speeds = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (placement.alive(g)) speeds += placement.speed(g) / fastest;
  }
  double largest = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    const auto load = static_cast<double>(rank_load[g]);
    double value = 0;
    if (placement.alive(g) && total <= 0) value = 1;
    // NOTE: next to the fastest a speed may be 0. A rank without load has 0 nevertheless.
    if (placement.alive(g) && load > 0) {
      value = load / (placement.speed(g) / fastest) * speeds / total;
    }
    if (!relative.empty()) relative[g] = value;
    largest = std::max(largest, value);
  }
  return largest;
}

}  // namespace lplb
