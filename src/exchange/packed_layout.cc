// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "lplb/exchange.h"

namespace lplb {

void PackedLayout::assign(const Placement& placement, Singles singles) {
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  num_ranks = placement.num_ranks;
  replicated.clear();
  home.assign(num_logical, -1);
  column.resize(num_logical);
  fingerprint = 0xcbf29ce484222325u;  // FNV-1a, by whole entries in place of bytes
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (placement.replica_count[e] > 1) {
      column[e] = static_cast<Index>(replicated.size());
      replicated.push_back(e);
    } else {
      home[e] = placement.rank_of(placement.replicas(e)[0]);
    }
    fingerprint = (fingerprint ^ static_cast<std::uint32_t>(home[e])) * 0x100000001b3u;
  }
  fingerprint = (fingerprint ^ static_cast<std::uint32_t>(num_ranks)) * 0x100000001b3u;
  // Then come those with one replica.
  num_counts = static_cast<Index>(replicated.size());
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (home[e] < 0) continue;
    column[e] = singles == Singles::kEach ? num_counts++ : num_counts + home[e];
  }
  if (singles == Singles::kEach) {
    fingerprint = (fingerprint ^ static_cast<std::uint32_t>(num_counts)) * 0x100000001b3u;
  } else {
    num_counts += num_ranks;
  }
}

void PackedLayout::pack(std::span<const Load> counts, std::span<Load> packed) const {
  check_argument(counts.size() == home.size(), "counts",
                 "has {} entries, expected num_logical_experts ({})", counts.size(), home.size());
  check_argument(packed.size() == size(), "packed", "has {} entries, expected {}", packed.size(),
                 size());
  std::fill(packed.begin(), packed.end(), 0);
  for (std::size_t e = 0; e < column.size(); ++e) packed[column[e]] += counts[e];
}

}  // namespace lplb
