// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <optional>
#include <span>
#include <string>

#include "core/check.h"
#include "lplb/topology.h"
#include "lplb/types.h"

namespace lplb::placement {

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

/// What is wrong with one entry of a topology's r2o.
struct TopologyMisfit {
  Index rank;
  Index column;
  std::string problem;
};

/// The first entry that keeps a column from being a permutation without fixed points. The sizes
/// must be checked: r2o has group_size * num_columns entries.
std::optional<TopologyMisfit> find_misfit(const Topology& topology);

/// Throws ArgumentError unless the sizes are in range and every column is such a permutation.
void check_topology(const Topology& topology);

}  // namespace lplb::placement
