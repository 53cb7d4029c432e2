// SPDX-License-Identifier: MIT
#pragma once

#include "core/check.h"
#include "lplb/types.h"

namespace lplb {

/// Throws ArgumentError if the sizes of `placement` do not fit each other. Those of
/// make_placement() do; a placement that was default-constructed or filled by hand could lead to
/// reads out of bounds. Entries are not checked. O(1).
inline void check_made(const Placement& placement, const char* argument) {
  const auto slots = placement.physical_to_logical.size();
  const auto ranks = static_cast<std::size_t>(placement.num_ranks);
  const auto experts = static_cast<std::size_t>(placement.num_logical_experts);
  const auto replicas = static_cast<std::size_t>(placement.max_replicas);
  const auto fits = [](std::size_t size, std::size_t want) { return size == 0 || size == want; };
  check_argument(placement.num_ranks >= 1 && placement.num_logical_experts >= 1 && slots >= 1 &&
                     slots % ranks == 0 && placement.num_nodes >= 1 &&
                     placement.num_ranks % placement.num_nodes == 0 && replicas >= 1 &&
                     placement.replica_count.size() == experts &&
                     placement.logical_to_physical.size() == experts * replicas &&
                     fits(placement.rank_speed.size(), ranks) &&
                     fits(placement.rank_alive.size(), ranks),
                 argument,
                 "has sizes that do not fit each other ({} ranks, {} slots), expected a "
                 "placement made by make_placement()",
                 placement.num_ranks, slots);
}

/// Derives max_replicas, logical_to_physical and replica_count from physical_to_logical, whose
/// entries must be experts. Allocates only if they are larger than before. O(num_physical).
void index_replicas(Placement& placement);

/// check_made(), and throws ArgumentError if the maps disagree with each other. O(num_physical).
inline void check_maps(const Placement& placement, const char* argument) {
  check_made(placement, argument);
  const auto agrees = [&](Index expert) {
    const Index count = placement.replica_count[static_cast<std::size_t>(expert)];
    if (count < 1 || count > placement.max_replicas) return false;
    Index before = -1;
    for (const Index slot : placement.replicas(expert)) {
      if (slot <= before || slot >= placement.num_physical()) return false;
      if (placement.physical_to_logical[static_cast<std::size_t>(slot)] != expert) return false;
      before = slot;
    }
    return true;
  };
  std::int64_t slots = 0;
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    check_argument(agrees(e), argument,
                   "the maps of expert {} do not agree, expected a placement made by "
                   "make_placement()",
                   e);
    slots += placement.replica_count[static_cast<std::size_t>(e)];
  }
  check_argument(slots == placement.num_physical(), argument,
                 "the maps have {} of {} slots, expected a placement made by make_placement()",
                 slots, placement.num_physical());
}

}  // namespace lplb
