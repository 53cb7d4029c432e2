// SPDX-License-Identifier: MIT
#include "placement/batch_value.h"

#include <algorithm>
#include <numeric>

namespace lplb::placement {

BatchValue::Value BatchValue::of(const Placement& placement, const SplitProblem& problem,
                                 std::span<const Load> load) {
  Value value;
  double sum = 0;
  double speeds = 0;
  if (even_split_) {
    slots_.resize(static_cast<std::size_t>(placement.num_physical()));
    split_evenly(placement, load, slots_);
  } else {
    solve(problem, load, split_, workspace_, options_);
    value.slowest = options_.cost != nullptr ? split_.cost.max_cost : split_.max_load;
  }
  auto slot = slots_.begin();
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (options_.cost != nullptr) {
      sum += static_cast<double>(split_.cost.rank_cost[g]) / static_cast<double>(kCostsPerUnit);
      speeds += placement.alive(g) ? 1 : 0;
      continue;
    }
    if (placement.alive(g)) speeds += placement.speed(g);
    if (!even_split_) {
      sum += static_cast<double>(split_.rank_load[g]);
      continue;
    }
    const auto end = slot + placement.slots_per_rank();
    const auto tokens = static_cast<double>(std::accumulate(slot, end, Load{0}));
    slot = end;
    sum += tokens;
    value.slowest = std::max(value.slowest, tokens / placement.speed(g));
  }
  value.mean = sum / speeds;
  return value;
}

}  // namespace lplb::placement
