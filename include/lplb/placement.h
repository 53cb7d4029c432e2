// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/topology.h"
#include "lplb/types.h"

namespace lplb {

/// The maps of several layers, as EPLB returns them.
struct ExpertMaps {
  Index num_layers = 0;
  Index num_physical = 0;
  Index num_logical = 0;
  Index max_replicas = 0;                  ///< the most replicas any expert of any layer has
  std::vector<Index> physical_to_logical;  ///< [num_layers, num_physical]
  std::vector<Index> logical_to_physical;  ///< [num_layers, num_logical, max_replicas], -1 padded,
                                           ///< in the order in which the replicas were made
  std::vector<Index> replica_count;        ///< [num_layers, num_logical]

  /// physical_to_logical of one layer: [num_physical].
  std::span<const Index> layer(Index i) const {
    return {physical_to_logical.data() + std::size_t{1} * i * num_physical,
            static_cast<std::size_t>(num_physical)};
  }
};

/// EPLB (deepseek-ai/EPLB): replicates the experts with most load a replica, packs replicas onto
/// ranks greedily. Hierarchical (groups to nodes, then replicas inside the node) where num_groups
/// divides by num_nodes, else global: then groups and nodes play no part. Same result as the Python
/// reference on PyTorch's CPU backend, ties included: like it, it computes in float32, so loads
/// that differ beyond 24 bits tie, as do all beyond float32's range.
/// `load` [num_layers, num_logical], finite and >= 0. num_replicas slots in all, at least
/// num_logical, at most kMaxPhysical and a multiple of num_ranks; hierarchical: num_logical a
/// multiple of num_groups and num_ranks of num_nodes. `num_threads` (>= 1) layers at a time; the
/// result does not depend on it. Throws ArgumentError.
/// O(layers * num_replicas * log num_replicas), a few microseconds a layer of 288 replicas.
ExpertMaps rebalance_experts(std::span<const double> load, Index num_layers, Index num_logical,
                             Index num_replicas, Index num_groups, Index num_nodes, Index num_ranks,
                             int num_threads = 1);

/// Topology placement: orders the experts over the ranks by EPLB without replicas, sorts each
/// rank's experts by load, and gives the heaviest of each rank a replica along the topology's
/// edges. Redundant d of rank g copies the expert in slot d of rank r2o[g][d % num_columns], so
/// more redundants than columns share an edge. A rank's slots are [its own experts, heaviest first
/// | its redundants]; an expert has at most two replicas, never on one rank.
/// `load` [num_layers, num_logical], finite and >= 0; num_ranks a multiple of topology.group_size
/// (groups of consecutive ranks); num_logical a multiple of num_ranks; redundants (a rank) 0 to
/// num_logical / num_ranks, at most kMaxPhysical slots in all. With num_nodes > 1 the order levels
/// the nodes first, then the ranks of each: EPLB with every expert a group of its own. Throws
/// ArgumentError.
ExpertMaps place_on_topology(std::span<const double> load, Index num_layers, Index num_logical,
                             const Topology& topology, Index redundants, Index num_ranks,
                             Index num_nodes = 1, int num_threads = 1);

/// How far a weight travels.
enum class MoveKind { kSameRank, kSameNode, kOtherNode };

/// Copy the weights of `logical` from slot `source` to slot `target` (physical ids of the old and
/// of the new placement). All moves of a plan read the old placement: they happen at once.
struct Move {
  Index logical;
  Index source;
  Index target;
  MoveKind kind;

  bool operator==(const Move&) const = default;
};

/// Which weights must move to get from placement `from` to `to` (same ranks, nodes, slots and
/// logical experts): one move for every slot of `to` whose expert is not already in that slot. Its
/// source is the nearest slot of `from`: own rank, then own node, then any, the lowest id where
/// there are several. Moves that cost least come first (same rank, same node, other node; then by
/// target). Ranks that are dead in `to` receive nothing; ranks that are dead in either placement
/// give nothing, and what such a rank held counts as lost. Throws ArgumentError where the two do
/// not match or an expert is lost with all its replicas. O(num_physical * replicas).
std::vector<Move> plan_moves(const Placement& from, const Placement& to);

/// `to` with the slots inside each rank reordered so that every expert which `from` already has on
/// that rank stays in its slot; the rest fill the other slots in the order of `to`. For use before
/// plan_moves() where the order of slots is free. Ranks hold the same experts as before (replicas
/// counted). Throws ArgumentError where the two do not match. O(num_physical).
Placement keep_slots(const Placement& from, const Placement& to);

/// The placement as DeepEP's EPBuffer takes it to copy weights (`redundancy_mapping`, version 2.5):
/// [num_ranks, redundants a rank], for each redundant owner * num_local + index of the original,
/// with owner numbered within its node, num_local = num_logical / num_ranks and index the
/// original's slot on its rank. For placements whose originals come first on each rank, as
/// topologies make them, and whose replicas stay on the node. Throws ArgumentError for others.
std::vector<std::int32_t> redundancy_mapping(const Placement& placement);

}  // namespace lplb
