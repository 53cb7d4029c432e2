// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "core/cost.h"
#include "replicate/tables.h"

namespace lplb::replicas {

/// A level that no plan is below, and the ranks that prove it.
struct Bound {
  Level level;
  std::vector<Index> ranks;  // of the group, ascending
};

/// Bounds that follow from the number of dynamic slots. If a set A of ranks has few tokens of its
/// own, then S |A| slots cannot bring it more than the tokens of the S |A| heaviest experts from
/// elsewhere. What is left is for the other ranks of the domain (docs/math.md).
class SlotBound {
 public:
  SlotBound(const DomainTables& tables, const RankCost& cost) : t_(tables), cost_(cost) {}

  /// Raises `bound` to the best such bound for `batch`, if that is higher. A takes the ranks with
  /// the smallest loads, one after another. O(num_slots + num_ranks * S * num_ranks).
  void raise(const DomainBatch& batch, Bound& bound);

 private:
  void order_heaviest(std::size_t count);

  const DomainTables& t_;
  const RankCost& cost_;
  std::vector<Index> order_;  // ranks, the least loaded first
  struct Heavy {
    Load tokens;
    Index expert;
  };
  std::vector<Heavy> heaviest_;  // experts that no other domain has, the heaviest first
  static constexpr std::size_t kBuckets = 1024;
  std::vector<std::uint32_t> bucket_size_;  // [kBuckets]
  std::vector<char> outside_;               // [num_experts]: A, or another domain, has it
  std::vector<Index> rest_;                 // live ranks not in A
  std::vector<Level> heap_;
};

}  // namespace lplb::replicas
