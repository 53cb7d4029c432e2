// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "core/cost.h"
#include "replicate/tables.h"

namespace lplb::replicas {

/// Tokens that leave a main slot for another rank.
struct Transfer {
  Index slot;     // the main slot that gives them
  Index rank;     // takes them
  Index dynamic;  // into this dynamic slot of the rank, -1: the rank has the expert already
  Load tokens;
};

/// What fill() made of a level: copies, and the loads that they lead to.
struct Attempt {
  std::vector<Transfer> transfers;  // in the order in which they were chosen
  std::vector<Load> rank_load;      // [num_ranks]
  Index copies = 0;
  Level max;            // the largest load
  bool closed = false;  // no rank is above the level
};

/// Chooses copies for a level.
class Filler {
 public:
  Filler(const DomainTables& tables, const RankCost& cost) : t_(tables), cost_(cost) {}

  /// Starts from no copies and makes one after another until no rank is above `level`, or no copy
  /// is left to be made. The rank with most room below `level` takes as much as fits from one
  /// expert of an overloaded rank:
  ///
  /// - of the most overloaded rank whose heaviest expert fills the room,
  /// - or else the heaviest expert of all overloaded ranks.
  ///
  /// The giver may fall below the level by this. Then it has room, and takes from others later.
  /// That is Walker's alias method (1977) for experts in place of single numbers. Each step fills a
  /// rank or empties a slot, so there are at most num_ranks + num_slots steps. In step `detour`, if
  /// it is >= 0, the rank with the second most room takes.
  void fill(const DomainBatch& batch, Level level, Load min_tokens, Index detour, Attempt& attempt);

  /// Describes the batch without any copy.
  void start(const DomainBatch& batch, Attempt& attempt) const;

 private:
  void find_max(Attempt& attempt) const;

  const DomainTables& t_;
  const RankCost& cost_;
  /// A rank of `takers_`: that with most room, the first of equal ones; -1: there is none.
  Index roomiest(Index except) const;
  /// A rank of `givers_` for a taker with so much room, which is > 0.
  Index giver_for(Load room) const;
  /// Begins an attempt: no copies, and the ranks sorted into takers and givers.
  void begin(const DomainBatch& batch, Level level, Load min_tokens);

  std::vector<Load> left_;           // [num_slots]: tokens that a slot still has
  std::vector<Load> room_;           // [num_ranks]: below the level; negative: above it
  std::vector<Load> capacity_;       // [num_ranks]
  std::vector<Index> free_;          // [num_ranks]: dynamic slots
  std::vector<Index> heaviest_;      // [num_ranks]: the slot with most tokens left
  std::vector<Load> heaviest_left_;  // [num_ranks]: its tokens
  std::vector<std::uint64_t> held_;  // as in the tables, with copies
  std::vector<Index> takers_;        // in no order: with a free slot and room for min_tokens
  std::vector<Index> givers_;        // in no order: above the level
};

}  // namespace lplb::replicas
