// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "lplb/placement.h"
#include "placement/checks.h"
#include "placement/live_topology.h"
#include "placement/maps.h"

namespace lplb {
namespace {

void check_fit(Index num_logical, const Topology& topology, Index redundants, Index num_ranks,
               Index num_nodes) {
  placement::check_topology(topology);
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(num_ranks % topology.group_size == 0, "num_ranks",
                 "{} is not a multiple of the {} ranks of topology {}", num_ranks,
                 topology.group_size, topology.name);
  check_argument(num_nodes >= 1 && num_ranks % num_nodes == 0, "num_nodes",
                 "{} does not divide num_ranks ({})", num_nodes, num_ranks);
  check_argument(num_logical % num_ranks == 0, "num_logical",
                 "{} is not a multiple of num_ranks ({})", num_logical, num_ranks);
  const Index own = num_logical / num_ranks;
  check_argument(redundants >= 0 && redundants <= own, "redundants",
                 "{} is not between 0 and the {} experts of a rank", redundants, own);
  check_argument(redundants <= kMaxPhysical / num_ranks - own, "redundants",
                 "{} on each of {} ranks make more than {} physical experts", redundants, num_ranks,
                 kMaxPhysical);
}

ExpertMaps place_on_live_ranks(std::span<const double> load, Index num_layers, Index num_logical,
                               const Topology& topology, Index redundants, Index num_ranks,
                               const placement::LiveRanks& live, int num_threads) {
  const Index slots = num_logical / num_ranks + redundants;
  const Index num_physical = slots * static_cast<Index>(live.ranks.size());
  placement::check_live_slots(live, num_physical, num_logical);
  const placement::LiveTopologyLayer layer(live, topology, num_logical, slots, num_ranks);
  const ExpertMaps maps =
      placement::place_layers(load, num_layers, num_logical, num_physical, layer, num_threads);
  return placement::with_dead_ranks(maps, live, num_ranks);
}

}  // namespace

ExpertMaps place_on_topology(std::span<const double> load, Index num_layers, Index num_logical,
                             const Topology& topology, Index redundants, Index num_ranks,
                             Index num_nodes, const RebalanceOptions& options) {
  placement::check_load(load, num_layers, num_logical, options.num_threads);
  check_fit(num_logical, topology, redundants, num_ranks, num_nodes);
  const auto live = placement::live_ranks_of(options, num_ranks, num_nodes);
  if (static_cast<Index>(live.ranks.size()) < num_ranks || !live.speed.empty()) {
    return place_on_live_ranks(load, num_layers, num_logical, topology, redundants, num_ranks, live,
                               options.num_threads);
  }

  // With several nodes, every expert is a group of its own, so that the nodes are levelled first.
  const Index num_groups = num_nodes == 1 ? 1 : num_logical;
  const ExpertMaps order =
      rebalance_experts(load, num_layers, num_logical, num_logical, num_groups, num_nodes,
                        num_ranks, {.num_threads = options.num_threads});
  const Index own = num_logical / num_ranks;
  const Index slots = own + redundants;
  ExpertMaps maps{.num_layers = num_layers,
                  .num_physical = slots * num_ranks,
                  .num_logical = num_logical,
                  .max_replicas = redundants > 0 ? 2 : 1,
                  .physical_to_logical = {},
                  .logical_to_physical = {},
                  .replica_count = {}};
  maps.physical_to_logical.resize(std::size_t{1} * num_layers * maps.num_physical);
  maps.logical_to_physical.assign(load.size() * maps.max_replicas, -1);
  maps.replica_count.assign(load.size(), 0);

  for (Index layer = 0; layer < num_layers; ++layer) {
    const std::size_t first_expert = std::size_t{1} * layer * num_logical;
    const auto experts = order.layer(layer);
    Index* const slot = &maps.physical_to_logical[std::size_t{1} * layer * maps.num_physical];
    const auto put = [&](Index physical, Index expert) {
      slot[physical] = expert;
      Index& count = maps.replica_count[first_expert + expert];
      maps.logical_to_physical[(first_expert + expert) * maps.max_replicas + count++] = physical;
    };

    std::vector<Index> sorted(own);
    for (Index rank = 0; rank < num_ranks; ++rank) {
      std::copy_n(experts.begin() + rank * own, own, sorted.begin());
      std::stable_sort(sorted.begin(), sorted.end(), [&](Index a, Index b) {
        return load[first_expert + a] > load[first_expert + b];
      });
      for (Index i = 0; i < own; ++i) put(rank * slots + i, sorted[i]);
    }
    for (Index rank = 0; rank < num_ranks; ++rank) {
      const Index in_group = rank % topology.group_size;
      for (Index d = 0; d < redundants; ++d) {
        const Index original =
            rank - in_group + topology.original(in_group, d % topology.num_columns);
        put(rank * slots + own + d, slot[original * slots + d]);
      }
    }
  }
  return maps;
}

}  // namespace lplb
