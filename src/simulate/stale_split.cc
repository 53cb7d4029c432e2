// SPDX-License-Identifier: MIT
#include "simulate/stale_split.h"

#include "core/wide.h"

namespace lplb::replay {

void split_by_shares(const Placement& placement, std::span<const Load> shares,
                     std::span<const Load> load, std::span<Load> split) {
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const std::span<const Index> replicas = placement.replicas(e);
    Int128 whole = 0;
    for (const Index slot : replicas) whole += shares[slot];
    const bool is_even = whole == 0;
    if (is_even) whole = static_cast<Int128>(replicas.size());
    // `end` is how many of the expert's tokens go to the replicas so far, rounded down.
    Int128 part = 0;
    Load end = 0;
    for (const Index slot : replicas) {
      part += is_even ? 1 : shares[slot];
      const Load begin = end;
      end = static_cast<Load>(load[e] * part / whole);
      split[slot] = end - begin;
    }
  }
}

}  // namespace lplb::replay
