// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/wide.h"
#include "lplb/cost.h"

namespace lplb {

/// Sums and products of costs stop here.
inline constexpr Cost kCostLimit = Cost{1} << 62;

/// ceil(cost / speed), or -1 if that passes kMaxCost. `speed` is finite and > 0.
Cost divide_by_speed(Cost cost, double speed);
/// floor(cost * speed), at most kCostLimit.
Cost multiply_by_speed(Cost cost, double speed);

/// A table of a CostModel as integers, for a rank of some speed. Nothing else in the project knows
/// how a table is read.
struct CostCurve {
  Cost rank = 0;
  std::vector<Load> tokens;
  std::vector<Cost> cost;
  Load then_every = 1;
  Cost then_cost = 0;

  /// Throws ArgumentError("cost", ...) if a number passes kMaxCost.
  void assign(const CostTable& table, double speed);

  /// What n tokens cost; at most kCostLimit.
  Cost of(Load n) const {
    if (n <= 0) return 0;
    if (n <= tokens.back()) return cost[step_of(n)];
    const Load more = (n - tokens.back() - 1) / then_every + 1;
    const Int128 sum = static_cast<Int128>(more) * then_cost + cost.back();
    return sum < kCostLimit ? static_cast<Cost>(sum) : kCostLimit;
  }

  /// The steps that n tokens take: the least number whose end has room for them; 0 for n <= 0.
  Load steps(Load n) const {
    if (n <= 0) return 0;
    if (n <= tokens.back()) return static_cast<Load>(step_of(n)) + 1;
    return static_cast<Load>(tokens.size()) + (n - tokens.back() - 1) / then_every + 1;
  }
  /// The most tokens in so many steps. It must not pass 2^63 - 1.
  Load end(Load steps) const {
    if (steps <= 0) return 0;
    const auto given = static_cast<Load>(tokens.size());
    if (steps <= given) return tokens[static_cast<std::size_t>(steps) - 1];
    return tokens.back() + (steps - given) * then_every;
  }

  /// The most tokens, at most `limit`, that cost no more than `budget`.
  Load capacity(Cost budget, Load limit) const {
    if (budget < cost[0]) return 0;
    if (budget < cost.back()) {
      const auto above = std::upper_bound(cost.begin(), cost.end(), budget);
      return std::min(limit, tokens[static_cast<std::size_t>(above - cost.begin()) - 1]);
    }
    if (then_cost == 0 || limit <= tokens.back()) return limit;
    const Int128 most =
        static_cast<Int128>((budget - cost.back()) / then_cost) * then_every + tokens.back();
    return most < limit ? static_cast<Load>(most) : limit;
  }

  bool operator==(const CostCurve&) const = default;

 private:
  std::size_t step_of(Load n) const {
    return static_cast<std::size_t>(std::lower_bound(tokens.begin(), tokens.end(), n) -
                                    tokens.begin());
  }
};

}  // namespace lplb
