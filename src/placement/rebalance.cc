// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/parallel.h"
#include "lplb/placement.h"
#include "placement/checks.h"
#include "placement/eplb_layer.h"

namespace lplb {
namespace {

void check_slots(Index num_logical, Index num_replicas, Index num_ranks) {
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(num_replicas >= num_logical, "num_replicas",
                 "{} slots do not hold {} logical experts", num_replicas, num_logical);
  check_argument(num_replicas <= kMaxPhysical, "num_replicas", "{} is above the limit of {}",
                 num_replicas, kMaxPhysical);
  check_argument(num_replicas % num_ranks == 0, "num_replicas",
                 "{} is not a multiple of num_ranks ({})", num_replicas, num_ranks);
}

/// The shape to compute with: as given if num_nodes divides num_groups, otherwise global.
placement::Shape make_shape(Index num_logical, Index num_replicas, Index num_groups,
                            Index num_nodes, Index num_ranks) {
  check_argument(num_groups >= 1, "num_groups", "{} is not >= 1", num_groups);
  check_argument(num_nodes >= 1, "num_nodes", "{} is not >= 1", num_nodes);
  placement::Shape shape{.num_logical = num_logical,
                         .num_physical = num_replicas,
                         .num_groups = 1,
                         .num_nodes = 1,
                         .num_ranks = num_ranks};
  if (num_groups % num_nodes != 0) return shape;
  check_argument(num_logical % num_groups == 0, "num_groups",
                 "{} does not divide the number of logical experts ({})", num_groups, num_logical);
  check_argument(num_ranks % num_nodes == 0, "num_nodes", "{} does not divide num_ranks ({})",
                 num_nodes, num_ranks);
  shape.num_groups = num_groups;
  shape.num_nodes = num_nodes;
  return shape;
}

/// Computes logical_to_physical from physical_to_logical and `ordinal` [num_layers, num_physical].
void invert(const std::vector<Index>& ordinal, ExpertMaps& maps) {
  maps.max_replicas = *std::max_element(maps.replica_count.begin(), maps.replica_count.end());
  const auto max_replicas = static_cast<std::size_t>(maps.max_replicas);
  const auto num_physical = static_cast<std::size_t>(maps.num_physical);
  maps.logical_to_physical.assign(maps.replica_count.size() * max_replicas, -1);
  Index* row = maps.logical_to_physical.data();
  for (std::size_t first = 0; first < ordinal.size(); first += num_physical) {
    for (std::size_t p = 0; p < num_physical; ++p) {
      const auto e = static_cast<std::size_t>(maps.physical_to_logical[first + p]);
      row[e * max_replicas + ordinal[first + p]] = static_cast<Index>(p);
    }
    row += maps.num_logical * max_replicas;
  }
}

}  // namespace

ExpertMaps rebalance_experts(std::span<const double> load, Index num_layers, Index num_logical,
                             Index num_replicas, Index num_groups, Index num_nodes, Index num_ranks,
                             int num_threads) {
  placement::check_load(load, num_layers, num_logical, num_threads);
  check_slots(num_logical, num_replicas, num_ranks);
  const auto shape = make_shape(num_logical, num_replicas, num_groups, num_nodes, num_ranks);

  ExpertMaps maps{.num_layers = num_layers,
                  .num_physical = num_replicas,
                  .num_logical = num_logical,
                  .max_replicas = 0,
                  .physical_to_logical = {},
                  .logical_to_physical = {},
                  .replica_count = {}};
  const auto logical = static_cast<std::size_t>(num_logical);
  const auto physical = static_cast<std::size_t>(num_replicas);
  maps.physical_to_logical.resize(num_layers * physical);
  maps.replica_count.resize(num_layers * logical);
  std::vector<Index> ordinal(num_layers * physical);

  std::vector<placement::LayerBalancer> balancers(std::min<std::size_t>(num_threads, num_layers),
                                                  placement::LayerBalancer(shape));
  parallel_chunks(num_layers, 1, static_cast<int>(balancers.size()),
                  [&](std::int64_t begin, std::int64_t end, int thread) {
                    for (auto layer = static_cast<std::size_t>(begin);
                         layer < static_cast<std::size_t>(end); ++layer) {
                      balancers[thread].run(
                          load.subspan(layer * logical, logical),
                          std::span(maps.physical_to_logical).subspan(layer * physical, physical),
                          std::span(ordinal).subspan(layer * physical, physical),
                          std::span(maps.replica_count).subspan(layer * logical, logical));
                    }
                  });
  invert(ordinal, maps);
  return maps;
}

}  // namespace lplb
