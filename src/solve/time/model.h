// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/cost_curve.h"
#include "solve/tables.h"

namespace lplb::solvers {

using Tables = SplitProblem::Tables;

/// The steps that TimeModel::least() has beyond those of the model.
inline constexpr int kLeastSteps = 64;

/// A cost model for the ranks of a placement, in integers. A rank's cost is that of its parts by
/// curve(g), and rank_cost(g) once if it has any.
class TimeModel {
 public:
  /// Throws ArgumentError if the model has tables for another number of ranks, or a number passes
  /// kMaxCost after its division by a speed. Does nothing if it saw both before.
  void assign(const CostModel& model, const Tables& tables);

  /// The version of the model that it saw last.
  std::uint64_t model_version() const { return model_version_; }

  const CostCurve& curve(Index rank) const { return curves_[curve_of_[rank]]; }
  Cost rank_cost(Index rank) const { return curve(rank).rank; }
  /// curve(g) is distinct_curves()[curve_index(g)].
  std::span<const CostCurve> distinct_curves() const {
    return std::span(curves_).first(static_cast<std::size_t>(num_curves_));
  }
  Index curve_index(Index rank) const { return curve_of_[rank]; }
  /// All live ranks have the same curve.
  bool uniform() const { return uniform_; }

  /// The measure in which lower bounds are proven: that of a part is what it costs by weight(g).
  /// It is a rank's own cost if the model is uniform, otherwise the cost before the division by
  /// the rank's speed.
  const CostCurve& weight(Index rank) const {
    return weights_[weights_.size() == 1 ? 0 : static_cast<std::size_t>(rank)];
  }
  /// The most weight that parts on `rank` can have if they cost no more than `budget` >= 0.
  Cost most_weight(Index rank, Cost budget) const {
    return uniform_ ? budget : multiply_by_speed(budget, speed_[rank]);
  }
  /// The weight is the same on all ranks, and one part of n tokens never weighs more than several
  /// parts that sum to n.
  bool subadditive() const { return subadditive_; }

  /// For a uniform model: no division of n tokens, into any number of parts, costs less than
  /// least().of(n).
  const CostCurve& least() const { return least_; }

  /// No division of `tokens` into `parts` or more parts, at most `most`, weighs less. 1 <= parts.
  Cost least_weight(Load tokens, Index parts, Index most) const;

 private:
  void find_hull();
  void find_least(Index most);

  std::uint64_t model_version_ = 0;
  std::uint64_t tables_version_ = 0;
  std::vector<CostCurve> curves_, weights_;
  CostCurve least_;
  Index num_curves_ = 0;
  std::vector<Index> curve_of_;  // [num_ranks]
  std::vector<double> speed_;    // [num_ranks]
  bool uniform_ = true;
  bool subadditive_ = true;
  // The lower convex hull of the weights of all ranks: corners, then the slope of the tail.
  struct Corner {
    Load tokens;
    Cost weight;
  };
  std::vector<Corner> hull_, points_;
  Corner tail_{1, 0};
};

}  // namespace lplb::solvers
