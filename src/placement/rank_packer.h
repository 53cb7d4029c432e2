// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/types.h"

namespace lplb::placement {

/// Packs items onto ranks for what Packer's rule cannot do: ranks of unequal speeds, and no two
/// replicas of an expert on a rank. The heaviest item comes first (of several, that of the lowest
/// expert). It goes to the rank with room where load / speed is smallest afterwards.
///
/// If `spread` is set, a rank that already has the item's expert is taken only if no other rank has
/// room, and is left again at the end: as long as a rank has an expert twice, a replica of it
/// changes places with one of another rank. Of the possible exchanges the one with the smallest
/// larger load / speed is taken. So no expert is on a rank twice at the end. Of equally good ranks
/// the one that shares the fewest experts with the ranks of the expert's other replicas is taken,
/// so that an exact split can pass load on along many ways; then the next in a circle.
class RankPacker {
 public:
  /// - `weight` [n], `expert` [n]: of each item. n is a multiple of the number of ranks.
  /// - `speed` [num_ranks]: > 0.
  /// - `spread`: no expert has more items than there are ranks, and there are at least as many
  ///   experts as slots on a rank.
  /// - `slot` [n], out: rank * (n / num_ranks) + the item's position on the rank.
  void run(std::span<const float> weight, std::span<const Index> expert,
           std::span<const double> speed, bool spread, std::span<Index> slot);

 private:
  struct Exchange {
    Index other;   // a position in content_
    double level;  // the larger load / speed of the two ranks afterwards
    int gain;      // how many more different experts the two ranks have
  };

  bool has(Index rank, Index expert) const { return count(rank, expert) > 0; }
  Index count(Index rank, Index expert) const;
  Index choose(Index item, Index previous) const;
  void put(Index item, Index rank);
  void part(Index at);
  Exchange best_exchange(Index at) const;

  bool spread_ = false;
  Index num_ranks_ = 0, capacity_ = 0;
  std::vector<double> weight_;  // [n], finite
  std::span<const Index> expert_;
  std::span<const double> speed_;
  std::vector<Index> order_;     // [n]: items, the heaviest first
  std::vector<double> load_;     // [num_ranks]
  std::vector<Index> filled_;    // [num_ranks]: items of a rank
  std::vector<Index> content_;   // [num_ranks, capacity]: items
  std::vector<Index> shared_;    // [num_ranks, num_ranks]: how many experts two ranks share
  std::vector<Index> holders_;   // ranks of the items of the current expert
  std::vector<char> holds_;      // [num_ranks]: whether a rank is in holders_
  std::vector<Index> affinity_;  // [num_ranks]: the sum of shared_ over holders_
};

}  // namespace lplb::placement
