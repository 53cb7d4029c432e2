// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/export.h"
#include "lplb/topology.h"
#include "lplb/types.h"

namespace lplb {

/// The placements of several layers, as the three maps that EPLB returns.
struct ExpertMaps {
  Index num_layers = 0;
  Index num_physical = 0;
  Index num_logical = 0;
  Index max_replicas = 0;                  ///< the most replicas of any expert
  std::vector<Index> physical_to_logical;  ///< [num_layers, num_physical]
  std::vector<Index> logical_to_physical;  ///< [num_layers, num_logical, max_replicas], in the
                                           ///< order in which replicas were made, then -1
  std::vector<Index> replica_count;        ///< [num_layers, num_logical]

  /// physical_to_logical of one layer: [num_physical].
  std::span<const Index> layer(Index i) const {
    return {physical_to_logical.data() + std::size_t{1} * i * num_physical,
            static_cast<std::size_t>(num_physical)};
  }
};

/// Optional arguments of rebalance_experts() and place_on_topology().
struct RebalanceOptions {
  int num_threads = 1;  ///< >= 1: how many layers are placed in parallel. The result is the same
  /// EPLB only: no two replicas of an expert on the same rank. An exact split can do nothing with
  /// such a pair. Topologies never make one.
  bool spread = false;
  /// [num_ranks] or empty, as in Placement: experts are packed onto ranks by load / speed. Equal
  /// speeds change nothing.
  std::vector<double> rank_speed = {};  // NOLINT(readability-redundant-member-init)
  /// [num_ranks] or empty, as in Placement: the placement is made for the live ranks. Their slots
  /// must be at least num_logical. The slots of dead ranks count for nothing: slot p of a dead rank
  /// holds expert p % num_logical, and is among the last replicas of the expert.
  std::vector<char> rank_alive = {};  // NOLINT(readability-redundant-member-init)
};

/// The EPLB policy (deepseek-ai/EPLB): gives the next replica to the expert with most load per
/// replica, then packs replicas onto ranks greedily. If num_nodes divides num_groups, it is
/// hierarchical: groups go to nodes, and replicas are made and packed within each node. Otherwise
/// it is global: groups and nodes are ignored.
///
/// The result is the same as that of the Python reference on PyTorch's CPU backend, ties included.
/// Both compute in float32, so loads that differ only after 24 bits are equal, and so are all loads
/// beyond float32's range.
///
/// - `load` [num_layers, num_logical]: finite and >= 0.
/// - `num_replicas`: all slots. At least num_logical, at most kMaxPhysical, a multiple of
///   num_ranks.
/// - If hierarchical: num_logical is a multiple of num_groups, and num_ranks of num_nodes.
/// - `options.rank_alive`: EPLB for the slots of the live ranks. It is hierarchical if in addition
///   every node that has live ranks has equally many of them, and the number of these nodes divides
///   num_groups; otherwise it is global.
/// - `options.spread`: an expert gets at most as many replicas as there are ranks (of its node, if
///   hierarchical). If EPLB's result has an expert twice on a rank, the replicas are packed by a
///   rule that avoids it: the heaviest first, each to the least loaded rank that has room and not
///   the expert. There must be at least as many experts as slots on a rank (experts of a node, if
///   hierarchical).
///
/// Throws ArgumentError. O(num_layers * num_replicas * log num_replicas): a few microseconds for a
/// layer of 288 replicas. With `spread`, if packed again: O(num_layers * num_replicas * num_ranks).
LPLB_API ExpertMaps rebalance_experts(std::span<const double> load, Index num_layers,
                                      Index num_logical, Index num_replicas, Index num_groups,
                                      Index num_nodes, Index num_ranks,
                                      const RebalanceOptions& options = {});

/// A placement along a topology:
///
/// 1. EPLB without replicas distributes the experts over the ranks. With num_nodes > 1, every
///    expert is a group of its own, so the nodes are levelled first, then the ranks of each node.
/// 2. Each rank's experts are sorted by load, the heaviest first. They fill the rank's first slots.
/// 3. The redundants fill the other slots. Redundant d of rank g copies the expert in slot d of
///    rank `r2o[g][d % num_columns]`. If there are more redundants than columns, several use the
///    same edge.
///
/// An expert has at most two replicas, never on the same rank.
///
/// If ranks are dead or have unequal speeds, three things change. Step 1 packs the experts onto the
/// live ranks by load / speed, regardless of nodes, and a rank may get one expert more than if they
/// were divided evenly. In step 3 a rank that is dead, or has no expert in slot d, gives no
/// replica. Each slot that is still free then gets the expert with most load a replica that is not
/// yet on its rank; so an expert may have more than two replicas.
///
/// - `load` [num_layers, num_logical]: finite and >= 0; num_logical is a multiple of num_ranks.
/// - `num_ranks`: a multiple of topology.group_size. Groups are consecutive ranks.
/// - `redundants`: of each rank, 0 to num_logical / num_ranks; at most kMaxPhysical slots in all.
///
/// Throws ArgumentError.
LPLB_API ExpertMaps place_on_topology(std::span<const double> load, Index num_layers,
                                      Index num_logical, const Topology& topology, Index redundants,
                                      Index num_ranks, Index num_nodes = 1,
                                      const RebalanceOptions& options = {});

/// imbalance() of a placement if each expert's load is split evenly over its live replicas, not
/// rounded to whole tokens: what placement policies make small. `load` [num_logical_experts],
/// finite and >= 0. Throws ArgumentError. O(num_physical).
LPLB_API double even_imbalance(const Placement& placement, std::span<const double> load);

/// How far the weights of an expert travel.
enum class MoveKind {
  kSameRank,
  kSameNode,
  kOtherNode,
  kLost,  ///< no live rank has them: they must come from elsewhere, such as a checkpoint
};

/// A copy of the weights of `logical` from slot `source` of the old placement to slot `target` of
/// the new one. All moves of a list read the old placement, so they must happen at once.
struct Move {
  Index logical;
  Index source;  ///< -1 if the kind is kLost
  Index target;
  MoveKind kind;

