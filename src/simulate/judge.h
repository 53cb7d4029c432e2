// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "core/cost_curve.h"
#include "lplb/types.h"

namespace lplb::replay {

/// What copies in dynamic slots were made for one (batch, layer).
struct CopyOutcome {
  Index made = 0;
  Index busiest = 0;      // the most that one rank sends or receives
  double exposed_us = 0;  // time of copying that nothing hides; 0 if no bandwidth is given
  bool optimal = false;   // whether copies and split meet the bound of all copies and splits
  double plan_us = 0;     // how long it took to choose the copies and the split
};

/// What a policy gave for one (batch, layer).
struct PolicyOutcome {
  double imbalance = 1;
  double slowest = 0;  // the largest load / speed of a rank
  double gap = 0;
  double cost = 0;      // the largest cost of a rank, in the model's unit, and copies.exposed_us
  double cost_gap = 0;  // NaN: no bound is known
  double local = 0;     // tokens that stay on their home rank; 0 if homes are not known
  double total = 0;     // all tokens; 0 if homes are not known
  CopyOutcome copies;   // if the policy has dynamic slots
};

/// The figures of a split.
///
/// - `physical_load` [num_physical]: the split
/// - `bound`: the least largest load / speed of a rank that a split over this placement can have
/// - `source_load` [num_ranks, num_logical]: where the tokens are; empty: not known
/// - `rank_load` is scratch memory
/// - `heat` [num_ranks] is written: what relative_loads() gives each rank
PolicyOutcome judge(const Placement& placement, std::span<const Load> physical_load, double bound,
                    std::span<const Load> source_load, std::vector<Load>& rank_load,
                    std::span<double> heat);

/// The largest cost of a rank, in thousandths of the model's unit. An expert with several slots on
/// a rank is one part.
///
/// - `curves`: the cost of each rank [num_ranks], or [1] for all
/// - `taken` [num_logical] is scratch memory: zeros, before and after
double slowest_cost(const Placement& placement, std::span<const Load> physical_load,
                    std::span<const CostCurve> curves, std::span<Load> taken);

}  // namespace lplb::replay
