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

void fill_dynamic_slots(Placement& extended, Index dynamic_slots,
                        std::span<const Index> slot_expert) {
  const Index slots = extended.slots_per_rank();
  for (std::size_t i = 0; i < slot_expert.size(); ++i) {
    const Index first = static_cast<Index>(i) / dynamic_slots * slots;
    const Index at = first + slots - dynamic_slots + static_cast<Index>(i) % dynamic_slots;
    extended.physical_to_logical[at] =
        slot_expert[i] >= 0 ? slot_expert[i] : extended.physical_to_logical[first];
  }
  index_replicas(extended);
}

}  // namespace lplb
