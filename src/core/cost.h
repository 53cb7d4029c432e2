// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "core/exact_speed.h"
#include "lplb/solver.h"

namespace lplb {

/// What n tokens cost on a rank: n / speed. Loads of different ranks are compared only by compare()
/// and capacity(). Comparisons are exact: doubles are compared as the rational numbers that they
/// are. cost_curve.h has the cost by a table, which is a sum over experts and so no price of a
/// load.
class RankCost {
 public:
  /// Empty `speed`: every rank has speed 1.
  void assign(Index num_ranks, std::span<const double> speed) {
    uniform_ = true;
    speed_.assign(static_cast<std::size_t>(num_ranks), 1.0);
    if (!speed.empty()) std::copy(speed.begin(), speed.end(), speed_.begin());
    exact_.clear();
    for (const double of_rank : speed_) {
      exact_.emplace_back(of_rank);
      uniform_ = uniform_ && of_rank == speed_[0];
    }
  }

  /// All ranks have the same speed, so levels compare as their tokens do.
  bool uniform() const { return uniform_; }
  double speed(Index rank) const { return speed_[rank]; }
  std::span<const double> speeds() const { return speed_; }
  double price(Level level) const { return static_cast<double>(level.tokens) / speed_[level.rank]; }

  /// -1 if `a` costs less than `b`, 0 if as much, 1 if more. Tokens must be >= 0.
  int compare(Level a, Level b) const {
    if (uniform_) return a.tokens < b.tokens ? -1 : a.tokens > b.tokens;
    return compare_times(a.tokens, exact_[a.rank], b.tokens, exact_[b.rank]);
  }

  /// The most tokens, at most `limit`, that cost no more than `level` on `rank`.
  Load capacity(Index rank, Level level, Load limit) const {
    if (uniform_) return std::min(level.tokens, limit);
    const double estimate = static_cast<double>(level.tokens) * (speed_[rank] / speed_[level.rank]);
    return most_that_fit(estimate, limit, [&](Load n) { return compare({n, rank}, level) <= 0; });
  }

  /// The most tokens that cost less than `level` on `rank`; -1 if 0 tokens cost as much.
  Load below(Index rank, Level level, Load limit) const {
    const Load most = capacity(rank, level, limit);
    return compare({most, rank}, level) == 0 ? most - 1 : most;
  }

 private:
  bool uniform_ = true;
  std::vector<double> speed_;      // [num_ranks]
  std::vector<ExactSpeed> exact_;  // [num_ranks]
};

}  // namespace lplb
