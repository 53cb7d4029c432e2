// SPDX-License-Identifier: MIT
#include "solve/verify.h"

#include <algorithm>
#include <map>

#include "core/check.h"
#include "core/cost_curve.h"
#include "core/format.h"

// Checks what a split costs and the proof of its bound. It shares the meaning of a cost table with
// the solver (core/cost_curve.h), and nothing else. docs/time.md has the proof.
namespace lplb::solvers {
namespace {

constexpr int kMaxCheckedDivisions = 4096;
constexpr std::size_t kMaxCheckedSums = 4096;

class CostCheck {
 public:
  CostCheck(const Placement& placement, std::span<const Load> load, const Split& split,
            const CostModel& model)
      : p_(placement), load_(load), split_(split) {
    const auto& tables = model.tables();
    check_argument(tables.size() == 1 || tables.size() == static_cast<std::size_t>(p_.num_ranks),
                   "cost",
                   "has tables for {} ranks, expected one table or one for each of {} ranks",
                   tables.size(), p_.num_ranks);
    for (Index g = 0; g < p_.num_ranks; ++g) {
      const CostTable& table = tables[tables.size() == 1 ? 0 : static_cast<std::size_t>(g)];
      curves_.emplace_back();
      weights_.emplace_back();
      if (!p_.alive(g)) continue;
      curves_.back().assign(table, p_.speed(g));
      weights_.back().assign(table, 1.0);
      if (first_ < 0) first_ = g;
      uniform_ = uniform_ && curves_.back() == curves_[first_];
    }
    if (uniform_) weights_ = curves_;
    for (Index e = 0; e < p_.num_logical_experts; ++e) {
      ranks_.emplace_back();
      for (const Index slot : p_.replicas(e)) {
        const Index g = p_.rank_of(slot);
        if (p_.alive(g) && (ranks_.back().empty() || ranks_.back().back() != g)) {
          ranks_.back().push_back(g);
        }
      }
    }
  }

  std::string check() {
    std::string problem = check_costs();
    if (problem.empty()) problem = check_figures();
    if (problem.empty() && split_.cost.bound > 0) problem = check_proof();
    return problem;
  }

 private:
  /// rank_cost, active_experts and max follow from physical_load.
  std::string check_costs() const {
    std::map<std::pair<Index, Index>, Load> tokens;  // of (rank, expert)
    for (Index slot = 0; slot < p_.num_physical(); ++slot) {
      if (split_.physical_load[slot] == 0) continue;
      tokens[{p_.rank_of(slot), p_.physical_to_logical[slot]}] += split_.physical_load[slot];
    }
    std::vector<Cost> cost(static_cast<std::size_t>(p_.num_ranks), 0);
    std::vector<Index> active(static_cast<std::size_t>(p_.num_ranks), 0);
    for (const auto& [place, count] : tokens) {
      const Index g = place.first;
      if (active[g]++ == 0) cost[g] = curves_[g].rank;
      cost[g] += curves_[g].of(count);
    }
    for (Index g = 0; g < p_.num_ranks; ++g) {
      if (cost[g] != split_.cost.rank_cost[g]) {
        return formatted("rank {} costs {} thousandths, rank_cost says {}", g, cost[g],
                         split_.cost.rank_cost[g]);
      }
      if (active[g] != split_.cost.active_experts[g]) {
        return formatted("rank {} has {} active experts, active_experts says {}", g, active[g],
                         split_.cost.active_experts[g]);
      }
    }
    const Cost most = *std::max_element(cost.begin(), cost.end());
    if (most != split_.cost.max) {
      return formatted("the largest cost is {}, max says {}", most, split_.cost.max);
    }
    return "";
  }

  std::string check_figures() const {
    const SplitCost& c = split_.cost;
    const auto thousandths = static_cast<double>(kCostsPerUnit);
    if (c.max_cost != static_cast<double>(c.max) / thousandths ||
        c.lower_bound != static_cast<double>(c.bound) / thousandths) {
      return "max_cost and lower_bound are not max and bound";
    }
    if (c.bound > c.max) return "the lower bound of the cost is above the largest cost";
    if ((c.bound == c.max) != (split_.status == SolveStatus::kOptimal)) {
      return "status does not say whether the largest cost equals its bound";
    }
    return "";
  }

