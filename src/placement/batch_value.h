// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "lplb/cost.h"
#include "lplb/solver.h"

namespace lplb::placement {

/// How batches are split, and what the slowest rank then has: tokens / speed, or a cost.
class BatchValue {
 public:
  /// What a batch is worth with a placement.
  struct Value {
    double slowest = 0;  // of the slowest rank
    double mean = 0;     // of all ranks that are alive
  };

  BatchValue(const std::optional<CostModel>& cost, bool even_split)
      : options_{.cost = cost ? &*cost : nullptr}, even_split_(even_split) {}

  /// Not thread-safe: it keeps scratch memory.
  Value of(const Placement& placement, const SplitProblem& problem, std::span<const Load> load);

 private:
  SolveOptions options_;
  bool even_split_;
  Workspace workspace_;
  Split split_;
  std::vector<Load> slots_;
};

}  // namespace lplb::placement
