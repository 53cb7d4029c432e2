// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "lplb/solver.h"

namespace lplb::solvers {

/// The part of verify_split() that is about the cost: Split::cost, and the status.
std::string verify_cost(const Placement& placement, std::span<const Load> load, const Split& split,
                        const CostModel& model);

}  // namespace lplb::solvers
