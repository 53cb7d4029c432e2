// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "solve/time/state.h"

namespace lplb::solvers {

/// Lower bounds of the largest price. A set S of ranks proves T if the experts that live only on S
/// weigh more than S can carry within T - 1 (docs/time.md).
class TimeProof {
 public:
  /// Begins with the bound 0 and no set. `state` must outlive the proofs; only what it has of the
  /// batch is read, not its split. No bound above `most` will be asked for.
  void begin(const TimeState& state, Cost most);

  /// The best bound so far, and the set that proves it: [num_ranks].
  Cost bound() const { return bound_; }
  std::span<const char> set() const { return best_set_; }

  /// Raises the bound to what the set proves, at most `most`. `ranks` are distinct and live.
  void try_set(std::span<const Index> ranks, Cost most);

 private:
  bool proves(std::span<const Index> ranks, Cost budget);
  void find_confined(std::span<const Index> ranks);
  Cost round_down(Cost room, Index parts) const;
  void find_sums();
  Cost least_of_two(Index begin, Load want) const;

  const TimeState* state_ = nullptr;
  Cost bound_ = 0;
  std::vector<char> best_set_, in_set_;  // [num_ranks]
  std::vector<Index> confined_;          // the replicated experts that live only on the set
  std::vector<Index> seen_;              // [K]: the set in which an expert was met last
  Index set_number_ = 0;
  Cost most_bound_ = 0;
  std::vector<Index> active_places_;  // [num_ranks]: places of experts with tokens
  std::vector<Load> most_;            // the most tokens that the places of an expert can take
  struct Sum {
    Cost weight;
    Index parts;  // the least number of parts that sum to it
  };
  std::vector<Sum> sums_, next_sums_;  // all sums of parts, ascending; empty: too many
};

}  // namespace lplb::solvers
