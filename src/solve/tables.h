// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/cost.h"
#include "lplb/solver.h"

namespace lplb {

/// What the solvers read: a placement without dead ranks, and without experts that leave no choice.
/// Experts on one live rank are "fixed". The others are "replicated", numbered k = 0, 1, ... in the
/// order of their colours, so that experts of one colour are neighbours and share no rank. The
/// distinct live ranks of a replicated expert are its "places"; a place may hold several slots.
struct SplitProblem::Tables {
  Index num_ranks = 0;
  Index num_logical = 0;
  Index num_physical = 0;
  RankCost cost;
  std::vector<Index> live_ranks;  // ascending

  std::vector<Index> fixed_rank;     // [num_logical]: the only live rank; -1: replicated
  std::vector<Index> fixed_carrier;  // [num_ranks]: a fixed expert of the rank; -1: none
  std::vector<Index> fixed_slot;  // [num_logical]: the only live slot; -1: several, or replicated

  // An expert on a rank, fixed or replicated, whose tokens are divided among its slots there.
  struct Place {
    Index expert;  // logical
    Index rank;
    Index slot_begin;  // into slots
    Index slot_count;
  };
  std::vector<Place> shared;  // fixed experts with several slots
  std::vector<Index> slots;   // physical ids

  std::vector<Index> expert;       // [K]: logical id
  std::vector<Index> place_begin;  // [K + 1], into place
  std::vector<Place> place;        // ranks ascending within an expert

  // The places on each rank, ascending, and the expert (k) of each place.
  std::vector<Index> incident_begin;  // [num_ranks + 1]
  std::vector<Index> incident;
  std::vector<Index> place_owner;

  std::vector<Index> colour;  // [K], ascending

  // The parts: live ranks that replicated experts join. Ranks ascend within a part, and parts
  // ascend by their first rank.
  std::vector<Index> part_begin;  // [num_parts + 1], into part_rank
  std::vector<Index> part_rank;

  Index num_parts() const { return static_cast<Index>(part_begin.size()) - 1; }
  std::span<const Index> part(Index i) const {
    return {part_rank.data() + part_begin[i],
            static_cast<std::size_t>(part_begin[i + 1] - part_begin[i])};
  }

  Index num_replicated() const { return static_cast<Index>(expert.size()); }

  /// The version of this content. Each assign() makes another one, unique in the process.
  std::uint64_t version = 0;

  void assign(const Placement& placement);

 private:
  void collect_places(const Placement& placement);
  void colour_experts();
  void index_ranks();
  void find_parts();

  // Scratch memory of assign(), kept so that a rebalance does not allocate.
  std::vector<std::uint64_t> used_;  // [num_ranks, words]: colours that a rank's experts have
  std::vector<Index> order_, old_colour_, old_expert_, old_begin_, root_;
  std::vector<Place> old_place_;
};

}  // namespace lplb
