// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "lplb/types.h"

// A placement with dynamic slots: rank g has slots g * (M + S) to g * (M + S) + M + S - 1, first
// the M main slots of a placement, then S dynamic slots. An unused dynamic slot holds what the
// rank's first main slot holds: as a second replica on the same rank it leads nowhere.
namespace lplb {

/// `placement` with `dynamic_slots` more slots on each rank, all unused. It must fit kMaxPhysical.
Placement extend_placement(const Placement& placement, Index dynamic_slots);

/// Fills the dynamic slots of an extended placement with `slot_expert` [num_ranks, dynamic_slots];
/// -1: unused. Allocates only if an expert has more replicas than ever before. O(num_logical *
/// max_replicas + num_physical).
void fill_dynamic_slots(Placement& extended, Index dynamic_slots,
                        std::span<const Index> slot_expert);
/// The same in physical_to_logical alone: index_replicas() must follow before the other maps of
/// `extended` are used.
void put_dynamic_slots(Placement& extended, Index dynamic_slots,
                       std::span<const Index> slot_expert);

}  // namespace lplb
