// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "lplb/placement.h"

namespace lplb::placement {

/// The ranks that a placement is made for.
struct LiveRanks {
  std::vector<Index> ranks;   ///< the live ranks, ascending
  std::vector<double> speed;  ///< of these ranks; empty if all are equal
  Index num_nodes = 1;        ///< nodes that have live ranks; 0 if these have different numbers
};

/// Checks rank_speed and rank_alive, and reads them. Throws ArgumentError if an entry is wrong, or
/// no rank is live.
LiveRanks live_ranks_of(const RebalanceOptions& options, Index num_ranks, Index num_nodes);

/// Throws ArgumentError if the live ranks have fewer slots than there are experts.
void check_live_slots(const LiveRanks& live, Index num_slots, Index num_logical);

/// Turns maps of a placement on the live ranks into maps of all ranks: the slots of live ranks keep
/// their experts. Slot p of a dead rank holds expert p % num_logical, and is the last of the
/// expert's slots.
ExpertMaps with_dead_ranks(const ExpertMaps& maps, const LiveRanks& live, Index num_ranks);

}  // namespace lplb::placement
