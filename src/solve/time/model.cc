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
  Index most = 1;
  for (Index k = 0; k < tables.num_replicated(); ++k) {
    most = std::max(most, tables.place_begin[k + 1] - tables.place_begin[k]);
  }
  if (uniform_) find_least(most);
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

/// For each step, the least cost of as many tokens as its first has: whole, in two parts, of which
/// the first ends a step, or in three parts or more, by the lines. So many steps beyond the last
/// one. Then a line that no number of parts is below: the hull's last one, or if that begins below
/// 0, the one through 0 with the least cost of a token.
void TimeModel::find_least(Index most) {
  const CostCurve& w = weights_[0];
  const auto least_of = [&](Load tokens) {
    Cost best = std::min(w.of(tokens), least_weight(tokens, 3, most));
    for (const Load end : least_.tokens) {
      if (end < tokens) best = std::min(best, w.of(end) + w.of(tokens - end));
    }
    return best;
  };
  least_.tokens.clear();
  least_.cost.clear();
  least_.then_every = w.then_every;
  Load before = 0;
  const auto add_step = [&](Load end) {
    least_.cost.push_back(least_of(before + 1));
    least_.tokens.push_back(end);
    before = end;
  };
  for (const Load end : w.tokens) add_step(end);
  for (int i = 0; i < kLeastSteps && before <= kMaxCostTokens - w.then_every; ++i) {
    add_step(before + w.then_every);
  }
  Corner line{tail_.tokens, tail_.weight};
  Int128 from = static_cast<Int128>(hull_.back().weight) * tail_.tokens -
                static_cast<Int128>(tail_.weight) * hull_.back().tokens;
  if (from < 0) {
    from = 0;
    for (const Corner& p : hull_) {
      if (p.tokens > 0 && static_cast<Int128>(p.weight) * line.tokens <
                              static_cast<Int128>(line.weight) * p.tokens) {
        line = p;
      }
    }
  }
  const auto on_line = [&](Load tokens) {
    return (from + static_cast<Int128>(line.weight) * tokens) / line.tokens;
  };
  least_.then_cost =
      static_cast<Cost>(static_cast<Int128>(line.weight) * w.then_every / line.tokens);
  const Int128 last = on_line(before + 1) - least_.then_cost;
  if (last < least_.cost.back()) least_.cost.back() = static_cast<Cost>(last);
}

}  // namespace lplb::solvers
