// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "lplb/mapping.h"
#include "lplb/types.h"

namespace lplb::testing {

/// A batch of a group: any placement, any counts, and any quotas that sum to them, whether a solver
/// would choose them or not.
struct MapInstance {
  Placement placement;
  std::vector<Load> counts;         ///< [num_ranks, num_logical]
  std::vector<Load> physical_load;  ///< [num_physical]
};

struct MapLimits {
  Index max_nodes = 3;
  Index max_ranks_per_node = 4;
  Index max_slots = 3;  ///< slots of a rank
  int max_tokens = 12;  ///< tokens of one expert on one rank
};

inline MapInstance random_map_instance(std::mt19937& random, const MapLimits& limits = {}) {
  const auto below = [&](Index n) { return static_cast<Index>(random() % n); };
  const Index num_nodes = 1 + below(limits.max_nodes);
  const Index num_ranks = num_nodes * (1 + below(limits.max_ranks_per_node));
  const Index slots = 1 + below(limits.max_slots);
  const Index num_physical = num_ranks * slots;

  PlacementOptions options;
  options.num_nodes = num_nodes;
  options.rank_alive.assign(num_ranks, 1);
  Index live_slots = num_physical;
  for (Index g = 0; g < num_ranks; ++g) {
    if (below(5) == 0 && live_slots > slots) {
      options.rank_alive[g] = 0;
      live_slots -= slots;
    }
  }
  const Index num_logical = 1 + below(std::min<Index>(live_slots, 6));
  std::vector<Index> map(num_physical);
  Index placed = 0;
  for (Index p = 0; p < num_physical; ++p) {
    const bool must = options.rank_alive[p / slots] != 0 && placed < num_logical;
    map[p] = must ? placed++ : below(num_logical);
  }

  MapInstance instance;
  instance.placement = make_placement(num_ranks, num_logical, map, options);
  std::vector<Load> sums(num_logical, 0);
  for (Index g = 0; g < num_ranks; ++g) {
    for (Index e = 0; e < num_logical; ++e) {
      const Load tokens = below(3) == 0 ? 0 : below(limits.max_tokens + 1);
      instance.counts.push_back(tokens);
      sums[e] += tokens;
    }
  }
  // Each token goes to one of a few random replicas, so that some replicas get nothing and some
  // nearly everything.
  instance.physical_load.assign(num_physical, 0);
  for (Index e = 0; e < num_logical; ++e) {
    std::vector<Index> live;
    for (const Index p : instance.placement.replicas(e)) {
      if (instance.placement.alive(instance.placement.rank_of(p))) live.push_back(p);
    }
    const Index few = 1 + below(static_cast<Index>(live.size()));
    for (Load i = 0; i < sums[e]; ++i) ++instance.physical_load[live[below(few)]];
  }
  return instance;
}

/// A `topk_idx` with the counts of `rank`, in random order, with -1 and bad ids among them.
template <class Id>
std::vector<Id> random_topk(const MapInstance& instance, Index rank, std::mt19937& random) {
  const Index num_logical = instance.placement.num_logical_experts;
  std::vector<Id> topk = {-1, static_cast<Id>(num_logical), -7};
  for (Index e = 0; e < num_logical; ++e) {
    topk.insert(topk.end(), static_cast<std::size_t>(instance.counts[rank * num_logical + e]),
                static_cast<Id>(e));
  }
  std::shuffle(topk.begin(), topk.end(), random);
  return topk;
}

}  // namespace lplb::testing
