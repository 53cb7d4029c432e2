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

/// Checks the arguments that all placement policies have in common. Throws ArgumentError.
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

/// An entry of a topology's r2o that cannot be, and what is wrong with it.
struct TopologyMisfit {
  Index rank;
  Index column;
  std::string problem;
};

/// The first entry because of which a column is not a permutation without fixed points. The sizes
/// must have been checked: r2o has group_size * num_columns entries.
std::optional<TopologyMisfit> find_misfit(const Topology& topology);

/// Throws ArgumentError if a size is out of range or a column is not such a permutation.
void check_topology(const Topology& topology);

}  // namespace lplb::placement
