// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "lplb/types.h"

namespace lplb {

/// Checks the optional arguments that describe ranks, as PlacementOptions has them: empty, or
/// num_ranks entries, and every speed a finite number > 0. Throws ArgumentError.
void check_ranks(std::span<const double> rank_speed, std::span<const char> rank_alive,
                 Index num_ranks);

}  // namespace lplb