  /// Checks that the set cannot stay below the bound.
  std::string check_proof() {
    const Cost budget = split_.cost.bound - 1;
    std::vector<char> in_set(static_cast<std::size_t>(p_.num_ranks), 0);
    for (const Index g : split_.cost.bottleneck_ranks) {
      if (g < 0 || g >= p_.num_ranks || in_set[g] != 0 || !p_.alive(g)) {
        return formatted("cost: bottleneck_ranks: {} is no live rank or stands twice", g);
      }
      in_set[g] = 1;
    }
    // What the ranks must carry in any case, and how many other experts they could carry.
    std::vector<Cost> fixed(in_set.size(), 0), fixed_weight(in_set.size(), 0);
    std::vector<Index> others(in_set.size(), 0);
    Load most = 0;
    for (std::size_t e = 0; e < ranks_.size(); ++e) {
      if (load_[e] == 0) continue;
      if (ranks_[e].size() == 1) {
        fixed[ranks_[e][0]] += curves_[ranks_[e][0]].of(load_[e]);
        fixed_weight[ranks_[e][0]] += weights_[ranks_[e][0]].of(load_[e]);
        continue;
      }
      for (const Index g : ranks_[e]) ++others[g];
      most = std::max(most, load_[e]);
    }
    subadditive_ = is_subadditive();
    left_.assign(in_set.size(), 0);
    for (Index g = 0; g < p_.num_ranks; ++g) left_[g] = budget - curves_[g].rank - fixed[g];

    Int128 room = 0, room_parts = 0;
    const std::map<Cost, Index> sums = sums_of_parts(most, budget);
    for (const Index g : split_.cost.bottleneck_ranks) {
      if (fixed[g] > 0 && left_[g] < 0) return "";  // this rank alone passes the budget
      const Cost left = std::max<Cost>(0, left_[g]);
      room_parts += std::min<Cost>(others[g], left / curves_[g].cost[0]);
      if (uniform_) {
        room += largest_sum(sums, left, others[g]);
      } else {
        room += multiply_by_speed(std::max<Cost>(0, budget - curves_[g].rank), p_.speed(g)) -
                fixed_weight[g];
      }
    }
    for (std::size_t e = 0; e < ranks_.size(); ++e) {
      const auto inside = [&](Index g) { return in_set[g] != 0; };
      if (load_[e] == 0 || ranks_[e].size() < 2) continue;
      if (!std::all_of(ranks_[e].begin(), ranks_[e].end(), inside)) continue;
      const Cost weight = least_weight(e, room_parts);
      if (weight < 0) return "";  // it does not fit at all
      room -= weight;
    }
    if (room < 0 || room_parts < 0) return "";
    return formatted("cost: bottleneck_ranks can stay below {} thousandths", split_.cost.bound);
  }

  /// All sums <= budget of what parts of up to `most` tokens can cost, with the least number of
  /// parts for each; empty if there are more than kMaxCheckedSums.
  std::map<Cost, Index> sums_of_parts(Load most, Cost budget) const {
    std::map<Cost, Index> sums;
    if (!uniform_ || first_ < 0) return sums;
    sums[0] = 0;
    const CostCurve& curve = curves_[first_];
    for (Load n = 1; n <= most && curve.of(n) <= budget;) {
      const Cost cost = curve.of(n);
      for (auto sum = sums.begin(); sum != sums.end(); ++sum) {  // reaches what it inserts, too
        if (sum->first + cost > budget) break;
        const auto [other, is_new] = sums.try_emplace(sum->first + cost, sum->second + 1);
        if (!is_new) other->second = std::min(other->second, sum->second + 1);
        if (sums.size() > kMaxCheckedSums) return {};
      }
      const Load last = curve.capacity(cost, most);
      if (last >= most) break;
      n = last + 1;
    }
    return sums;
  }

  /// The largest of the sums that `room` holds, of at most `parts` parts.
  static Cost largest_sum(const std::map<Cost, Index>& sums, Cost room, Index parts) {
    Cost best = sums.empty() ? room : 0;
    for (const auto& [sum, least_parts] : sums) {
      if (sum <= room && least_parts <= parts) best = sum;
    }
    return best;
  }

  /// A weight that no division of the expert within the budget is below; -1 if there is none.
  /// Takes the least number of parts from `room_parts`.
  Cost least_weight(std::size_t e, Int128& room_parts) const {
    const std::vector<Index>& ranks = ranks_[e];
    const Load want = load_[e];
    std::vector<Load> most;
    Cost whole = kCostLimit;
    for (const Index g : ranks) {
      most.push_back(curves_[g].capacity(left_[g], want));
      if (most.back() == want) whole = std::min(whole, weights_[g].of(want));
    }
    std::vector<Load> sorted = most;
    std::sort(sorted.rbegin(), sorted.rend());
    Int128 sum = 0;
    Index parts = 0;
    while (parts < static_cast<Index>(ranks.size()) && sum < want) sum += sorted[parts++];
    if (sum < want) return -1;
    room_parts -= parts;
    Cost least = line_bound(want, parts, static_cast<Index>(ranks.size()));
    if (subadditive_) least = std::max(least, weights_[ranks[0]].of(want));
    if (uniform_) least = std::max(least, least_of_any(want, static_cast<Index>(ranks.size())));
    if (ranks.size() == 2) {
      const Cost divided = least_of_two(weights_[ranks[0]], weights_[ranks[1]], want, most);
      if (divided >= 0) least = std::max(least, divided);
    }
    return least;
  }

