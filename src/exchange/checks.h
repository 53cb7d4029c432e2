// SPDX-License-Identifier: MIT
#pragma once

#include "core/check.h"
#include "lplb/exchange.h"

namespace lplb::exchange {

/// Checks that the arguments of post() fit each other and the group. Throws ArgumentError.
inline void check_post(const Exchange& exchange, const PackedLayout& layout,
                       std::span<const Load> mine) {
  check_argument(layout.num_ranks >= exchange.num_ranks(), "layout",
                 "is of {} ranks, expected at least those of the exchange ({})", layout.num_ranks,
                 exchange.num_ranks());
  check_argument(mine.size() == layout.size(), "mine", "has {} entries, expected {}", mine.size(),
                 layout.size());
}

/// Checks that the argument of collect() fits what was posted: a row of `size` counts, or 0 if
/// nothing was posted. Throws ArgumentError.
inline void check_collect(const Exchange& exchange, std::size_t size, std::span<Load> all) {
  check_argument(size != 0, "all", "nothing is posted, expected post() before collect()");
  const std::size_t wanted = size * static_cast<std::size_t>(exchange.num_ranks());
  check_argument(all.size() == wanted, "all", "has {} entries, expected num_ranks * {} ({})",
                 all.size(), size, wanted);
}

}  // namespace lplb::exchange
