// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "lplb/cost.h"
#include "lplb/solver.h"
#include "support/instances.h"

namespace lplb::testing {

/// A time as the H200 has it: steps of 128 and 256 tokens. If it is kDear times as long, what the
/// workloads' batches cost in all does not fit in 31 bits, and 2^31 tokens on 128 ranks fit in 62.
inline constexpr double kDear = 400;
inline CostModel staircase_model(double factor = 1) {
  CostTable table{32.1, {128, 256, 384, 512}, {31, 42.1, 65.3, 76.4}, 256, 34.3};
  table.rank *= factor;
  for (double& cost : table.cost) cost *= factor;
  table.then_cost *= factor;
  return CostModel("us", table);
}

/// Any table that a CostModel takes: few or many steps, of equal or any length; concave, convex or
/// neither.
inline CostTable random_table(SplitMix64& random, Load max_tokens) {
  CostTable table;
  table.rank = random.below(2) == 0 ? 0 : random.unit() * 20;
  const Index steps = 1 + random.below(6);
  const Load length = 1 + random.between(0, max_tokens / 2);
  double cost = 0;
  for (Index i = 0; i < steps; ++i) {
    const Load before = table.tokens.empty() ? 0 : table.tokens.back();
    table.tokens.push_back(before +
                           (random.below(2) == 0 ? length : 1 + random.between(0, length)));
    cost += random.below(4) == 0 && cost > 0 ? 0 : 0.001 + random.unit() * 10;
    table.cost.push_back(cost);
  }
  table.then_every = 1 + random.between(0, length);
  table.then_cost = random.below(4) == 0 ? 0 : random.unit() * 10;
  return table;
}

/// A model for any of the placements of random_instance(): one table, or one for each rank.
inline CostModel random_model(std::uint64_t seed, Index num_ranks, Load max_tokens) {
  SplitMix64 random(seed * 977 + 5);
  const Index kind = random.below(8);
  if (kind == 0) return weights_only_model();
  if (kind == 1) return staircase_model();
  if (kind > 2) return CostModel("us", random_table(random, max_tokens));
  std::vector<CostTable> tables;
  tables.reserve(static_cast<std::size_t>(num_ranks));
  for (Index g = 0; g < num_ranks; ++g) tables.push_back(random_table(random, max_tokens));
  return CostModel("us", std::move(tables));
}

/// The largest cost of a rank, from what each slot takes.
inline Cost largest_cost(const Placement& placement, const std::vector<Load>& physical_load,
                         const CostModel& model) {
  std::map<std::pair<Index, Index>, Load> tokens;
  for (Index slot = 0; slot < placement.num_physical(); ++slot) {
    if (physical_load[slot] == 0) continue;
    tokens[{placement.rank_of(slot), placement.physical_to_logical[slot]}] += physical_load[slot];
  }
  std::vector<Cost> cost(static_cast<std::size_t>(placement.num_ranks), 0);
  for (const auto& [place, count] : tokens) {
    const Index g = place.first;
    if (cost[g] == 0) cost[g] = model.rank_cost(g, placement.speed(g));
    cost[g] += model.expert_cost(g, count, placement.speed(g));
  }
  return *std::max_element(cost.begin(), cost.end());
}

}  // namespace lplb::testing