  bool operator==(const Move&) const = default;
};

/// The moves that lead from placement `from` to `to`. Both must have the same logical experts; the
/// numbers of ranks and of slots may differ. Rank g of `from` is rank g of `to`, and slot i of a
/// rank is slot i of that rank. Ranks that only `to` has are new and hold nothing; ranks that only
/// `from` has are leaving, and still give.
///
/// There is a move for each slot of `to` whose expert is not already in that slot. Its source is
/// the nearest slot of `from`: on the same rank, otherwise on the same node, otherwise anywhere; of
/// several, the one with the lowest id. `to` says which ranks share a node; if one of the two ranks
/// is leaving, `from` says it. Moves are sorted by kind (same rank, same node, other node, lost),
/// then by target.
///
/// A rank that is dead in `to` receives nothing. A rank that is dead in either placement gives
/// nothing, because its weights count as lost; if all replicas of an expert are lost, its moves are
/// kLost. Throws ArgumentError if the numbers of logical experts differ. O(num_physical *
/// replicas).
LPLB_API std::vector<Move> plan_moves(const Placement& from, const Placement& to);

/// Returns `to` with the slots of each rank in another order: an expert that `from` already has on
/// the rank stays in its slot, if the rank still has that slot. The others fill the remaining slots
/// in the order of `to`. Every rank holds the same replicas as in `to`. For use before
/// plan_moves(), if the order of a rank's slots does not matter. Throws ArgumentError if the
/// numbers of logical experts differ. O(num_physical).
LPLB_API Placement keep_slots(const Placement& from, const Placement& to);

/// Returns `to` after its ranks have exchanged their contents so that few experts move: the number
/// of slots whose expert another rank sends is the least that any exchange gives, and of several
/// exchanges one with the fewest experts from other nodes is taken. The slots of each rank are then
/// ordered by keep_slots(). For placements whose ranks have no meaning of their own, such as
/// EPLB's: each rank's contents stay together, so every split of a batch is as good as with `to`.
///
/// - `keep_nodes`: ranks whose contents are on one node in `to` are on one node in the result, as
///   hierarchical placements need it. Whole nodes may exchange their contents. Otherwise any two
///   ranks may, which moves fewer experts.
/// - Only live ranks of equal speed exchange their contents.
///
/// Throws ArgumentError if the numbers of logical experts differ. O(num_ranks * num_physical +
/// num_ranks^3): 0.3 ms for 64 ranks with 5 slots, 1 s for 1024 ranks.
LPLB_API Placement keep_ranks(const Placement& from, const Placement& to, bool keep_nodes = true);

/// The placement in the form in which DeepEP's EPBuffer takes it to copy weights
/// (`redundancy_mapping`, version 2.5): [num_ranks, redundants of a rank]. The entry of a redundant
/// is owner * num_local + index. `owner` is the rank of its original, numbered within the node;
/// `num_local` is num_logical / num_ranks; `index` is the original's slot on its rank.
///
/// Each rank's originals must come first, as in placements along a topology, and replicas must be
/// on the node of their original. Throws ArgumentError for other placements.
LPLB_API std::vector<std::int32_t> redundancy_mapping(const Placement& placement);

}  // namespace lplb
