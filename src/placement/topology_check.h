// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include "lplb/topology.h"

namespace lplb {

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

}  // namespace lplb
