// SPDX-License-Identifier: MIT
#include <lplb/lplb.h>

#include <cstdio>
#include <vector>

int main() {
  // Four ranks with three slots each; experts 0 to 7, of which 0, 3, 4 and 7 have two replicas.
  const std::vector<lplb::Index> slots = {0, 1, 7, 2, 3, 0, 4, 5, 3, 6, 7, 4};
  const lplb::Placement placement = lplb::make_placement(4, 8, slots);
  const std::vector<lplb::Load> load = {900, 100, 80, 400, 250, 60, 120, 500};  // tokens of a batch

  const lplb::Split split = lplb::solve(placement, load);
  std::printf("busiest rank: %.0f tokens, no split is below %.0f\n", split.max_load,
              split.lower_bound);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    std::printf("rank %zu: expert %d takes %lld\n", i / 3, slots[i],
                static_cast<long long>(split.physical_load[i]));
  }
}
