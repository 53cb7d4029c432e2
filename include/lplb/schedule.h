// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/export.h"
#include "lplb/placement.h"

namespace lplb {

/// Moves that happen at once: no rank sends two of them, and none receives two.
struct MoveRound {
  MoveKind kind = MoveKind::kSameNode;  ///< kSameNode or kOtherNode, of all its moves
  std::vector<Index> moves;             ///< into the list of moves, ascending
};

/// The order in which moves can happen.
struct MoveSchedule {
  std::vector<Index> same_rank;   ///< moves that need no other rank
  std::vector<MoveRound> rounds;  ///< first those within nodes, then those between nodes
  std::vector<Index> lost;        ///< moves without a source
};

/// Divides the moves from placement `from` to `to` (plan_moves()) into the fewest rounds: as many
/// as the moves that one rank sends, or that one rank receives, whichever is most. Moves within
/// nodes and between nodes have rounds of their own, because they take different links. With
/// weights of equal size, a round takes as long as one expert, and moves its number of moves times
/// that many bytes.
///
/// It colours the edges of the bipartite multigraph of senders and receivers by alternating paths
/// (Koenig, 1916). All moves read the old placement, so what a round overwrites must have been
/// copied before, if a later round sends it.
///
/// Throws ArgumentError if a move's slot is not in its placement. O(moves * (rounds + ranks)).
LPLB_API MoveSchedule schedule(std::span<const Move> moves, const Placement& from,
                               const Placement& to);

}  // namespace lplb
