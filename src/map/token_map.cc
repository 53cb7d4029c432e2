// SPDX-License-Identifier: MIT
#include "map/token_map.h"

#include <limits>

namespace lplb::map {

void TokenMap::reserve(Index num_logical, Index num_physical) {
  cursors_.reserve(static_cast<std::size_t>(num_logical));
  segments_.reserve(static_cast<std::size_t>(num_physical));
}

/// Points all cursors at the first replica, without an end. Experts with one replica need no more.
void TokenMap::start(const Placement& placement) {
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  cursors_.resize(num_logical);
  segments_.resize(static_cast<std::size_t>(placement.num_physical()));
  num_segments_ = 0;
  for (std::size_t e = 0; e < num_logical; ++e) {
    cursors_[e] = {std::numeric_limits<Load>::max(),
                   placement.logical_to_physical[e * placement.max_replicas], 0};
  }
}

/// Points the expert's cursor at the segments that were written to room().
void TokenMap::open(Index expert, Index num_segments) {
  const Segment& first = segments_[num_segments_];
  cursors_[expert] = {first.end, first.physical, num_segments_ + 1};
  num_segments_ += num_segments;
}

void TokenMap::assign_exactly(const Placement& placement, const GroupCounts& group,
                              const Load* quota, Index rank) {
  start(placement);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (placement.replica_count[e] == 1) continue;
    const Load* counts = group.counts + (group.column == nullptr ? e : group.column[e]);
    if (counts[rank * group.stride] == 0) continue;
    const ExpertBatch batch{counts,
                            group.stride,
                            quota,
                            placement.replicas(e).data(),
                            placement.replica_count[e],
                            placement.num_ranks,
                            placement.num_ranks / placement.num_nodes,
                            placement.slots_per_rank()};
    open(e, map::assign_exactly(batch, rank, room()));
  }
}

namespace {

const char* alive(const Placement& placement) {
  return placement.rank_alive.empty() ? nullptr : placement.rank_alive.data();
}

}  // namespace

void TokenMap::divide_evenly(const Placement& placement, const Load* own, Index rank) {
  start(placement);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (placement.replica_count[e] == 1 || own[e] == 0) continue;
    open(e, map::divide_evenly(placement.replicas(e).data(), placement.replica_count[e],
                               alive(placement), placement.slots_per_rank(), own[e], e + rank,
                               room()));
  }
}

void TokenMap::divide_in_proportion(const Placement& placement, const Load* own, const Load* quota,
                                    Index rank) {
  start(placement);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    if (placement.replica_count[e] == 1 || own[e] == 0) continue;
    const Index* const replicas = placement.replicas(e).data();
    open(e, divide_by_split(
                replicas, placement.replica_count[e], [&](Index i) { return quota[replicas[i]]; },
                alive(placement), placement.slots_per_rank(), own[e], rank, e, room()));
  }
}

}  // namespace lplb::map
