// SPDX-License-Identifier: MIT
#include "replicate/between.h"

#include <algorithm>

#include "core/raise_to_fit.h"

namespace lplb::replicas {

PlacementOptions domains_as_ranks(const Placement& placement, Index num_domains) {
  const Index ranks = placement.num_ranks / num_domains;
  PlacementOptions options;
  options.rank_alive.assign(static_cast<std::size_t>(num_domains), 0);
  options.rank_speed.assign(static_cast<std::size_t>(num_domains), 0.0);
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    options.rank_alive[g / ranks] = 1;
    options.rank_speed[g / ranks] += placement.speed(g);
  }
  for (Index d = 0; d < num_domains; ++d) {
    if (options.rank_alive[d] == 0) options.rank_speed[d] = 1;
  }
  return options;
}

namespace {

/// The placement in which each domain is one rank. What a dead rank holds is replaced by what the
/// domain's first live rank holds, so that it leads nowhere.
Placement merge_domains(const Placement& placement, Index num_domains) {
  const Index ranks = placement.num_ranks / num_domains;
  std::vector<Index> map = placement.physical_to_logical;
  const PlacementOptions options = domains_as_ranks(placement, num_domains);
  for (Index d = 0; d < num_domains; ++d) {
    if (options.rank_alive[d] == 0) continue;
    Index live = d * ranks;
    while (!placement.alive(live)) ++live;
    const Index slots = placement.slots_per_rank();
    for (Index slot = d * ranks * slots; slot < (d + 1) * ranks * slots; ++slot) {
      if (!placement.alive(placement.rank_of(slot))) {
        map[slot] = placement.physical_to_logical[live * slots];
      }
    }
  }
  // An expert of a domain without live ranks has a live replica in another one.
  return make_placement(num_domains, placement.num_logical_experts, map, options);
}

}  // namespace

BetweenDomains::BetweenDomains(const Placement& placement, Index num_domains, const RankCost& cost)
    : placement_(placement),
      merged_(merge_domains(placement, num_domains)),
      cost_(cost),
      domain_ranks_(placement.num_ranks / num_domains),
      whole_problem_(placement_),
      merged_problem_(merged_) {}

void BetweenDomains::split(std::span<const Load> load) {
  solve(whole_problem_, load, whole_split_, workspace_, kExactly);
  solve(merged_problem_, load, merged_split_, workspace_, kExactly);
}

void BetweenDomains::part(Index domain, std::vector<Load>& load) const {
  load.assign(static_cast<std::size_t>(merged_.num_logical_experts), 0);
  const Index slots = merged_.slots_per_rank();
  for (Index slot = domain * slots; slot < (domain + 1) * slots; ++slot) {
    load[merged_.physical_to_logical[slot]] += merged_split_.physical_load[slot];
  }
}

void BetweenDomains::bound(std::span<const Load> load, Bound& bound) {
  const std::vector<Index>& domains = merged_split_.bottleneck_ranks;
  const auto inside = [&](Index rank) {
    return std::binary_search(domains.begin(), domains.end(), rank / domain_ranks_);
  };
  bound.ranks.clear();
  for (Index g = 0; g < placement_.num_ranks; ++g) {
    if (placement_.alive(g) && inside(g)) bound.ranks.push_back(g);
  }
  Load confined = 0;
  for (Index e = 0; e < placement_.num_logical_experts; ++e) {
    const std::span<const Index> slots = placement_.replicas(e);
    const bool only_here = std::all_of(slots.begin(), slots.end(), [&](Index slot) {
      const Index rank = placement_.rank_of(slot);
      return !placement_.alive(rank) || inside(rank);
    });
    if (only_here) confined += load[e];
  }
  bound.level = raise_to_fit(cost_, bound.ranks, confined, heap_);
}

}  // namespace lplb::replicas
