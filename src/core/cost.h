// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/exact_speed.h"
#include "core/wide.h"
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
    mantissa_.resize(speed_.size());
    exponent_.resize(speed_.size());
    for (std::size_t g = 0; g < speed_.size(); ++g) {
      const ExactSpeed exact(speed_[g]);
      mantissa_[g] = exact.mantissa;
      exponent_[g] = exact.exponent;
      uniform_ = uniform_ && speed_[g] == speed_[0];
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
    // a.tokens / s_a < b.tokens / s_b  <=>  a.tokens * s_b < b.tokens * s_a, with s = m * 2^e.
    Uint128 left = static_cast<Uint128>(a.tokens) * mantissa_[b.rank];
    Uint128 right = static_cast<Uint128>(b.tokens) * mantissa_[a.rank];
    const int shift = exponent_[b.rank] - exponent_[a.rank];
    if (left != 0 && right != 0) {
      if (shift > 0) {
        if (shift > kWideBits - bits(left)) return 1;
        left <<= shift;
      } else if (shift < 0) {
        if (-shift > kWideBits - bits(right)) return -1;
        right <<= -shift;
      }
    }
    return left < right ? -1 : left > right;
  }

  /// The most tokens, at most `limit`, that cost no more than `level` on `rank`.
  Load capacity(Index rank, Level level, Load limit) const {
    if (uniform_) return std::min(level.tokens, limit);
    const auto fits = [&](Load n) { return compare({n, rank}, level) <= 0; };
    // The estimate is off only by rounding. Widen a bracket around it, then halve the bracket.
    const double estimate = static_cast<double>(level.tokens) * (speed_[rank] / speed_[level.rank]);
    Load low = estimate >= static_cast<double>(limit) ? limit : static_cast<Load>(estimate);
    Load step = 1;
    while (low > 0 && !fits(low)) {
      low = std::max<Load>(0, low - step);
      step *= 2;
    }
    step = 1;
    Load high = low;  // fits
    while (high < limit) {
      const Load next = limit - high > step ? high + step : limit;
      if (!fits(next)) {
        limit = next - 1;  // the answer is in [high, next)
        while (high < limit) {
          const Load middle = high + (limit - high + 1) / 2;
          if (fits(middle)) {
            high = middle;
          } else {
            limit = middle - 1;
          }
        }
        return high;
      }
      high = next;
      step *= 2;
    }
    return high;
  }

  /// The most tokens that cost less than `level` on `rank`; -1 if 0 tokens cost as much.
  Load below(Index rank, Level level, Load limit) const {
    const Load most = capacity(rank, level, limit);
    return compare({most, rank}, level) == 0 ? most - 1 : most;
  }

 private:
  static constexpr int kWideBits = 128;
  static int bits(Uint128 x) {
    const auto high = static_cast<std::uint64_t>(x >> 64);
    return high != 0 ? 128 - std::countl_zero(high)
                     : 64 - std::countl_zero(static_cast<std::uint64_t>(x));
  }

  bool uniform_ = true;
  std::vector<double> speed_;            // [num_ranks]
  std::vector<std::uint64_t> mantissa_;  // speed = mantissa * 2^exponent
  std::vector<int> exponent_;
};

}  // namespace lplb
