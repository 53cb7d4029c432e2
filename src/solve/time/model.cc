// SPDX-License-Identifier: MIT
#include "solve/time/model.h"

#include <algorithm>

#include "core/check.h"

namespace lplb::solvers {
namespace {

bool is_subadditive(const CostCurve& curve) {
  // It is enough to look at the ends of the steps. Beyond the last step all differences repeat.
  for (std::size_t i = 0; i < curve.tokens.size(); ++i) {
    for (std::size_t j = i; j < curve.tokens.size(); ++j) {
      const Load sum = curve.tokens[i] + curve.tokens[j];
      if (curve.of(sum) > curve.cost[i] + curve.cost[j]) return false;
    }
  }
  return true;
}

}  // namespace

void TimeModel::assign(const CostModel& model, const Tables& tables) {
  if (model.version() == model_version_ && tables.version == tables_version_) return;
  model_version_ = 0;  // until everything is here
  const std::vector<CostTable>& given = model.tables();
  check_argument(given.size() == 1 || given.size() == static_cast<std::size_t>(tables.num_ranks),
                 "cost", "has tables for {} ranks, expected one table or one for each of {} ranks",
                 given.size(), tables.num_ranks);
  const auto table_of = [&](Index g) -> const CostTable& {
    return given[given.size() == 1 ? 0 : static_cast<std::size_t>(g)];
  };
  speed_.assign(tables.cost.speeds().begin(), tables.cost.speeds().end());
  curve_of_.assign(static_cast<std::size_t>(tables.num_ranks), 0);
  Index count = 0;
  Index before = -1;
  for (const Index g : tables.live_ranks) {
    if (before >= 0 && speed_[g] == speed_[before] && table_of(g) == table_of(before)) {
      curve_of_[g] = curve_of_[before];
    } else {
      if (curves_.size() == static_cast<std::size_t>(count)) curves_.emplace_back();
      curves_[static_cast<std::size_t>(count)].assign(table_of(g), speed_[g]);
      curve_of_[g] = count++;
    }
    before = g;
  }
  num_curves_ = count;
  uniform_ = count == 1;
  if (uniform_) {
    weights_.resize(1);
    weights_[0] = curves_[0];
  } else {
    weights_.resize(given.size());
    for (std::size_t g = 0; g < given.size(); ++g) weights_[g].assign(given[g], 1.0);
  }
  subadditive_ = weights_.size() == 1 && is_subadditive(weights_[0]);
  find_hull();
  model_version_ = model.version();
  tables_version_ = tables.version;
}

/// The corners of the lower convex hull of all steps' ends (Andrew's monotone chain, 1979). It
/// begins at no tokens with the least cost of a part.
void TimeModel::find_hull() {
  points_.clear();
  tail_ = {weights_[0].then_every, weights_[0].then_cost};
  Cost first = weights_[0].cost[0];
  for (const CostCurve& w : weights_) {
    first = std::min(first, w.cost[0]);
    for (std::size_t i = 0; i < w.tokens.size(); ++i) points_.push_back({w.tokens[i], w.cost[i]});
    const Corner tail{w.then_every, w.then_cost};
    if (static_cast<Int128>(tail.weight) * tail_.tokens <
        static_cast<Int128>(tail_.weight) * tail.tokens) {
      tail_ = tail;
    }
  }
  std::sort(points_.begin(), points_.end(), [](Corner a, Corner b) {
    return a.tokens != b.tokens ? a.tokens < b.tokens : a.weight < b.weight;
  });
  const auto steeper = [](Corner a, Corner b, Corner c) {  // ab is at least as steep as bc
    return static_cast<Int128>(b.weight - a.weight) * (c.tokens - b.tokens) >=
           static_cast<Int128>(c.weight - b.weight) * (b.tokens - a.tokens);
  };
  hull_.assign(1, {0, first});
  for (const Corner& p : points_) {
    if (p.tokens == hull_.back().tokens) continue;
    while (hull_.size() > 1 && steeper(hull_[hull_.size() - 2], hull_.back(), p)) hull_.pop_back();
    hull_.push_back(p);
  }
  while (hull_.size() > 1 &&
         steeper(hull_[hull_.size() - 2], hull_.back(),
                 {hull_.back().tokens + tail_.tokens, hull_.back().weight + tail_.weight})) {
    hull_.pop_back();
  }
}

/// Each line a + b n along the hull is below every part's weight. So p parts of n tokens in all
/// weigh at least p a + b n.
Cost TimeModel::least_weight(Load tokens, Index parts, Index most) const {
  Int128 best = static_cast<Int128>(parts) * hull_[0].weight;
  for (std::size_t i = 0; i < hull_.size(); ++i) {
    const bool last = i + 1 == hull_.size();
    const Load run = last ? tail_.tokens : hull_[i + 1].tokens - hull_[i].tokens;
    const Cost rise = last ? tail_.weight : hull_[i + 1].weight - hull_[i].weight;
    // run * a; it is negative if the line is steep enough.
    const Int128 intercept =
        static_cast<Int128>(hull_[i].weight) * run - static_cast<Int128>(rise) * hull_[i].tokens;
    const Int128 sum =
        intercept * (intercept >= 0 ? parts : most) + static_cast<Int128>(rise) * tokens;
    best = std::max(best, (sum + run - 1) / run);
  }
  return best < kCostLimit ? static_cast<Cost>(best) : kCostLimit;
}

}  // namespace lplb::solvers
