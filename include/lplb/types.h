// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/error.h"

namespace lplb {

/// Tokens: of an expert, of a replica, of a rank. Never negative; the sum over a batch must fit.
using Load = std::int64_t;

/// An id: of a rank, a node, a logical or a physical expert. -1 means "none" (padding, dropped).
using Index = std::int32_t;

inline constexpr Index kMaxRanks = 1024;
inline constexpr Index kMaxPhysical = 4096;

/// Where the experts of one layer live. Physical expert p is a slot on rank
/// p / (num_physical / num_ranks); ranks fill nodes in order, as physical experts fill ranks.
/// Build it with make_placement(), which checks it and derives the two maps below.
struct Placement {
  Index num_ranks = 0;            ///< 1 to kMaxRanks
  Index num_nodes = 1;            ///< divides num_ranks
  Index num_logical_experts = 0;  ///< 1 to num_physical
  Index max_replicas = 0;         ///< the largest entry of replica_count

  std::vector<Index> physical_to_logical;  ///< [num_physical]
  std::vector<Index> logical_to_physical;  ///< [num_logical, max_replicas], ascending, padded -1
  std::vector<Index> replica_count;        ///< [num_logical], each >= 1

  std::vector<double> rank_speed;  ///< [num_ranks], finite and > 0; empty: every rank has speed 1
  std::vector<char> rank_alive;    ///< [num_ranks], 0: the rank may take nothing; empty: all live

  Index num_physical() const { return static_cast<Index>(physical_to_logical.size()); }
  Index slots_per_rank() const { return num_physical() / num_ranks; }
  Index rank_of(Index physical) const { return physical / slots_per_rank(); }
  Index node_of(Index rank) const { return rank / (num_ranks / num_nodes); }
  double speed(Index rank) const { return rank_speed.empty() ? 1.0 : rank_speed[rank]; }
  bool alive(Index rank) const { return rank_alive.empty() || rank_alive[rank] != 0; }
  /// The physical experts that hold `logical`, ascending: [replica_count[logical]].
  std::span<const Index> replicas(Index logical) const {
    return {logical_to_physical.data() + std::size_t{1} * logical * max_replicas,
            static_cast<std::size_t>(replica_count[logical])};
  }

  bool operator==(const Placement&) const = default;
};

/// What make_placement() takes beside the map itself.
struct PlacementOptions {
  Index num_nodes = 1;
  // Initialised, though empty: without, -Wextra warns where a user names num_nodes alone.
  std::vector<double> rank_speed = {};  // NOLINT(readability-redundant-member-init)
  std::vector<char> rank_alive = {};    // NOLINT(readability-redundant-member-init)
};

/// Checks `physical_to_logical` [num_physical] and derives the other maps. Two replicas of an
/// expert may share a rank. Throws ArgumentError where a count is out of range or does not divide,
/// an id is outside [0, num_logical_experts), an expert has no replica on a live rank, or a speed
/// is not a finite number > 0. O(num_physical).
Placement make_placement(Index num_ranks, Index num_logical_experts,
                         std::span<const Index> physical_to_logical,
                         const PlacementOptions& options = {});

/// max / mean rank load of `rank_load` [num_ranks]; 1 when nothing is loaded. 1.0 is perfect.
double imbalance(std::span<const Load> rank_load);

}  // namespace lplb
