// SPDX-License-Identifier: MIT
#include "solve/time/proof.h"

#include <algorithm>
#include <functional>

namespace lplb::solvers {
namespace {

/// The most sums of parts that are looked at.
constexpr std::size_t kMaxSums = 2048;
/// The most divisions of an expert between two ranks that are looked at.
constexpr int kMaxDivisions = 64;

}  // namespace

void TimeProof::begin(const TimeState& state, Cost most) {
  state_ = &state;
  most_bound_ = most;
  const Tables& t = state.tables();
  bound_ = 0;
  best_set_.assign(static_cast<std::size_t>(t.num_ranks), 0);
  in_set_.assign(static_cast<std::size_t>(t.num_ranks), 0);
  seen_.assign(t.expert.size(), 0);
  set_number_ = 0;
  active_places_.assign(static_cast<std::size_t>(t.num_ranks), 0);
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    active_places_[t.place[i].rank] += state.want(t.place_owner[i]) > 0 ? 1 : 0;
  }
  confined_.reserve(t.expert.size());
  most_.reserve(static_cast<std::size_t>(t.num_ranks));
  sums_.reserve(kMaxSums);
  next_sums_.reserve(kMaxSums);
  sums_.clear();
  if (state.model().uniform()) find_sums();
}

/// Finds all sums of parts that a rank can carry, if they are few: 0, and for each weight that a
/// part can have the sums before with any number of such parts. Only the weights that a part of
/// this batch can have matter.
void TimeProof::find_sums() {
  sums_.assign(1, {0, 0});
  const CostCurve& curve = state_->model().curve(state_->tables().live_ranks[0]);
  Load most = 0;
  for (Index k = 0; k < state_->tables().num_replicated(); ++k) {
    most = std::max(most, state_->want(k));
  }
  for (Load n = 1; n <= most;) {
    const Cost weight = curve.of(n);
    if (weight > most_bound_) return;
    // Merges the sums so far with the new ones plus the weight.
    next_sums_.clear();
    std::size_t old = 0;
    std::size_t shifted = 0;
    for (;;) {
      Sum sum{kCostLimit, 0};
      if (old < sums_.size()) sum = sums_[old];
      if (shifted < next_sums_.size() && next_sums_[shifted].weight + weight <= most_bound_) {
        const Sum more{next_sums_[shifted].weight + weight, next_sums_[shifted].parts + 1};
        if (more.weight < sum.weight) sum = more;
        if (more.weight == sum.weight) sum.parts = std::min(sum.parts, more.parts);
      }
      if (sum.weight == kCostLimit) break;
      if (next_sums_.size() == kMaxSums) {
        sums_.clear();
        return;
      }
      next_sums_.push_back(sum);
      if (old < sums_.size() && sums_[old].weight == sum.weight) ++old;
      if (next_sums_[shifted].weight + weight == sum.weight) ++shifted;
    }
    std::swap(sums_, next_sums_);
    const Load last = curve.capacity(weight, most);
    if (last == most) return;
    n = last + 1;
  }
}

/// The largest sum of at most `parts` parts that is not above `room` >= 0; `room` if there are too
/// many sums to know.
Cost TimeProof::round_down(Cost room, Index parts) const {
  if (sums_.empty()) return room;
  auto sum = std::upper_bound(sums_.begin(), sums_.end(), room,
                              [](Cost value, const Sum& s) { return value < s.weight; });
  do {
    --sum;  // the first one is 0 without parts
  } while (sum->parts > parts);
  return sum->weight;
}

void TimeProof::find_confined(std::span<const Index> ranks) {
  const Tables& t = state_->tables();
  ++set_number_;
  confined_.clear();
  for (const Index g : ranks) in_set_[g] = 1;
  for (const Index g : ranks) {
    for (Index i = t.incident_begin[g]; i < t.incident_begin[g + 1]; ++i) {
      const Index k = t.place_owner[t.incident[i]];
      if (seen_[k] == set_number_ || state_->want(k) == 0) continue;
      seen_[k] = set_number_;
      bool inside = true;
      for (Index j = t.place_begin[k]; j < t.place_begin[k + 1]; ++j) {
        inside = inside && in_set_[t.place[j].rank] != 0;
      }
      if (inside) confined_.push_back(k);
    }
  }
  for (const Index g : ranks) in_set_[g] = 0;
}

