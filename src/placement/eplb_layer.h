// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/types.h"
#include "placement/keys.h"

// The EPLB policy (deepseek-ai/EPLB) for one layer, in its float32 arithmetic and with its ties:
// replicate, pack, and the hierarchy of both.
namespace lplb::placement {

/// What rebalance_experts() was asked for, checked; one group and one node where it is global.
struct Shape {
  Index num_logical = 0;
  Index num_physical = 0;
  Index num_groups = 1;
  Index num_nodes = 1;
  Index num_ranks = 1;
};

/// Packs items of weights `weight` [n] into num_packs packs of n / num_packs items each: heaviest
/// item first (see introsort.h), into the lightest pack with room, ties by lowest id. slot[item] =
/// pack * (n / num_packs) + its position in the pack. Single items are not packed: slot[item] =
/// item.
class Packer {
 public:
  void run(std::span<const float> weight, Index num_packs, std::span<Index> slot);

 private:
  std::vector<Key> items_;
  MinTree packs_;
};

/// Gives every expert a replica, then one more to the expert of most weight a replica until there
/// are as many as `logical` has entries; ties by lowest id. logical[p] is the expert of replica p,
/// ordinal[p] its number among that expert's, count[e] how many e has.
class Replicator {
 public:
  void run(std::span<const float> weight, std::span<Index> logical, std::span<Index> ordinal,
           std::span<Index> count);

 private:
  MinTree experts_;
};

/// The sum of x[0, n), n <= kMaxPhysical, rounded as PyTorch rounds it on a CPU with 8 float lanes
/// (AVX2, also used where AVX-512 is there): the order of additions shows beyond 2^24 and with
/// fractions.
float float32_sum(const float* x, Index n);

/// Runs the policy layer by layer; all memory is allocated by the first.
class LayerBalancer {
 public:
  explicit LayerBalancer(const Shape& shape);

  /// load [num_logical] -> logical, ordinal [num_physical], count [num_logical]. The replica in
  /// slot p is number ordinal[p] of expert logical[p].
  void run(std::span<const double> load, std::span<Index> logical, std::span<Index> ordinal,
           std::span<Index> count);

 private:
  void order_by_group();
  void balance_node(Index node, std::span<Index> logical, std::span<Index> ordinal,
                    std::span<Index> count);

  Shape shape_;
  Packer packer_;
  Replicator replicator_;
  std::vector<float> weight_;        // [num_logical]
  std::vector<float> group_weight_;  // [num_groups]
  std::vector<Index> group_slot_;    // [num_groups]: node * groups a node + position
  std::vector<Index> expert_;        // [num_logical]: the experts, node by node
  std::vector<float> node_weight_;   // [experts a node]
  std::vector<Index> node_count_;    // [experts a node]
  std::vector<Index> node_logical_, node_ordinal_, slot_;  // [replicas a node]
  std::vector<float> replica_weight_;                      // [replicas a node]
};

}  // namespace lplb::placement
