// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/imbalance.h"
#include "core/made.h"
#include "lplb/placement.h"

namespace lplb {

double even_imbalance(const Placement& placement, std::span<const double> load) {
  check_made(placement, "placement");
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  check_argument(load.size() == num_logical, "load",
                 "has {} entries, expected num_logical_experts ({})", load.size(), num_logical);
  for (std::size_t e = 0; e < num_logical; ++e) {
    check_argument(std::isfinite(load[e]) && load[e] >= 0, "load",
                   "expert {} has load {}, expected a finite number >= 0", e, load[e]);
  }
  // NOTE: loads may be near the ends of the range of double. They are divided by the largest, so
  // that sums stay finite.
  const double largest = *std::max_element(load.begin(), load.end());
  if (largest <= 0) return 1;
  std::vector<double> ranks(static_cast<std::size_t>(placement.num_ranks), 0);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const auto replicas = placement.replicas(e);
    const auto is_live = [&](Index slot) { return placement.alive(placement.rank_of(slot)); };
    const double share =
        load[e] / largest /
        static_cast<double>(std::count_if(replicas.begin(), replicas.end(), is_live));
    for (const Index slot : replicas) {
      if (is_live(slot)) ranks[placement.rank_of(slot)] += share;
    }
  }
  return relative_loads<double>(placement, ranks, {});
}

}  // namespace lplb
