// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "solve/time/state.h"

// Splits that are made at once, from which the searches choose and begin. Each sets all places.
namespace lplb::solvers {

/// The best of the splits that were tried.
struct BestSplit {
  Cost price = kCostLimit;  // of the worst rank
  Cost sum = kCostLimit;    // of all ranks: of splits that are equally good, the cheaper one
  std::vector<Load> take;   // [num places]

  void begin() { price = sum = kCostLimit; }
  /// Takes the state's split if it is better.
  void keep(const TimeState& state);
};

/// Every expert whole on its first live replica: no replicas.
void put_homes(TimeState& state);

/// The even split, as split_evenly() has it.
void put_evenly(TimeState& state);

/// Every expert whole, one after another in the order of the tables, on the rank that is then the
/// cheapest. Experts of one colour share no rank, so a kernel places them at once.
void put_greedily(TimeState& state);

}  // namespace lplb::solvers
