// SPDX-License-Identifier: MIT
#include "solve/time/state.h"

#include <algorithm>

#include "core/check.h"

namespace lplb::solvers {

void TimeState::begin(const Tables& tables, const TimeModel& model, std::span<const Load> load) {
  tables_ = &tables;
  model_ = &model;
  fixed_.assign(static_cast<std::size_t>(tables.num_ranks), 0);
  fixed_weight_.assign(static_cast<std::size_t>(tables.num_ranks), 0);
  want_.resize(tables.expert.size());
  // Whatever the split, no rank can cost more than all parts together.
  Int128 most = 0;
  for (Index e = 0; e < tables.num_logical; ++e) {
    const Index rank = tables.fixed_rank[e];
    if (rank < 0) continue;
    const Cost cost = model.curve(rank).of(load[e]);
    const Cost weight = model.weight(rank).of(load[e]);
    most += std::max(cost, weight);
    if (most >= kCostLimit) break;
    fixed_[rank] += cost;
    fixed_weight_[rank] += weight;
  }
  for (const Tables::Place& place : tables.place) {
    const Cost weight = model.weight(place.rank).of(load[place.expert]);
    most += std::max(weight, model.curve(place.rank).of(load[place.expert]));
  }
  for (const Index g : tables.live_ranks) most += model.rank_cost(g);
  check_argument(most < kCostLimit, "load", "its cost passes 2^62 thousandths");
  for (Index k = 0; k < tables.num_replicated(); ++k) want_[k] = load[tables.expert[k]];
  take_.assign(tables.place.size(), 0);
  part_.assign(tables.place.size(), 0);
  cost_ = fixed_;
}

void TimeState::set_all(std::span<const Load> take) {
  cost_ = fixed_;
  for (std::size_t i = 0; i < take.size(); ++i) {
    const Index rank = tables_->place[i].rank;
    take_[i] = take[i];
    part_[i] = model_->curve(rank).of(take[i]);
    cost_[rank] += part_[i];
  }
}

Cost TimeState::sum() const {
  Cost sum = 0;
  for (const Index g : tables_->live_ranks) sum += price(g);
  return sum;
}

Index TimeState::worst() const {
  Index worst = tables_->live_ranks[0];
  for (const Index g : tables_->live_ranks) {
    if (price(g) > price(worst)) worst = g;
  }
  return worst;
}

}  // namespace lplb::solvers
