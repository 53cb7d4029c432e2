// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "lplb/replicate.h"
#include "lplb/simulate.h"
#include "simulate/judge.h"

namespace lplb::replay {

/// The copies that a policy with dynamic slots makes for the batches of one layer, and the split
/// over main and dynamic slots. Keeps tables and scratch memory; each thread needs an object of its
/// own.
class DynamicSplit {
 public:
  /// `dynamic_slots`: 1 to kMaxDynamicSlots. `options` must outlive the object. If `by_time`, it
  /// has a cost. Throws ArgumentError, which names policies, if the placement's slots and these are
  /// more than kMaxPhysical.
  DynamicSplit(const Placement& placement, Index dynamic_slots, bool by_time,
               const SimulateOptions& options);

  /// Takes another placement.
  void assign(const Placement& placement);

  /// Plans a batch of `load` [num_logical]. Unless `indexed`, of the maps of placement() only
  /// physical_to_logical is that of the batch.
  void run(std::span<const Load> load, bool indexed);
  /// Takes back the copies of the batch: its split is `split` over the slots of the placement.
  void make_no_copies(std::span<const Load> split, const SplitSummary& summary);

  bool by_time() const { return by_time_; }
  /// The placement with the batch's copies, whose slots split() is for.
  const Placement& placement() const { return extended_; }
  std::span<const Load> split() const { return split_; }
  /// The largest load / speed of a rank is at least this, whatever is copied.
  double bound() const { return plan_.lower_bound; }
  /// If by_time(): no split over these copies costs less, in the unit of the model. Otherwise NaN.
  double cost_bound() const { return cost_bound_; }
  const CopyOutcome& copies() const { return copies_; }

 private:
  void split_by_time(std::span<const Load> load);
  void put_copies(bool indexed);
  void drop_unused();
  double exposed_us() const;

  const SimulateOptions& options_;
  ReplicateOptions how_;
  SolveOptions by_cost_;
  bool by_time_;
  Replicator replicator_;
  Replication plan_;
  Placement extended_;
  std::optional<SplitProblem> problem_;  // of extended_, if by_time_
  Workspace workspace_;
  Split time_split_;
  std::vector<Load> split_;
  std::vector<Index> sent_;  // [num_ranks]
  double cost_bound_;
  CopyOutcome copies_;
};

}  // namespace lplb::replay
