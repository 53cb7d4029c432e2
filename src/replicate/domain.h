// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <vector>

#include "lplb/replicate.h"
#include "replicate/bound.h"
#include "replicate/fill.h"
#include "replicate/tables.h"

namespace lplb::replicas {

/// Plans one domain: the search for a level that closes, and the exact split over what is chosen.
class Domain {
 public:
  /// `cost` must outlive the domain.
  Domain(const Placement& placement, Index first_rank, Index num_ranks,
         const ReplicateOptions& options, const RankCost& cost);

  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;

  const DomainTables& tables() const { return tables_; }
  bool live() const { return !tables_.live_ranks.empty(); }

  /// Takes the tokens of a batch, by logical expert [num_logical], and splits them over the main
  /// slots, optimally within the domain.
  void begin(std::span<const Load> load);

  /// Chooses copies so that the largest load is at most `start` if possible, otherwise near the
  /// least that is possible. If that is above `bound`, raises `bound` by what the number of dynamic
  /// slots proves, and splits exactly over the chosen slots.
  void plan(Level start, Bound& bound);

  // The plan.
  Level max() const { return max_; }
  Index copies() const { return copies_; }
  /// [num_ranks, S]: the expert in each dynamic slot, as the tables number it; -1: unused.
  std::span<const Index> dynamic_expert() const { return dynamic_expert_; }
  Load total() const { return batch_.total; }
  /// [num_ranks * (M + S)]
  std::span<const Load> physical_load() const { return physical_; }

 private:
  bool try_level(Level level, Index detour = -1);
  bool try_detours(Level level);
  void search(Level start);
  void take(const Attempt& attempt);
  void split_exactly();
  bool solve_extended(std::span<const Index> dynamic_expert, std::span<const Load> load);
  void warm_up();

  DomainTables tables_;
  const RankCost& cost_;
  Load min_tokens_;
  Index reference_ = 0;  // the fastest live rank, whose tokens are the finest scale of levels

  DomainBatch batch_;
  Filler filler_;
  SlotBound slot_bound_;
  Attempt best_, trial_;

  // The exact split within the domain; over the main slots only if experts are replicated.
  std::optional<SplitProblem> main_;
  std::optional<SplitProblem> extended_problem_;
  Placement extended_;  // main slots and dynamic slots
  Workspace workspace_;
  Split split_;

  Level max_;
  Index copies_ = 0;
  std::vector<Index> dynamic_expert_;
  std::vector<Load> physical_;
};

}  // namespace lplb::replicas
