// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/error.h"
#include "lplb/export.h"

namespace lplb {

/// A number of tokens: of an expert, a replica or a rank. Never negative. The sum over a batch must
/// fit.
using Load = std::int64_t;

/// An id of a rank, a node, or a logical or physical expert; also a number of these. As an id, -1
/// means "none" (padding, or a dropped entry).
using Index = std::int32_t;

inline constexpr Index kMaxRanks = 1024;
inline constexpr Index kMaxPhysical = 4096;

/// The placement of one layer: which logical expert each slot holds. Physical expert p is a slot on
/// rank p / (num_physical / num_ranks); rank g is on node g / (num_ranks / num_nodes). Make it with
/// make_placement(), which checks it and derives max_replicas, logical_to_physical and
/// replica_count.
struct LPLB_API Placement {
  Index num_ranks = 0;            ///< 1 to kMaxRanks
  Index num_nodes = 1;            ///< divides num_ranks
  Index num_logical_experts = 0;  ///< 1 to num_physical
  Index max_replicas = 0;         ///< the largest entry of replica_count

  std::vector<Index> physical_to_logical;  ///< [num_physical]: the expert in each slot
  std::vector<Index> logical_to_physical;  ///< [num_logical, max_replicas]: ascending, then -1
  std::vector<Index> replica_count;        ///< [num_logical], each >= 1

  std::vector<double> rank_speed;  ///< [num_ranks], finite, > 0; empty: all ranks have speed 1
  std::vector<char> rank_alive;    ///< [num_ranks], 0: may take no token; empty: all ranks live

  Index num_physical() const { return static_cast<Index>(physical_to_logical.size()); }
  Index slots_per_rank() const { return num_physical() / num_ranks; }
  Index rank_of(Index physical) const { return physical / slots_per_rank(); }
  Index node_of(Index rank) const { return rank / (num_ranks / num_nodes); }
  double speed(Index rank) const { return rank_speed.empty() ? 1.0 : rank_speed[rank]; }
  bool alive(Index rank) const { return rank_alive.empty() || rank_alive[rank] != 0; }
  Index num_live_ranks() const {
    Index live = 0;
    for (Index g = 0; g < num_ranks; ++g) live += alive(g) ? 1 : 0;
    return live;
  }
  /// The physical experts that hold `logical`, ascending: [replica_count[logical]].
  std::span<const Index> replicas(Index logical) const {
    return {logical_to_physical.data() + std::size_t{1} * logical * max_replicas,
            static_cast<std::size_t>(replica_count[logical])};
  }

  bool operator==(const Placement&) const = default;
};

/// Optional arguments of make_placement(), as in Placement.
struct PlacementOptions {
  Index num_nodes = 1;
  // The initialisers are not redundant: without them -Wextra warns if a user names only num_nodes.
  std::vector<double> rank_speed = {};  // NOLINT(readability-redundant-member-init)
  std::vector<char> rank_alive = {};    // NOLINT(readability-redundant-member-init)
};

/// Makes a placement from `physical_to_logical` [num_physical]. Two replicas of an expert may be on
/// the same rank.
///
/// Throws ArgumentError if a number is out of range, num_ranks does not divide num_physical,
/// num_nodes does not divide num_ranks, an id is not in 0 to num_logical_experts - 1, an expert has
/// no replica on a live rank, or a speed is not a finite number > 0. O(num_physical).
LPLB_API Placement make_placement(Index num_ranks, Index num_logical_experts,
                                  std::span<const Index> physical_to_logical,
                                  const PlacementOptions& options = {});

/// The largest load / speed of a live rank, divided by the mean load / speed of the live ranks. 1.0
/// is perfect, and is also the result if the live ranks have no load. If all ranks live and have
/// the same speed, it is the largest load divided by the mean load.
///
/// `rank_load` [num_ranks], each >= 0. Entries of dead ranks are ignored. Throws ArgumentError if
/// the number of entries is another.
LPLB_API double imbalance(const Placement& placement, std::span<const Load> rank_load);

/// The same for ranks that all live and have the same speed: the largest entry of `rank_load`
/// [num_ranks] divided by the mean entry.
LPLB_API double imbalance(std::span<const Load> rank_load);

}  // namespace lplb
