// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "placement/live_ranks.h"
#include "placement/rank_packer.h"

namespace lplb::placement {

/// A placement of one layer along a topology if ranks are dead or have unequal speeds:
///
/// 1. The experts are packed onto the live ranks by load / speed, at most one more on a rank than
///    if they were divided evenly. Nodes are ignored.
/// 2. Each rank's experts are sorted by load, the heaviest first. They fill the rank's first slots.
/// 3. Free slot d of a rank copies the expert in slot d of the rank that the topology names, as
///    with live ranks only, if that rank is live and has such an expert.
/// 4. Each slot that is still free gets the expert with most load a replica that is not on its
///    rank. Of several such slots, it is one of the rank with the least load / speed.
class LiveTopologyLayer {
 public:
  LiveTopologyLayer(const LiveRanks& live, const Topology& topology, Index num_logical, Index slots,
                    Index num_ranks);

  /// Reads `load` [num_logical]; writes `logical` and `ordinal` [live ranks, slots], and `count`
  /// [num_logical]: the slots of the live ranks, as LayerBalancer does.
  void run(std::span<const double> load, std::span<Index> logical, std::span<Index> ordinal,
           std::span<Index> count);

 private:
  void pack_originals(std::span<const double> load);
  void follow_edges();
  void fill_by_heat(std::span<const double> load);
  void put(std::size_t rank, Index expert);
  bool has(std::size_t rank, Index expert) const;
  double level(std::size_t rank, std::span<const double> load) const;
  std::size_t coolest_without(Index expert, std::span<const double> load) const;

  const LiveRanks& live_;
  const Topology& topology_;
  Index num_logical_, slots_;
  std::vector<double> speed_;                // [live ranks]
  std::vector<Index> live_number_;           // [num_ranks]: number among the live ranks, or -1
  std::vector<std::vector<Index>> content_;  // [live ranks]: experts, in order of the slots
  std::vector<Index> own_;                   // [live ranks]: how many of them are originals
  std::span<Index> ordinal_, count_;
  RankPacker packer_;
};

}  // namespace lplb::placement
