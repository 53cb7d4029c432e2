// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lplb/planner.h"
#include "map/token_map.h"

namespace lplb {

/// All memory of a planner, sized once for the worst placement within its limits.
struct Planner::State {
  State(const Placement& first, Index own_rank, const PlannerOptions& given,
        std::shared_ptr<Exchange> peers);

  template <class Id>
  BatchStatus run(std::span<const Id> topk_idx, std::span<Id> physical_idx);

  /// Lengths of a batch. Throws ArgumentError.
  void check_batch(std::size_t num_entries, std::size_t num_outputs) const;
  /// Each makes the token map of the batch, whose counts are there.
  BatchStatus plan();
  BatchStatus plan_stale();
  BatchStatus divide_evenly(BatchStatus why);
  /// all -> load. Throws ExchangeError.
  void sum_counts(std::span<const Load> own);
  BatchStatus record_solved();

  /// Against the limits. Throws ArgumentError.
  void check_placement(const Placement& next) const;
  void take_placement(const Placement& next);

  Index rank;
  PlannerOptions options;
  std::shared_ptr<Exchange> exchange;

  // Of the placement.
  Placement placement;
  PackedLayout layout;
  SplitProblem problem;
  std::vector<Index> carrier;  // [num_ranks]: a single-replica expert that lives there, or -1

  // Of the batch.
  std::vector<Load> counts;  // [num_logical]: of this rank
  std::vector<Load> mine;    // [layout.size()]: the same, packed
  std::vector<Load> all;     // [num_ranks, layout.size()]
  std::vector<Load> sums;    // [layout.size()]: of all ranks
  std::vector<Load> load;    // [num_logical]
  Split split;
  Workspace workspace;
  // With staleness:
  std::vector<Load> posted;    // `mine` of the batch that was posted last; empty: none
  std::vector<Load> previous;  // `mine` of the batch that was collected last
  std::uint64_t posted_fingerprint = 0;
  map::TokenMap token_map;
  PlannerStats stats;

 private:
  void check_options() const;
  void allocate();
};

}  // namespace lplb
