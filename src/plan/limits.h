// SPDX-License-Identifier: MIT
#pragma once

#include "core/check.h"
#include "lplb/types.h"

namespace lplb::plan {

/// What a placement must share with a planner's first one, whose memory it will use: ranks, logical
/// experts, and no more redundant slots than the planner has room for. Throws ArgumentError.
inline void check_next_placement(const Placement& next, const Placement& first,
                                 Index max_redundants) {
  check_argument(next.num_ranks == first.num_ranks, "placement",
                 "has {} ranks, expected those of the first ({})", next.num_ranks, first.num_ranks);
  check_argument(next.num_logical_experts == first.num_logical_experts, "placement",
                 "has {} logical experts, expected those of the first ({})",
                 next.num_logical_experts, first.num_logical_experts);
  const Index redundants = next.num_physical() - next.num_logical_experts;
  check_argument(redundants <= max_redundants, "placement",
                 "has {} redundant slots, expected at most max_redundants ({})", redundants,
                 max_redundants);
}

inline void check_staleness(Index staleness) {
  check_argument(staleness == 0 || staleness == 1, "staleness", "{} is not 0 or 1", staleness);
}

}  // namespace lplb::plan
