// SPDX-License-Identifier: MIT
#include "placement/rank_packer.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace lplb::placement {

void RankPacker::run(std::span<const float> weight, std::span<const Index> expert,
                     std::span<const double> speed, bool spread, std::span<Index> slot) {
  spread_ = spread;
  // Loads beyond float32's range are infinite. Sums must be finite.
  weight_.resize(weight.size());
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight_[i] = std::min(weight[i], std::numeric_limits<float>::max());
  }
  expert_ = expert;
  speed_ = speed;
  num_ranks_ = static_cast<Index>(speed.size());
  capacity_ = static_cast<Index>(weight.size()) / num_ranks_;
  order_.resize(weight.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
    return std::tuple(-weight_[a], expert[a], a) < std::tuple(-weight_[b], expert[b], b);
  });
  load_.assign(speed.size(), 0);
  filled_.assign(speed.size(), 0);
  content_.resize(weight.size());
  shared_.assign(spread ? speed.size() * speed.size() : 0, 0);

  Index previous = -1;  // the rank of the expert's previous replica
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const Index item = order_[i];
    if (i == 0 || expert[item] != expert[order_[i - 1]]) {
      holders_.clear();
      holds_.assign(speed.size(), 0);
      affinity_.assign(speed.size(), 0);
      previous = -1;
    }
    previous = choose(item, previous);
    put(item, previous);
  }
  for (Index at = 0; spread && at < static_cast<Index>(content_.size()); ++at) {
    while (count(at / capacity_, expert[content_[at]]) > 1) part(at);
  }
  for (std::size_t at = 0; at < content_.size(); ++at) slot[content_[at]] = static_cast<Index>(at);
}

/// How many items of `expert` are on `rank`.
Index RankPacker::count(Index rank, Index expert) const {
  const auto first = content_.begin() + rank * capacity_;
  return static_cast<Index>(std::count_if(first, first + filled_[rank],
                                          [&](Index item) { return expert_[item] == expert; }));
}

/// The rank that `item` goes to. `previous` is the rank of the expert's previous replica, or -1.
Index RankPacker::choose(Index item, Index previous) const {
  Index best = -1;
  std::tuple<bool, double, Index> least;
  for (Index step = 1; step <= num_ranks_; ++step) {
    const Index rank = (previous + step) % num_ranks_;
    if (filled_[rank] == capacity_) continue;
    const std::tuple cost(spread_ && holds_[rank] != 0,
                          (load_[rank] + weight_[item]) / speed_[rank], affinity_[rank]);
    if (best >= 0 && least <= cost) continue;
    best = rank;
    least = cost;
  }
  return best;
}

void RankPacker::put(Index item, Index rank) {
  content_[rank * capacity_ + filled_[rank]++] = item;
  load_[rank] += weight_[item];
  if (!spread_) return;
  for (const Index other : holders_) {
    ++shared_[rank * num_ranks_ + other];
    ++shared_[other * num_ranks_ + rank];
  }
  holders_.push_back(rank);
  holds_[rank] = 1;
  for (Index g = 0; g < num_ranks_; ++g) affinity_[g] += shared_[g * num_ranks_ + rank];
}

/// Exchanges the item at `at`, whose expert is on its rank twice, with an item of another rank.
/// After that the two ranks together have more different experts than before.
void RankPacker::part(Index at) {
  const Exchange best = best_exchange(at);
  const Index rank = at / capacity_;
  const Index other = best.other / capacity_;
  const double moved = weight_[content_[at]] - weight_[content_[best.other]];
  load_[rank] -= moved;
  load_[other] += moved;
  std::swap(content_[at], content_[best.other]);
}

/// NOTE: there always is an exchange that gains. Some other rank lacks the expert, because there
/// are at most as many replicas as ranks. If it has a repeated expert, that one may come here; if
/// not, it has more different experts than `rank`, so one of them is not on `rank`.
RankPacker::Exchange RankPacker::best_exchange(Index at) const {
  const Index rank = at / capacity_;
  const Index mine = content_[at];
  Exchange best{-1, 0, 0};
  for (Index other = 0; other < num_ranks_; ++other) {
    if (other == rank || has(other, expert_[mine])) continue;
    for (Index i = other * capacity_; i < (other + 1) * capacity_; ++i) {
      const Index item = content_[i];
      const int gain =
          (count(other, expert_[item]) > 1 ? 1 : 0) + (has(rank, expert_[item]) ? 0 : 1);
      if (gain == 0) continue;
      const double moved = weight_[mine] - weight_[item];
      const double level =
          std::max((load_[rank] - moved) / speed_[rank], (load_[other] + moved) / speed_[other]);
      if (best.other < 0 || std::tuple(level, -gain) < std::tuple(best.level, -best.gain)) {
        best = {i, level, gain};
      }
    }
  }
  return best;
}

}  // namespace lplb::placement
