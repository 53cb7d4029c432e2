// SPDX-License-Identifier: MIT
#include "lplb/types.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "core/check_ranks.h"
#include "core/imbalance.h"
#include "core/made.h"

namespace lplb {
namespace {

void check_shape(Index num_ranks, Index num_logical_experts, std::size_t num_physical,
                 const PlacementOptions& options) {
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(num_physical >= 1 && num_physical <= std::size_t{kMaxPhysical},
                 "physical_to_logical", "has {} entries, expected 1 to {}", num_physical,
                 kMaxPhysical);
  check_argument(num_physical % static_cast<std::size_t>(num_ranks) == 0, "physical_to_logical",
                 "has {} entries, expected a multiple of num_ranks ({})", num_physical, num_ranks);
  check_argument(num_logical_experts >= 1, "num_logical_experts", "{} is not >= 1",
                 num_logical_experts);
  check_argument(static_cast<std::size_t>(num_logical_experts) <= num_physical,
                 "num_logical_experts", "{} experts do not fit into {} slots", num_logical_experts,
                 num_physical);
  check_argument(options.num_nodes >= 1 && num_ranks % options.num_nodes == 0, "num_nodes",
                 "{} does not divide num_ranks ({})", options.num_nodes, num_ranks);
  check_ranks(options.rank_speed, options.rank_alive, num_ranks);
}

}  // namespace

void check_ranks(std::span<const double> rank_speed, std::span<const char> rank_alive,
                 Index num_ranks) {
  const auto size = static_cast<std::size_t>(num_ranks);
  check_argument(rank_speed.empty() || rank_speed.size() == size, "rank_speed",
                 "has {} entries, expected num_ranks ({})", rank_speed.size(), num_ranks);
  check_argument(rank_alive.empty() || rank_alive.size() == size, "rank_alive",
                 "has {} entries, expected num_ranks ({})", rank_alive.size(), num_ranks);
  for (std::size_t g = 0; g < rank_speed.size(); ++g) {
    check_argument(std::isnormal(rank_speed[g]) && rank_speed[g] > 0, "rank_speed",
                   "rank {} has speed {}, expected a finite number > 0 (2.3e-308 or more)", g,
                   rank_speed[g]);
  }
}

Placement make_placement(Index num_ranks, Index num_logical_experts,
                         std::span<const Index> physical_to_logical,
                         const PlacementOptions& options) {
  check_shape(num_ranks, num_logical_experts, physical_to_logical.size(), options);

  Placement p;
  p.num_ranks = num_ranks;
  p.num_nodes = options.num_nodes;
  p.num_logical_experts = num_logical_experts;
  p.physical_to_logical.assign(physical_to_logical.begin(), physical_to_logical.end());
  p.rank_speed = options.rank_speed;
  p.rank_alive = options.rank_alive;

  const auto num_logical = static_cast<std::size_t>(num_logical_experts);
  std::vector<char> has_live_replica(num_logical, 0);
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    const Index e = p.physical_to_logical[slot];
    check_argument(e >= 0 && e < num_logical_experts, "physical_to_logical",
                   "slot {} holds expert {}, expected 0 to {}", slot, e, num_logical_experts - 1);
    if (p.alive(p.rank_of(slot))) has_live_replica[e] = 1;
  }
  index_replicas(p);
  for (Index e = 0; e < num_logical_experts; ++e) {
    check_argument(p.replica_count[e] > 0, "physical_to_logical", "expert {} is in no slot", e);
    check_argument(has_live_replica[e] != 0, "rank_alive",
                   "expert {} has no replica on a live rank", e);
  }
  return p;
}

void index_replicas(Placement& p) {
  const auto num_logical = static_cast<std::size_t>(p.num_logical_experts);
  p.replica_count.assign(num_logical, 0);
  for (const Index e : p.physical_to_logical) ++p.replica_count[e];
  p.max_replicas = *std::max_element(p.replica_count.begin(), p.replica_count.end());
  p.logical_to_physical.assign(num_logical * p.max_replicas, -1);
  // The counts are made again, as the number of replicas so far.
  std::fill(p.replica_count.begin(), p.replica_count.end(), 0);
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    const Index e = p.physical_to_logical[slot];
    p.logical_to_physical[std::size_t{1} * e * p.max_replicas + p.replica_count[e]++] = slot;
  }
}

double imbalance(const Placement& placement, std::span<const Load> rank_load) {
  check_argument(rank_load.size() == static_cast<std::size_t>(placement.num_ranks), "rank_load",
                 "has {} entries, expected num_ranks ({})", rank_load.size(), placement.num_ranks);
  return relative_loads(placement, rank_load, {});
}

double imbalance(std::span<const Load> rank_load) {
  const double total = std::accumulate(rank_load.begin(), rank_load.end(), 0.0);
  if (total <= 0) return 1.0;
  const auto max = static_cast<double>(*std::max_element(rank_load.begin(), rank_load.end()));
  return max * static_cast<double>(rank_load.size()) / total;
}

}  // namespace lplb
