// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <span>

#include "core/check.h"
#include "lplb/types.h"

namespace lplb {

/// The checks of what every placement policy takes. Throws ArgumentError.
inline void check_load(std::span<const double> load, Index num_layers, Index num_logical,
                       int num_threads) {
  check_argument(num_layers >= 1, "num_layers", "{} is not >= 1", num_layers);
  check_argument(num_logical >= 1 && num_logical <= kMaxPhysical, "num_logical",
                 "{} is not between 1 and {}", num_logical, kMaxPhysical);
  check_argument(num_threads >= 1, "num_threads", "{} is not >= 1", num_threads);
  const auto columns = static_cast<std::size_t>(num_logical);
  check_argument(load.size() == static_cast<std::size_t>(num_layers) * columns, "load",
                 "has {} entries, expected num_layers * num_logical ({} * {})", load.size(),
                 num_layers, num_logical);
  for (std::size_t i = 0; i < load.size(); ++i) {
    check_argument(std::isfinite(load[i]) && load[i] >= 0, "load",
                   "layer {}, expert {} has load {}, expected a finite number >= 0", i / columns,
                   i % columns, load[i]);
  }
}

}  // namespace lplb
