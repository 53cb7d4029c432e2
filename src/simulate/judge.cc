// SPDX-License-Identifier: MIT
#include "simulate/judge.h"

#include <algorithm>
#include <numeric>

#include "core/imbalance.h"
#include "core/wide.h"
#include "lplb/mapping.h"

namespace lplb::replay {

PolicyOutcome judge(const Placement& placement, std::span<const Load> physical_load, double bound,
                    std::span<const Load> source_load, std::vector<Load>& rank_load,
                    std::span<double> heat) {
  rank_load.resize(heat.size());
  auto slot = physical_load.begin();
  double slowest = 0;  // the largest load / speed
  for (Index g = 0; g < placement.num_ranks; ++g) {
    rank_load[g] = std::accumulate(slot, slot + placement.slots_per_rank(), Load{0});
    slot += placement.slots_per_rank();
    slowest = std::max(slowest, static_cast<double>(rank_load[g]) / placement.speed(g));
  }
  PolicyOutcome outcome;
  outcome.slowest = slowest;
  outcome.imbalance = relative_loads<Load>(placement, rank_load, heat);
  outcome.gap = bound > 0 ? slowest / bound - 1 : 0;
  if (source_load.empty()) return outcome;
  outcome.local = static_cast<double>(count_local(placement, source_load, physical_load).same_rank);
  outcome.total = std::accumulate(rank_load.begin(), rank_load.end(), 0.0);
  return outcome;
}

double slowest_cost(const Placement& placement, std::span<const Load> physical_load,
                    std::span<const CostCurve> curves, std::span<Load> taken) {
  double slowest = 0;
  std::size_t slot = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    const CostCurve& curve = curves[curves.size() == 1 ? 0 : static_cast<std::size_t>(g)];
    const std::size_t end = slot + static_cast<std::size_t>(placement.slots_per_rank());
    for (std::size_t i = slot; i < end; ++i) {
      taken[placement.physical_to_logical[i]] += physical_load[i];
    }
    Int128 cost = 0;
    for (; slot < end; ++slot) {
      Load& tokens = taken[placement.physical_to_logical[slot]];
      if (tokens > 0) cost += curve.of(tokens);
      tokens = 0;
    }
    if (cost > 0) slowest = std::max(slowest, static_cast<double>(cost + curve.rank));
  }
  return slowest;
}

}  // namespace lplb::replay
