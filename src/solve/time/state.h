// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "solve/time/model.h"

namespace lplb::solvers {

/// A split and what it costs, in the terms of Tables. Searches change it place by place.
class TimeState {
 public:
  /// `load` [num_logical], checked. No replicated expert has tokens on a place yet.
  void begin(const Tables& tables, const TimeModel& model, std::span<const Load> load);

  /// Gives place i `tokens` in place of what it had.
  void set(Index place, Load tokens) {
    const Index rank = tables_->place[place].rank;
    const Cost cost = model_->curve(rank).of(tokens);
    cost_[rank] += cost - part_[place];
    part_[place] = cost;
    take_[place] = tokens;
  }
  /// Sets all places. `take` [num places].
  void set_all(std::span<const Load> take);

  Load take(Index place) const { return take_[place]; }
  std::span<const Load> takes() const { return take_; }
  Cost part(Index place) const { return part_[place]; }
  /// The parts of a rank, without its constant.
  Cost parts(Index rank) const { return cost_[rank]; }
  /// The parts of the experts that have only this rank.
  Cost fixed(Index rank) const { return fixed_[rank]; }
  /// The same in the measure of lower bounds.
  Cost fixed_weight(Index rank) const { return fixed_weight_[rank]; }
  Cost price_of(Index rank, Cost parts) const {
    return parts == 0 ? 0 : parts + model_->rank_cost(rank);
  }
  Cost price(Index rank) const { return price_of(rank, cost_[rank]); }
  /// A live rank with the largest price; of several, the one with the lowest id.
  Index worst() const;
  Cost max_price() const { return price(worst()); }
  /// What all ranks cost together.
  Cost sum() const;
  Load want(Index k) const { return want_[k]; }

  const Tables& tables() const { return *tables_; }
  const TimeModel& model() const { return *model_; }

 private:
  const Tables* tables_ = nullptr;
  const TimeModel* model_ = nullptr;
  std::vector<Load> want_;                  // [K]
  std::vector<Load> take_;                  // [num places]
  std::vector<Cost> part_;                  // [num places]
  std::vector<Cost> cost_;                  // [num_ranks]
  std::vector<Cost> fixed_, fixed_weight_;  // [num_ranks]
};

}  // namespace lplb::solvers