/// Whether no split keeps all ranks of the set within `budget`.
bool TimeProof::proves(std::span<const Index> ranks, Cost budget) {
  const Tables& t = state_->tables();
  const TimeModel& m = state_->model();
  Int128 room = 0;
  Int128 room_parts = 0;
  for (const Index g : ranks) {
    const Cost fixed = state_->fixed(g);
    if (state_->price_of(g, fixed) > budget) return true;
    const Cost left = std::max<Cost>(0, budget - m.rank_cost(g) - fixed);
    room_parts += std::min<Cost>(active_places_[g], left / m.curve(g).cost[0]);
    room += m.uniform() ? round_down(left, active_places_[g])
                        : m.most_weight(g, std::max<Cost>(0, budget - m.rank_cost(g))) -
                              state_->fixed_weight(g);
  }
  for (const Index k : confined_) {
    const Load want = state_->want(k);
    const Index begin = t.place_begin[k];
    const Index count = t.place_begin[k + 1] - begin;
    most_.clear();
    Load whole_fits = 0;
    for (Index i = begin; i < begin + count; ++i) {
      const Index g = t.place[i].rank;
      const Cost left = budget - m.rank_cost(g) - state_->fixed(g);
      most_.push_back(m.curve(g).capacity(left, want));
      whole_fits += most_.back() == want ? 1 : 0;
    }
    // The least number of parts, and the least weight.
    Index parts = 1;
    Cost weight = 0;
    if (whole_fits > 0 && (m.subadditive() || count == 1)) {
      weight = m.weight(t.place[begin].rank).of(want);
    } else {
      weight = kCostLimit;
      if (count == 2) weight = least_of_two(begin, want);
      std::sort(most_.begin(), most_.end(), std::greater<>());
      Int128 sum = most_[0];
      while (sum < want && parts < count) sum += most_[static_cast<std::size_t>(parts++)];
      if (sum < want) return true;
      if (weight == kCostLimit) weight = m.least_weight(want, parts, count);
      if (m.uniform()) weight = std::max(weight, m.least().of(want));
      if (m.subadditive()) weight = std::max(weight, m.weight(t.place[begin].rank).of(want));
    }
    room -= weight;
    room_parts -= parts;
    if (room < 0 || room_parts < 0) return true;
  }
  return false;
}

/// The least weight of an expert of two places, of which most_[0] and most_[1] tokens can be on
/// either; kCostLimit if there are too many divisions to look at, or none.
Cost TimeProof::least_of_two(Index begin, Load want) const {
  const Tables& t = state_->tables();
  const CostCurve& first = state_->model().weight(t.place[begin].rank);
  const CostCurve& second = state_->model().weight(t.place[begin + 1].rank);
  Cost best = kCostLimit;
  Load n = std::max<Load>(0, want - most_[1]);
  if (n > most_[0]) return kCostLimit;
  for (int i = 0; i < kMaxDivisions; ++i) {
    // The most tokens that weigh no more than n do.
    n = n == 0 ? 0 : first.capacity(first.of(n), most_[0]);
    best = std::min(best, first.of(n) + second.of(want - n));
    if (n == most_[0]) return best;
    ++n;
  }
  return kCostLimit;
}

void TimeProof::try_set(std::span<const Index> ranks, Cost most) {
  if (bound_ >= most) return;
  find_confined(ranks);
  if (!proves(ranks, bound_)) return;
  Cost low = bound_ + 1;  // proven
  Cost high = most;
  while (low < high) {
    const Cost middle = low + (high - low + 1) / 2;
    if (proves(ranks, middle - 1)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  bound_ = low;
  std::fill(best_set_.begin(), best_set_.end(), 0);
  for (const Index g : ranks) best_set_[g] = 1;
}

}  // namespace lplb::solvers
