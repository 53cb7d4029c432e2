// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/expert_id.h"
#include "lplb/types.h"
#include "map/rules.h"

namespace lplb::map {

/// The counts of all ranks. Rank g has counts[g * stride + column[e]] tokens of expert e, if e has
/// several replicas; others are not read. A null `column` stands for column[e] = e.
struct GroupCounts {
  const Load* counts;
  std::ptrdiff_t stride;
  const Index* column;
};

/// Where one rank's tokens of one batch go: a cursor for each expert, which walks over the expert's
/// segments. One of three rules makes the segments. The object keeps its memory from batch to
/// batch. `own` [num_logical]: what this rank counted. `quota` [num_physical]: the split of the
/// group.
class TokenMap {
 public:
  /// Makes room for any placement within the limits.
  void reserve(Index num_logical, Index num_physical);

  /// The rule if the counts of all ranks are known.
  void assign_exactly(const Placement& placement, const GroupCounts& group, const Load* quota,
                      Index rank);
  /// The rule if nothing is known of the other ranks.
  void divide_evenly(const Placement& placement, const Load* own, Index rank);
  /// The rule if only the split of the group is known. If it has no tokens of an expert, that
  /// expert is divided evenly.
  void divide_in_proportion(const Placement& placement, const Load* own, const Load* quota,
                            Index rank);

  /// Maps the tokens that were counted. It moves the cursors, so it can be called only once after a
  /// rule. `physical_idx` may be `topk_idx`.
  template <class Id>
  void apply(std::span<const Id> topk_idx, std::span<Id> physical_idx);

 private:
  struct Cursor {
    Load left;       // tokens of the current segment that are left
    Index physical;  // where the current segment goes
    Index next;      // the segment after the current one
  };

  void start(const Placement& placement);
  void open(Index expert, Index num_segments);
  Segment* room() { return segments_.data() + num_segments_; }

  std::vector<Cursor> cursors_;    // [num_logical]
  std::vector<Segment> segments_;  // [num_physical]: at most one for each replica
  Index num_segments_ = 0;
};

template <class Id>
void TokenMap::apply(std::span<const Id> topk_idx, std::span<Id> physical_idx) {
  const auto num_logical = static_cast<Index>(cursors_.size());
  for (std::size_t i = 0; i < topk_idx.size(); ++i) {
    const Id id = topk_idx[i];
    if (!is_expert(id, num_logical)) [[unlikely]] {
      physical_idx[i] = -1;
      continue;
    }
    Cursor& cursor = cursors_[static_cast<std::size_t>(id)];
    if (cursor.left == 0) [[unlikely]] {
      const Segment& segment = segments_[cursor.next];
      cursor.left = segment.end - segments_[cursor.next - 1].end;
      cursor.physical = segment.physical;
      ++cursor.next;
    }
    --cursor.left;
    physical_idx[i] = cursor.physical;
  }
}

}  // namespace lplb::map
