// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/types.h"
#include "placement/keys.h"
#include "placement/rank_packer.h"

// The EPLB policy (deepseek-ai/EPLB) for one layer: it replicates experts and packs replicas, per
// node if it is hierarchical. The arithmetic is float32 and ties are broken as in the original.
namespace lplb::placement {

/// The checked arguments of rebalance_experts(). One group and one node if the policy is global.
struct Shape {
  Index num_logical = 0;
  Index num_physical = 0;
  Index num_groups = 1;
  Index num_nodes = 1;
  Index num_ranks = 1;
  bool spread = false;        // no two replicas of an expert on a rank
  std::vector<double> speed;  // [num_ranks], or empty if all are equal
};

/// Packs items with weights `weight` [n] into num_packs packs of n / num_packs items each. The
/// heaviest item comes first (see introsort.h) and goes into the lightest pack with room; of
/// equally light packs, into the one with the lowest id. slot[item] = pack * (n / num_packs) + the
/// item's position in the pack. If a pack holds one item, nothing is packed: slot[item] = item.
class Packer {
 public:
  void run(std::span<const float> weight, Index num_packs, std::span<Index> slot);

 private:
  std::vector<Key> items_;
  MinTree packs_;
};

/// Gives every expert a replica. Then it gives one more to the expert with the largest weight per
/// replica (the lowest id of several), until there are as many replicas as `logical` has entries.
/// No expert gets more than `most` replicas: `most` times the number of experts is at least the
/// number of replicas. logical[p] is the expert of replica p, ordinal[p] the number of the replica
/// among those of its expert, and count[e] how many replicas expert e has.
class Replicator {
 public:
  void run(std::span<const float> weight, Index most, std::span<Index> logical,
           std::span<Index> ordinal, std::span<Index> count);

 private:
  MinTree experts_;
};

/// The sum of x[0, n), n <= kMaxPhysical, added in the order in which PyTorch adds on a CPU with
/// vectors of 8 floats (AVX2; with AVX-512, too). The order makes a difference above 2^24 and with
/// fractions.
float float32_sum(const float* x, Index n);

/// Runs the policy, layer by layer. Only the first layer allocates.
class LayerBalancer {
 public:
  explicit LayerBalancer(const Shape& shape);

  /// Reads `load` [num_logical]; writes `logical` and `ordinal` [num_physical] and `count`
  /// [num_logical]. The replica in slot p has number ordinal[p] among those of expert logical[p].
  void run(std::span<const double> load, std::span<Index> logical, std::span<Index> ordinal,
           std::span<Index> count);

 private:
  void order_by_group();
  void balance_node(Index node, std::span<Index> logical, std::span<Index> ordinal,
                    std::span<Index> count);
  void pack_node(Index node);
  bool repeats() const;

  Shape shape_;
  Packer packer_;
  RankPacker rank_packer_;
  Replicator replicator_;
  std::vector<float> weight_;        // [num_logical]
  std::vector<float> group_weight_;  // [num_groups]
  std::vector<Index> group_slot_;    // [num_groups]: node * (groups of a node) + position
  std::vector<Index> expert_;        // [num_logical]: experts in order of node
  std::vector<float> node_weight_;   // [experts of a node]
  std::vector<Index> node_count_;    // [experts of a node]
  std::vector<Index> node_logical_, node_ordinal_, slot_;  // [replicas of a node]
  std::vector<float> replica_weight_;                      // [replicas of a node]
  std::vector<double> node_speed_;                         // [num_nodes], or empty
};

}  // namespace lplb::placement
