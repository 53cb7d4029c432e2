// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/homes.h"
#include "placement/homes_judge.h"

namespace lplb::placement {

/// What the search may do with a slot.
enum : char {
  kFree,    ///< give it to another expert
  kHome,    ///< nothing, or if homes may move, exchange it with another home
  kPinned,  ///< nothing
};

/// Where the search for replica slots begins. Ranks are the live ones, renumbered.
struct HomesStart {
  std::vector<Index> experts;  ///< [num_slots]: no expert twice on a rank, each on some rank
  std::vector<char> fixed;     ///< [num_slots]: kFree, kHome or kPinned
  std::vector<char> held;      ///< [num_ranks, num_logical]: the rank had the expert's weights
  bool has_old = false;        ///< if not, `held` is empty and nothing counts as a move

  /// Whether the expert would have to be moved to this rank.
  bool is_new(Index expert, Index rank, Index num_logical) const {
    return has_old && expert >= 0 && held[rank * num_logical + expert] == 0;
  }
};

/// Finds the homes, and fills the other slots. `old` may be null. `live` [shape.num_ranks]: the
/// ranks' numbers in `old` and in options.pinned. `mean` [num_logical]: loads, below 2^31. Throws
/// ArgumentError, which names `pinned`, if a pinned expert has no place.
HomesStart start_of_homes(const HomesShape& shape, const std::vector<Index>& live,
                          std::span<const std::int64_t> mean, const Placement* old,
                          const HomesOptions& options);

/// A home rank for each expert: [num_logical]. All ranks get equally many, or one more. The experts
/// are packed by load / speed, the heaviest first.
std::vector<Index> packed_homes(const HomesShape& shape, std::span<const std::int64_t> mean);

}  // namespace lplb::placement
