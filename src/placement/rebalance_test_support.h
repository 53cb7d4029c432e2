// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "lplb/placement.h"

// What tests of rebalance_experts() and its kin share.
namespace lplb::testing {

struct RebalanceCase {
  Index layers, logical, replicas, groups, nodes, ranks;
};

inline ExpertMaps rebalance(const std::vector<double>& load, const RebalanceCase& c,
                            const RebalanceOptions& options = {}) {
  return rebalance_experts(load, c.layers, c.logical, c.replicas, c.groups, c.nodes, c.ranks,
                           options);
}

/// `n` loads, whole numbers below `distinct`.
inline std::vector<double> random_load(std::size_t n, std::uint32_t seed, std::uint32_t distinct) {
  std::mt19937 random(seed);
  std::vector<double> load(n);
  for (double& x : load) x = static_cast<double>(random() % distinct);
  return load;
}
inline std::vector<double> random_load(const RebalanceCase& c, std::uint32_t seed,
                                       std::uint32_t distinct) {
  return random_load(std::size_t{1} * c.layers * c.logical, seed, distinct);
}

}  // namespace lplb::testing
