// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lplb/planner.h"
#include "map/token_map.h"
#include "plan/copies.h"

namespace lplb {

/// All memory of a planner. Its size is fixed at construction, for the worst placement within the
/// limits.
struct Planner::State {
  State(const Placement& first, Index own_rank, const PlannerOptions& given,
        std::shared_ptr<Exchange> peers);

  template <class Id>
  BatchStatus run(std::span<const Id> topk_idx, std::span<Id> physical_idx);
  template <class Id>
  void run_alone(std::span<const Id> topk_idx, std::span<Id> physical_idx);

  /// Checks the lengths of a batch. Throws ArgumentError.
  void check_batch(std::size_t num_entries, std::size_t num_outputs) const;
  /// Each of these makes the token map of the batch. The batch has been counted.
  BatchStatus plan();
  BatchStatus plan_copies();
  BatchStatus plan_stale();
  BatchStatus divide_evenly(BatchStatus why);
  /// Makes room in `all` for rows of `size` counts, and returns where the exchange writes those of
  /// its members.
  std::span<Load> room_for_rows(std::size_t size);
  /// Moves the members' rows to those of their ranks. The rows of the other ranks become 0.
  void spread_rows();
  /// Computes `load` from `all`. `own` [layout.size()]: this rank's row. Throws ExchangeError.
  void sum_counts(std::span<const Load> own);
  /// Exchanges counts and makes `load` of them. Returns whether all have come.
  bool exchange_counts();
  BatchStatus record_solved();
  map::GroupCounts group_counts() const {
    return {all.data(), static_cast<std::ptrdiff_t>(layout.size()), layout.column.data()};
  }
  /// Throws ArgumentError if the planner has no dynamic slots.
  const plan::Copies& with_copies() const;

  /// Checks `next` against the limits. Throws ArgumentError.
  void check_placement(const Placement& next) const;
  void take_placement(const Placement& next);

  /// Costs and copies depend on the tokens of each expert, also of those with one replica.
  Singles singles() const {
    const bool each = options.solve.cost != nullptr || options.dynamic_slots > 0;
    return each ? Singles::kEach : Singles::kSummed;
  }

  Index rank;
  PlannerOptions options;
  std::shared_ptr<Exchange> exchange;
  std::vector<Index> members_below;  // [num_ranks + 1]: see plan::members_below()

  // The placement, and what follows from it.
  Placement placement;
  PackedLayout layout;
  SplitProblem problem;
  std::unique_ptr<plan::Copies> copies;  // null without dynamic slots
  // [num_ranks]: the expert that gets the sum of a rank's experts with one replica, or -1
  std::vector<Index> carrier;

  // The current batch.
  std::vector<Load> counts;  // [num_logical]: what this rank counted
  std::vector<Load> mine;    // [layout.size()]: the same, packed
  std::vector<Load> all;     // [num_ranks, layout.size()]
  std::vector<Load> sums;    // [layout.size()]: sums over all ranks
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
