// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/solver.h"

namespace lplb::replicas {

/// How a choice of copies splits exactly. NOTE: one solver for any number of ranks, because the
/// device has a twin of flow only.
inline const SolveOptions kExactly{.solver = Solver::kFlow};

/// The ranks of one domain and what their main slots hold. Ranks, slots and experts are numbered
/// within the domain: rank 0 is `first_rank` of the group, slot i * M is the first one of rank i.
struct DomainTables {
  Index first_rank = 0;
  Index num_ranks = 0;
  Index main_slots = 0;     // M
  Index dynamic_slots = 0;  // S

  std::vector<Index> live_ranks;    // of the group, ascending
  std::vector<char> alive;          // [num_ranks]
  std::vector<Index> expert;        // [num_experts]: logical ids, ascending; each is in a live slot
  std::vector<char> confined;       // [num_experts]: no other domain has a live slot of it
  std::vector<Index> slot_expert;   // [num_ranks * M]; -1 on dead ranks
  std::vector<std::uint64_t> held;  // [num_ranks, words]: a bit for each expert in a main slot
  Index words = 0;
  bool replicated = false;  // some expert is in several live slots

  Index num_experts() const { return static_cast<Index>(expert.size()); }
  Index num_slots() const { return num_ranks * main_slots; }
  Index rank_of(Index slot) const { return slot / main_slots; }
  /// Whether a live rank has an expert in a main slot.
  bool holds(Index rank, Index e) const {
    return (held[static_cast<std::size_t>(words) * rank + e / 64] >> (e % 64) & 1) != 0;
  }

  DomainTables(const Placement& placement, Index first, Index count, Index dynamic);

  /// Finds the heaviest of a rank's slots; of equal ones the first.
  Index heaviest_slot(Index rank, std::span<const Load> left) const {
    Index best = rank * main_slots;
    for (Index slot = best + 1; slot < (rank + 1) * main_slots; ++slot) {
      if (left[slot] > left[best]) best = slot;
    }
    return best;
  }
};

/// The tokens of a batch in one domain, before any copy.
struct DomainBatch {
  Load total = 0;
  std::vector<Load> want;         // [num_experts]
  std::vector<Load> slot_tokens;  // [num_slots]: a split of them over the main slots
  std::vector<Load> rank_load;    // [num_ranks]
  std::vector<Index> heaviest;    // [num_ranks]: heaviest_slot()
};

}  // namespace lplb::replicas
