// SPDX-License-Identifier: MIT
#pragma once

#include "core/check.h"
#include "lplb/planner.h"
#include "lplb/types.h"
#include "plan/members.h"

namespace lplb::plan {

/// Checks that `next` fits into the memory of a planner that was made for `first`: the same numbers
/// of ranks and logical experts, and at most `max_redundants` redundant slots; and that its group
/// of `num_members` ranks can go on. Throws ArgumentError.
inline void check_next_placement(const Placement& next, const Placement& first,
                                 Index max_redundants, Index num_members) {
  check_argument(next.num_ranks == first.num_ranks, "placement",
                 "has {} ranks, expected those of the first ({})", next.num_ranks, first.num_ranks);
  check_argument(next.num_logical_experts == first.num_logical_experts, "placement",
                 "has {} logical experts, expected those of the first ({})",
                 next.num_logical_experts, first.num_logical_experts);
  const Index redundants = next.num_physical() - next.num_logical_experts;
  check_argument(redundants <= max_redundants, "placement",
                 "has {} redundant slots, expected at most max_redundants ({})", redundants,
                 max_redundants);
  check_next_members(next, first, num_members);
}

/// Throws ArgumentError if `staleness` is neither 0 nor 1.
inline void check_staleness(Index staleness) {
  check_argument(staleness == 0 || staleness == 1, "staleness", "{} is not 0 or 1", staleness);
}

/// Throws ArgumentError if the cost is not where it belongs.
inline void check_cost(const PlannerOptions& options) {
  check_argument(options.solve.cost == nullptr, "solve.cost",
                 "is given, expected the cost in PlannerOptions::cost");
}

/// Lets options.solve refer to options.cost, which must stay where it is.
inline void set_cost(PlannerOptions& options) {
  if (!options.cost) return;
  options.solve.cost = &*options.cost;
  if (options.solve.solver == Solver::kAuto) options.solve.solver = Solver::kFastTime;
}

}  // namespace lplb::plan
