// SPDX-License-Identifier: MIT
#include "core/check.h"
#include "lplb/placement.h"

namespace lplb {

std::vector<std::int32_t> redundancy_mapping(const Placement& p) {
  check_argument(p.num_logical_experts % p.num_ranks == 0, "placement",
                 "has {} logical experts on {} ranks, expected as many on each",
                 p.num_logical_experts, p.num_ranks);
  const Index num_local = p.num_logical_experts / p.num_ranks;
  const Index slots = p.slots_per_rank();
  std::vector<Index> original(static_cast<std::size_t>(p.num_logical_experts), -1);
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    if (slot % slots >= num_local) continue;
    const Index e = p.physical_to_logical[slot];
    check_argument(original[e] < 0, "placement",
                   "has expert {} in slots {} and {}, expected one original: the first {} slots of "
                   "each rank hold different experts",
                   e, original[e], slot, num_local);
    original[e] = slot;
  }
  const Index ranks_per_node = p.num_ranks / p.num_nodes;
  std::vector<std::int32_t> mapping;
  mapping.reserve(static_cast<std::size_t>(p.num_physical() - p.num_logical_experts));
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    if (slot % slots < num_local) continue;
    const Index e = p.physical_to_logical[slot];
    const Index owner = p.rank_of(original[e]);
    const Index rank = p.rank_of(slot);
    check_argument(owner != rank, "placement", "has expert {} twice on rank {}", e, rank);
    check_argument(
        p.node_of(owner) == p.node_of(rank), "placement",
        "has a replica of expert {} on rank {}, expected it on the node of its original, "
        "rank {}",
        e, rank, owner);
    mapping.push_back(owner % ranks_per_node * num_local + original[e] % slots);
  }
  return mapping;
}

}  // namespace lplb
