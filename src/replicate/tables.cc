// SPDX-License-Identifier: MIT
#include "replicate/tables.h"

namespace lplb::replicas {

DomainTables::DomainTables(const Placement& placement, Index first, Index count, Index dynamic)
    : first_rank(first),
      num_ranks(count),
      main_slots(placement.slots_per_rank()),
      dynamic_slots(dynamic) {
  alive.assign(static_cast<std::size_t>(count), 0);
  for (Index rank = 0; rank < count; ++rank) {
    if (!placement.alive(first + rank)) continue;
    alive[rank] = 1;
    live_ranks.push_back(first + rank);
  }

  std::vector<Index> local(static_cast<std::size_t>(placement.num_logical_experts), -1);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    Index inside = 0;
    bool outside = false;
    for (const Index slot : placement.replicas(e)) {
      const Index rank = placement.rank_of(slot);
      if (!placement.alive(rank)) continue;
      const bool here = rank >= first && rank < first + count;
      inside += here ? 1 : 0;
      outside = outside || !here;
    }
    if (inside == 0) continue;
    local[e] = num_experts();
    expert.push_back(e);
    confined.push_back(outside ? 0 : 1);
    replicated = replicated || inside > 1;
  }

  words = num_experts() / 64 + 1;
  held.assign(static_cast<std::size_t>(words) * count, 0);
  slot_expert.assign(static_cast<std::size_t>(num_slots()), -1);
  for (Index slot = 0; slot < num_slots(); ++slot) {
    const Index rank = rank_of(slot);
    if (alive[rank] == 0) continue;
    const Index e = local[placement.physical_to_logical[first * main_slots + slot]];
    slot_expert[slot] = e;
    held[static_cast<std::size_t>(words) * rank + e / 64] |= std::uint64_t{1} << (e % 64);
  }
}

}  // namespace lplb::replicas
