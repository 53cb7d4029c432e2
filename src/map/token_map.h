// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/expert_id.h"
#include "lplb/types.h"
#include "map/rules.h"

namespace lplb::map {

/// What every rank counted. Tokens of expert e on rank g: counts[g * stride + e]; where `packed`
/// (see PackedLayout), of the k-th replicated expert: counts[g * stride + k].
struct GroupCounts {
  const Load* counts;
  std::ptrdiff_t stride;
  bool packed;
};

/// Where one rank's tokens of one batch go: a cursor per expert that walks over its segments. Made
/// by one of three rules; kept from batch to batch it keeps its memory. `own` [num_logical] is what
/// this rank counted, `quota` [num_physical] the split of the group.
class TokenMap {
 public:
  /// Makes room for any placement within the limits.
  void reserve(Index num_logical, Index num_physical);

  /// Every rank's counts are known.
  void assign_exactly(const Placement& placement, const GroupCounts& group, const Load* quota,
                      Index rank);
  /// No other rank is known.
  void divide_evenly(const Placement& placement, const Load* own, Index rank);
  /// Only the group's split is known. An expert for which it has no tokens is divided evenly.
  void divide_in_proportion(const Placement& placement, const Load* own, const Load* quota,
                            Index rank);

  /// Walks over the tokens that were counted, once. `physical_idx` may be `topk_idx`.
  template <class Id>
  void apply(std::span<const Id> topk_idx, std::span<Id> physical_idx);

 private:
  struct Cursor {
    Load left;  // tokens until the segment ends
    Index physical;
    Index next;  // the segment after it
  };

  void start(const Placement& placement);
  void open(Index expert, Index num_segments);
  Segment* room() { return segments_.data() + num_segments_; }

  std::vector<Cursor> cursors_;    // [num_logical]
  std::vector<Segment> segments_;  // [num_physical] is room enough: one a replica
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
