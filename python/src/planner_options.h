// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include "lplb/planner.h"

namespace lplb::python {

inline PlannerOptions planner_options(std::int64_t max_tokens, Index num_topk,
                                      const std::string& solver, std::int64_t max_steps,
                                      Index max_redundants, Index staleness, const CostModel* cost,
                                      const ReplicateOptions* copies = nullptr) {
  PlannerOptions options;
  options.max_tokens = max_tokens;
  options.num_topk = num_topk;
  options.solve.solver = parse_solver(solver);
  options.solve.max_steps = max_steps;
  options.max_redundants = max_redundants;
  options.staleness = staleness;
  if (cost != nullptr) options.cost = *cost;
  if (copies != nullptr) {
    options.dynamic_slots = copies->dynamic_slots;
    options.replicate = *copies;
  }
  return options;
}

inline Singles singles_of(const CostModel* cost, const ReplicateOptions* copies = nullptr) {
  return cost == nullptr && copies == nullptr ? Singles::kSummed : Singles::kEach;
}

}  // namespace lplb::python
