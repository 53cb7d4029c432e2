// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "lplb/exchange.h"

namespace lplb {

void PackedLayout::assign(const Placement& placement) {
  num_ranks = placement.num_ranks;
  replicated.clear();
  home.assign(static_cast<std::size_t>(placement.num_logical_experts), -1);
  fingerprint = 0xcbf29ce484222325u;  // FNV-1a, by whole entries in place of bytes
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (placement.replica_count[e] > 1) {
      replicated.push_back(e);
    } else {
      home[e] = placement.rank_of(placement.replicas(e)[0]);
    }
    fingerprint = (fingerprint ^ static_cast<std::uint32_t>(home[e])) * 0x100000001b3u;
  }
  fingerprint = (fingerprint ^ static_cast<std::uint32_t>(num_ranks)) * 0x100000001b3u;
}

void PackedLayout::pack(std::span<const Load> counts, std::span<Load> packed) const {
  check_argument(counts.size() == home.size(), "counts",
                 "has {} entries, expected num_logical_experts ({})", counts.size(), home.size());
  check_argument(packed.size() == size(), "packed", "has {} entries, expected {}", packed.size(),
                 size());
  const std::size_t num_replicated = replicated.size();
  std::fill(packed.begin(), packed.end(), 0);
  std::size_t k = 0;
  for (std::size_t e = 0; e < home.size(); ++e) {
    if (home[e] < 0) {
      packed[k++] = counts[e];
    } else {
      packed[num_replicated + static_cast<std::size_t>(home[e])] += counts[e];
    }
  }
}

}  // namespace lplb
