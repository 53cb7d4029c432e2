// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "lplb/types.h"

namespace lplb::replay {

/// What an exact split that is a batch old makes of this one: each expert's tokens go to its
/// replicas in proportion to `shares` [num_physical], what they took then; evenly where they took
/// nothing. Low discrepancy: a replica's tokens are off by less than one. `load` [num_logical],
/// `split` [num_physical], written; lengths are not checked.
void split_by_shares(const Placement& placement, std::span<const Load> shares,
                     std::span<const Load> load, std::span<Load> split);

}  // namespace lplb::replay
