// SPDX-License-Identifier: MIT
#include "core/extended.h"

#include "core/made.h"

namespace lplb {

Placement extend_placement(const Placement& placement, Index dynamic_slots) {
  const Index main = placement.slots_per_rank();
  Placement extended = placement;
  extended.physical_to_logical.clear();
  for (Index slot = 0; slot < placement.num_physical(); ++slot) {
    extended.physical_to_logical.push_back(placement.physical_to_logical[slot]);
    if ((slot + 1) % main != 0) continue;
    const Index first = placement.physical_to_logical[slot + 1 - main];
    extended.physical_to_logical.insert(extended.physical_to_logical.end(),
                                        static_cast<std::size_t>(dynamic_slots), first);
  }
  index_replicas(extended);
  return extended;
}

void put_dynamic_slots(Placement& extended, Index dynamic_slots,
                       std::span<const Index> slot_expert) {
  const Index main = extended.slots_per_rank() - dynamic_slots;
  auto at = extended.physical_to_logical.begin();
  auto expert = slot_expert.begin();
  for (Index g = 0; g < extended.num_ranks; ++g) {
    const Index first = *at;
    at += main;
    for (Index i = 0; i < dynamic_slots; ++i, ++at, ++expert) *at = *expert >= 0 ? *expert : first;
  }
}

void fill_dynamic_slots(Placement& extended, Index dynamic_slots,
                        std::span<const Index> slot_expert) {
  put_dynamic_slots(extended, dynamic_slots, slot_expert);
  index_replicas(extended);
}

}  // namespace lplb
