// SPDX-License-Identifier: MIT
#pragma once

#include "core/check.h"
#include "lplb/exchange.h"

namespace lplb {

/// The arguments of all_gather() fit each other and the group.
inline void check_gather(const Exchange& exchange, const PackedLayout& layout,
                         std::span<const Load> mine, std::span<Load> all) {
  check_argument(layout.num_ranks == exchange.num_ranks(), "layout",
                 "is of {} ranks, expected those of the exchange ({})", layout.num_ranks,
                 exchange.num_ranks());
  check_argument(mine.size() == layout.size(), "mine", "has {} entries, expected {}", mine.size(),
                 layout.size());
  check_argument(all.size() == layout.size() * static_cast<std::size_t>(layout.num_ranks), "all",
                 "has {} entries, expected num_ranks * {} ({})", all.size(), layout.size(),
                 layout.size() * static_cast<std::size_t>(layout.num_ranks));
}

}  // namespace lplb
