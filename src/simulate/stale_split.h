// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "lplb/types.h"

namespace lplb::replay {

/// Splits a batch by the exact split of the previous batch. Each expert's tokens go to its replicas
/// in proportion to `shares` [num_physical], the tokens that the replicas took in the previous
/// batch. If they took none, the tokens are split evenly. Each replica gets its exact part to
/// within less than one token. `load` is [num_logical]. `split` [num_physical] is written. Lengths
/// are not checked.
void split_by_shares(const Placement& placement, std::span<const Load> shares,
                     std::span<const Load> load, std::span<Load> split);

}  // namespace lplb::replay
