// SPDX-License-Identifier: MIT
#include <lplb/lplb.h>

#include <cstdio>
#include <vector>

// A limit that cut and flow do not know: what node 0 can receive.
int main() {
  // Two nodes of two ranks. Expert 0 has a replica on each rank, experts 1 to 4 are on one.
  const std::vector<lplb::Index> slots = {0, 1, 0, 2, 0, 3, 0, 4};
  const lplb::Placement placement = lplb::make_placement(4, 5, slots, {.num_nodes = 2});
  const std::vector<lplb::Load> load = {120, 10, 20, 30, 40};

  lplb::LinearConstraint inbound{.at_most = 70};
  for (lplb::Index slot = 0; slot < placement.num_physical(); ++slot) {
    if (placement.node_of(placement.rank_of(slot)) == 0) inbound.terms.push_back({slot});
  }
  const auto free = lplb::solve_lp(placement, load, {});
  const auto limited = lplb::solve_lp(placement, load, std::vector{inbound});
  std::printf("busiest rank: %.1f tokens; with node 0 at most 70: %.1f (%s)\n", free.max_load,
              limited.max_load, lplb::lp_status_name(limited.status));
  std::printf("a token more for node 0 would save %.2f\n", limited.constraint_price[0]);
}
