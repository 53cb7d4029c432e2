// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/planner.h"
#include "lplb/replicate.h"

namespace lplb::plan {

/// Throws ArgumentError if the options of dynamic slots are out of range, or do not go with others.
void check_dynamic_slots(const PlannerOptions& options);

/// How a planner chooses copies.
ReplicateOptions copy_options(const PlannerOptions& options);

/// A hash of it, for the fingerprint of an exchange, so that ranks which differ find out.
std::uint64_t fingerprint_of(const ReplicateOptions& options);

/// Copies of experts in dynamic slots, for the batches of a planner with PlannerOptions::
/// dynamic_slots.
///
/// NOTE: which slot holds which expert depends on the counts of the batch only, never on what the
/// slots held before, because a rank that joins later, or was behind, does not know that. The ranks
/// must agree on every slot: they send tokens to it.
class Copies {
 public:
  /// `options.max_redundants` is set. Throws ArgumentError if the placement and the options do not
  /// fit.
  Copies(const Placement& placement, const PlannerOptions& options);

  /// Takes another placement. Allocates. Throws ArgumentError, with the object as it was.
  void assign(const Placement& placement);

  /// Chooses the copies of a batch of `load` [num_logical], and writes the split over main and
  /// dynamic slots.
  void choose(std::span<const Load> load, Split& split);
  /// Makes no copies for a batch that is not solved. Slots then count as empty.
  void choose_none();

  /// The placement with the copies of the batch.
  const Placement& placement() const { return extended_; }
  /// The placement without copies, with the same physical ids.
  const Placement& main_slots() const { return main_; }
  const Replication& replication() const { return plan_; }
  std::span<const char> slot_is_new() const { return is_new_; }

  std::uint64_t fingerprint() const { return fingerprint_of(how_); }

 private:
  void take(const Placement& placement);

  ReplicateOptions how_;
  Replicator replicator_;
  Replication plan_;
  Placement extended_;
  Placement main_;
  std::vector<Index> held_;   // [num_ranks, S]: what the last batches put there; -1: nothing
  std::vector<char> is_new_;  // [num_ranks, S]
};

}  // namespace lplb::plan
