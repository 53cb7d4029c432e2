// SPDX-License-Identifier: MIT
#include "placement/live_ranks.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "core/check.h"
#include "core/check_ranks.h"

namespace lplb::placement {
namespace {

/// The number of nodes with live ranks, or 0 if these have different numbers of live ranks.
Index equal_nodes(const std::vector<Index>& ranks, Index num_ranks, Index num_nodes) {
  if (num_nodes < 1 || num_ranks % num_nodes != 0) return 0;
  std::vector<Index> live(static_cast<std::size_t>(num_nodes), 0);
  for (const Index g : ranks) ++live[g / (num_ranks / num_nodes)];
  live.erase(std::remove(live.begin(), live.end(), 0), live.end());
  const auto other = std::adjacent_find(live.begin(), live.end(), std::not_equal_to<>());
  return other == live.end() ? static_cast<Index>(live.size()) : 0;
}

}  // namespace

LiveRanks live_ranks_of(const RebalanceOptions& options, Index num_ranks, Index num_nodes) {
  check_ranks(options.rank_speed, options.rank_alive, num_ranks);
  LiveRanks live;
  for (Index g = 0; g < num_ranks; ++g) {
    if (!options.rank_alive.empty() && options.rank_alive[g] == 0) continue;
    live.ranks.push_back(g);
    if (!options.rank_speed.empty()) live.speed.push_back(options.rank_speed[g]);
  }
  check_argument(!live.ranks.empty(), "rank_alive", "has no live rank, expected at least one");
  // Only the ratios of speeds matter. They are divided by the largest, so that sums stay finite.
  const double fastest =
      live.speed.empty() ? 1 : *std::max_element(live.speed.begin(), live.speed.end());
  for (double& speed : live.speed) {
    speed = std::max(speed / fastest, std::numeric_limits<double>::min());
  }
  if (std::all_of(live.speed.begin(), live.speed.end(), [](double s) { return s == 1; })) {
    live.speed.clear();
  }
  live.num_nodes = equal_nodes(live.ranks, num_ranks, num_nodes);
  return live;
}

void check_live_slots(const LiveRanks& live, Index num_slots, Index num_logical) {
  check_argument(num_slots >= num_logical, "rank_alive",
                 "the {} live ranks have {} slots, expected at least {}: one for each expert",
                 live.ranks.size(), num_slots, num_logical);
}

ExpertMaps with_dead_ranks(const ExpertMaps& maps, const LiveRanks& live, Index num_ranks) {
  const Index slots = maps.num_physical / static_cast<Index>(live.ranks.size());
  const auto num_live = live.ranks.size();
  ExpertMaps all{.num_layers = maps.num_layers,
                 .num_physical = slots * num_ranks,
                 .num_logical = maps.num_logical,
                 .max_replicas = 0,
                 .physical_to_logical = {},
                 .logical_to_physical = {},
                 .replica_count = maps.replica_count};
  all.physical_to_logical.resize(std::size_t{1} * all.num_layers * all.num_physical);
  std::vector<char> is_live(static_cast<std::size_t>(num_ranks), 0);
  for (const Index g : live.ranks) is_live[g] = 1;
  for (Index layer = 0; layer < maps.num_layers; ++layer) {
    const auto from = maps.layer(layer);
    Index* const to = &all.physical_to_logical[std::size_t{1} * layer * all.num_physical];
    for (std::size_t i = 0; i < num_live; ++i) {
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(i) * slots, slots,
                  to + live.ranks[i] * slots);
    }
    for (Index p = 0; p < all.num_physical; ++p) {
      if (is_live[p / slots] != 0) continue;
      to[p] = p % maps.num_logical;
      ++all.replica_count[std::size_t{1} * layer * maps.num_logical + to[p]];
    }
  }

  all.max_replicas = *std::max_element(all.replica_count.begin(), all.replica_count.end());
  all.logical_to_physical.assign(all.replica_count.size() * all.max_replicas, -1);
  for (std::size_t row = 0; row < all.replica_count.size(); ++row) {
    // The live replicas keep their order.
    const Index* const from = &maps.logical_to_physical[row * maps.max_replicas];
    Index* to = &all.logical_to_physical[row * all.max_replicas];
    for (Index i = 0; i < maps.replica_count[row]; ++i) {
      *to++ = live.ranks[from[i] / slots] * slots + from[i] % slots;
    }
    const auto expert = static_cast<Index>(row % maps.num_logical);
    for (Index p = expert; p < all.num_physical; p += maps.num_logical) {
      if (is_live[p / slots] == 0) *to++ = p;
    }
  }
  return all;
}

}  // namespace lplb::placement
