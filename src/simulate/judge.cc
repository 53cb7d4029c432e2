// SPDX-License-Identifier: MIT
#include "simulate/judge.h"

#include <algorithm>
#include <numeric>

#include "core/imbalance.h"
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
  outcome.imbalance = relative_loads<Load>(placement, rank_load, heat);
  outcome.gap = bound > 0 ? slowest / bound - 1 : 0;
  if (source_load.empty()) return outcome;
  outcome.local = static_cast<double>(count_local(placement, source_load, physical_load).same_rank);
  outcome.total = std::accumulate(rank_load.begin(), rank_load.end(), 0.0);
  return outcome;
}

}  // namespace lplb::replay
