// SPDX-License-Identifier: MIT

#include "solve/verify.h"

#include <algorithm>

#include "core/cost.h"
#include "core/format.h"
#include "core/wide.h"
#include "lplb/solver.h"

namespace lplb {
namespace {

/// Checks that live slots take all tokens of every expert, and that the rank loads follow from
/// them.
std::string check_flow(const Placement& p, std::span<const Load> load, const Split& split) {
  std::vector<Int128> taken(load.size(), 0);
  std::vector<Int128> carried(static_cast<std::size_t>(p.num_ranks), 0);
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    const Load tokens = split.physical_load[slot];
    if (tokens < 0) return formatted("slot {} takes {} tokens", slot, tokens);
    if (tokens > 0 && !p.alive(p.rank_of(slot))) {
      return formatted("slot {} on dead rank {} takes {} tokens", slot, p.rank_of(slot), tokens);
    }
    taken[p.physical_to_logical[slot]] += tokens;
    carried[p.rank_of(slot)] += tokens;
  }
  for (std::size_t e = 0; e < load.size(); ++e) {
    if (taken[e] != load[e]) {
      return formatted("expert {} has load {}, its replicas take {}", e, load[e],
                       static_cast<Load>(taken[e]));
    }
  }
  for (Index g = 0; g < p.num_ranks; ++g) {
    if (carried[g] != split.rank_load[g]) {
      return formatted("rank {} carries {}, rank_load says {}", g, static_cast<Load>(carried[g]),
                       split.rank_load[g]);
    }
  }
  return "";
}

/// Checks that the set S proves the bound: below it, S cannot take what must go there.
std::string check_proof(const Placement& p, std::span<const Load> load, const Split& split,
                        const RankCost& cost) {
  std::vector<char> in_set(static_cast<std::size_t>(p.num_ranks), 0);
  Int128 room = 0;
  for (const Index g : split.bottleneck_ranks) {
    if (g < 0 || g >= p.num_ranks || in_set[g] != 0 || !p.alive(g)) {
      return formatted("bottleneck_ranks: {} is no live rank or stands twice", g);
    }
    in_set[g] = 1;
    room += cost.below(g, split.bound_level, std::numeric_limits<Load>::max());
  }
  Int128 confined = 0;
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    const std::span<const Index> replicas = p.replicas(e);
    const bool inside = std::all_of(replicas.begin(), replicas.end(), [&](Index slot) {
      return !p.alive(p.rank_of(slot)) || in_set[p.rank_of(slot)] != 0;
    });
    if (inside) confined += load[e];
  }
  if (room >= confined) {
    return formatted("bottleneck_ranks can take {} tokens below the bound, {} must go there",
                     static_cast<Load>(room), static_cast<Load>(confined));
  }
  return "";
}

}  // namespace

std::string verify_split(const Placement& placement, std::span<const Load> load, const Split& split,
                         const CostModel* model) {
  if (load.size() != static_cast<std::size_t>(placement.num_logical_experts) ||
      split.physical_load.size() != placement.physical_to_logical.size() ||
      split.rank_load.size() != static_cast<std::size_t>(placement.num_ranks)) {
    return "load and split are not of the placement's size";
  }
  RankCost cost;
  cost.assign(placement.num_ranks, placement.rank_speed);
  for (const Level level : {split.max_level, split.bound_level}) {
    if (level.tokens < 0 || level.rank < 0 || level.rank >= placement.num_ranks) {
      return formatted("level of {} tokens on rank {}", level.tokens, level.rank);
    }
  }
  std::string problem = check_flow(placement, load, split);
  if (problem.empty()) problem = check_proof(placement, load, split, cost);
  if (!problem.empty()) return problem;

  bool met = false;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    const int order = cost.compare({split.rank_load[g], g}, split.max_level);
    if (order > 0) return formatted("rank {} costs more than max_load", g);
    met = met || order == 0;
  }
  if (!met) return "no rank costs max_load";
  if (split.max_load != cost.price(split.max_level))
    return "max_load is not the price of its level";
  const int order = cost.compare(split.bound_level, split.max_level);
  if (order > 0) return "lower_bound is above max_load";
  if (split.status == SolveStatus::kOptimal && model == nullptr && order != 0) {
    return "said to be optimal, but lower_bound is below max_load";
  }
  // Equal levels of ranks with different speeds may round to different prices.
  if (split.lower_bound != (order == 0 ? split.max_load : cost.price(split.bound_level))) {
    return "lower_bound is not the price of its level";
  }
  return model == nullptr ? "" : solvers::verify_cost(placement, load, split, *model);
}

}  // namespace lplb
