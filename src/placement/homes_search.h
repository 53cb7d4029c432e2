// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "placement/homes_judge.h"
#include "placement/homes_start.h"

namespace lplb::placement {

/// What a search may do.
struct SearchLimits {
  std::int64_t max_trials = 0;
  std::int64_t max_moves = 0;   ///< slots with an expert that is new on their rank
  std::int64_t least_gain = 1;  ///< a change must lower the judge's value by so much
  std::int64_t move_gain = 0;   ///< a move must lower it by so much more
  std::int64_t home_gain = 0;   ///< the same of the move of a home
  bool move_homes = false;      ///< homes may be exchanged with each other
  /// When the search ends in any case. max(): never, so that it does not read the clock.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

/// The slots that a search may change.
struct SearchSlots {
  SearchSlots(const HomesShape& shape, const HomesStart& start, bool move_homes);

  std::vector<Index> free;          ///< they may get other experts
  std::vector<Index> homes;         ///< they may be exchanged with each other
  std::int64_t moves_of_start = 0;  ///< slots with an expert that is new on their rank
};

/// A change that the search has made, and what it led to.
struct SearchStep {
  SlotEdit edit[kMaxEdits];
  int count = 0;
  std::int64_t value = 0;  ///< of the judge
  std::int64_t moves = 0;  ///< slots with an expert that is new on their rank
};

/// The hill climb: a round lists all changes whose bound promises a gain, and tries them, the most
/// promising first. A change is another expert in one slot, or, if no such change helps, the
/// exchange of the experts in two slots; after that, if homes may move, the exchange of two homes.
/// What a round does depends on no budget, so a search with a larger budget begins with the same
/// steps as one with a smaller one.
class HomesSearch {
 public:
  /// `judge` has been given start.experts.
  HomesSearch(const HomesShape& shape, const HomesStart& start, const SearchLimits& limits,
              HomesJudge& judge);

  /// Returns how many trials it took.
  std::int64_t run();
  /// How many slots of the start have an expert that is new on their rank.
  std::int64_t moves_of_start() const { return slots_.moves_of_start; }
  const std::vector<SearchStep>& steps() const { return steps_; }

 private:
  struct Candidate {
    std::int64_t bound;
    SlotEdit edit[kMaxEdits];
    int count;
    bool of_homes;
  };

  bool try_replacements();
  bool try_exchanges(const std::vector<Index>& slots, bool of_homes);
  void consider(Candidate candidate);
  bool try_candidates();
  bool is_allowed(const Candidate& candidate) const;
  Index more_moves(const Candidate& candidate) const;
  std::int64_t needed(const Candidate& candidate, Index moves) const;
  bool is_used_up() const;

  const HomesShape& shape_;
  const HomesStart& start_;
  SearchLimits limits_;
  HomesJudge& judge_;
  SearchSlots slots_;
  std::vector<Candidate> candidates_;
  std::int64_t trials_ = 0;
  std::int64_t num_moves_ = 0;
  std::vector<SearchStep> steps_;
};

}  // namespace lplb::placement
