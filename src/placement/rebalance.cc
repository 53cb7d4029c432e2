// SPDX-License-Identifier: MIT
#include "core/check.h"
#include "lplb/placement.h"
#include "placement/checks.h"
#include "placement/eplb_layer.h"
#include "placement/live_ranks.h"
#include "placement/maps.h"

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

void check_groups(Index num_logical, Index num_groups, Index num_nodes, Index num_ranks) {
  check_argument(num_groups >= 1, "num_groups", "{} is not >= 1", num_groups);
  check_argument(num_nodes >= 1, "num_nodes", "{} is not >= 1", num_nodes);
  if (num_groups % num_nodes != 0) return;
  check_argument(num_logical % num_groups == 0, "num_groups",
                 "{} does not divide the number of logical experts ({})", num_groups, num_logical);
  check_argument(num_ranks % num_nodes == 0, "num_nodes", "{} does not divide num_ranks ({})",
                 num_nodes, num_ranks);
}

/// The shape to compute with: that of the live ranks. It is hierarchical if the numbers of groups
/// and nodes say so and as many live ranks are on every node that has any; otherwise it is global.
placement::Shape make_shape(const placement::LiveRanks& live, Index num_logical, Index slots,
                            Index num_groups, Index num_nodes, bool spread) {
  const auto num_ranks = static_cast<Index>(live.ranks.size());
  placement::check_live_slots(live, slots * num_ranks, num_logical);
  placement::Shape shape{.num_logical = num_logical,
                         .num_physical = slots * num_ranks,
                         .num_groups = 1,
                         .num_nodes = 1,
                         .num_ranks = num_ranks,
                         .spread = spread,
                         .speed = live.speed};
  if (num_groups % num_nodes == 0 && live.num_nodes > 0 && num_groups % live.num_nodes == 0) {
    shape.num_groups = num_groups;
    shape.num_nodes = live.num_nodes;
  }
  const Index choice = num_logical / shape.num_nodes;
  check_argument(!spread || slots <= choice, "spread",
                 "a rank has {} slots for {} experts, so some must be on it twice", slots, choice);
  return shape;
}

}  // namespace

ExpertMaps rebalance_experts(std::span<const double> load, Index num_layers, Index num_logical,
                             Index num_replicas, Index num_groups, Index num_nodes, Index num_ranks,
                             const RebalanceOptions& options) {
  placement::check_load(load, num_layers, num_logical, options.num_threads);
  check_slots(num_logical, num_replicas, num_ranks);
  check_groups(num_logical, num_groups, num_nodes, num_ranks);
  const auto live = placement::live_ranks_of(options, num_ranks, num_nodes);
  const auto shape = make_shape(live, num_logical, num_replicas / num_ranks, num_groups, num_nodes,
                                options.spread);

  const ExpertMaps maps =
      placement::place_layers(load, num_layers, num_logical, shape.num_physical,
                              placement::LayerBalancer(shape), options.num_threads);
  return shape.num_ranks == num_ranks ? maps : placement::with_dead_ranks(maps, live, num_ranks);
}

}  // namespace lplb