  /// No division of `want` tokens of a uniform model weighs less: one part, two, of which the first
  /// ends a step, or three and more, by the lines.
  Cost least_of_any(Load want, Index most_parts) const {
    const CostCurve& w = weights_[first_];
    Cost best = std::min(w.of(want), line_bound(want, 3, most_parts));
    Load end = 0;
    for (int i = 0; i < kMaxCheckedDivisions; ++i) {
      end = w.capacity(w.of(end + 1), want);  // the last token that costs as much as the next one
      if (end >= want) return best;
      best = std::min(best, w.of(end) + w.of(want - end));
    }
    return 0;
  }

  /// The exact least weight of two parts, or of one; -1 if there are too many to look at.
  static Cost least_of_two(const CostCurve& a, const CostCurve& b, Load want,
                           const std::vector<Load>& most) {
    Cost best = kCostLimit;
    Load n = std::max<Load>(0, want - most[1]);
    for (int i = 0; i < kMaxCheckedDivisions; ++i) {
      const Load last = n == 0 ? 0 : a.capacity(a.of(n), most[0]);
      best = std::min(best, a.of(last) + b.of(want - last));
      if (last >= most[0]) return best;
      n = last + 1;
    }
    return -1;
  }

  /// Whether one part never weighs more than several of as many tokens.
  bool is_subadditive() const {
    for (const CostCurve& w : weights_) {
      if (!w.tokens.empty() && w != weights_[first_]) return false;
    }
    const CostCurve& w = weights_[first_];
    for (std::size_t i = 0; i < w.tokens.size(); ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        if (w.of(w.tokens[i] + w.tokens[j]) > w.cost[i] + w.cost[j]) return false;
      }
    }
    return true;
  }

  /// The best of the lines a + b n that no part of n tokens weighs less than: `parts` parts of
  /// `want` tokens in all weigh at least parts a + want b. The lines are edges of the convex hull,
  /// which is wrapped from the left (Jarvis 1973).
  Cost line_bound(Load want, Index parts, Index most_parts) const {
    struct Point {
      Int128 tokens, weight;
    };
    std::vector<Point> points;
    Cost first = kCostLimit;
    Point tail{0, 0};
    for (const CostCurve& w : weights_) {
      if (w.tokens.empty()) continue;
      first = std::min(first, w.cost[0]);
      for (std::size_t i = 0; i < w.tokens.size(); ++i) points.push_back({w.tokens[i], w.cost[i]});
      const Point t{w.then_every, w.then_cost};
      if (tail.tokens == 0 || t.weight * tail.tokens < tail.weight * t.tokens) tail = t;
    }
    Point at{0, first};
    Int128 best = static_cast<Int128>(parts) * first;
    for (;;) {
      Point edge = tail;
      Point next = at;
      for (const Point& q : points) {
        const Point to{q.tokens - at.tokens, q.weight - at.weight};
        if (to.tokens <= 0 || to.weight * edge.tokens > edge.weight * to.tokens) continue;
        edge = to;
        next = q;
      }
      const Int128 cut = at.weight * edge.tokens - edge.weight * at.tokens;  // edge.tokens * a
      const Int128 sum = cut * (cut >= 0 ? parts : most_parts) + edge.weight * want;
      best = std::max(best, (sum + edge.tokens - 1) / edge.tokens);
      if (next.tokens == at.tokens) break;
      at = next;
    }
    return best < kCostLimit ? static_cast<Cost>(best) : kCostLimit;
  }

  const Placement& p_;
  std::span<const Load> load_;
  const Split& split_;
  std::vector<CostCurve> curves_, weights_;  // [num_ranks]; empty for dead ranks
  std::vector<std::vector<Index>> ranks_;    // [num_logical]: live ranks, ascending
  std::vector<Cost> left_;                   // [num_ranks]: what the budget leaves for other parts
  Index first_ = -1;
  bool uniform_ = true;
  bool subadditive_ = false;
};

}  // namespace

std::string verify_cost(const Placement& placement, std::span<const Load> load, const Split& split,
                        const CostModel& model) {
  const auto num_ranks = static_cast<std::size_t>(placement.num_ranks);
  if (split.cost.rank_cost.size() != num_ranks || split.cost.active_experts.size() != num_ranks) {
    return "the split has no cost of the placement's size";
  }
  return CostCheck(placement, load, split, model).check();
}

}  // namespace lplb::solvers
