// SPDX-License-Identifier: MIT
#include "placement/homes_start.h"

#include <algorithm>
#include <numeric>

#include "core/check.h"

namespace lplb::placement {
namespace {

class Starter {
 public:
  Starter(const HomesShape& shape, const std::vector<Index>& live,
          std::span<const std::int64_t> mean, const Placement* old, const HomesOptions& options)
      : shape_(shape), live_(live), mean_(mean), options_(options) {
    start_.experts.assign(static_cast<std::size_t>(shape.num_slots()), -1);
    start_.fixed.assign(start_.experts.size(), kFree);
    home_.assign(static_cast<std::size_t>(shape.num_logical), -1);
    if (old != nullptr) take_old(*old);
  }

  HomesStart run() {
    for (const PinnedExpert& pin : options_.pinned) place_pinned(pin);
    if (!start_.has_old || (options_.move_homes && options_.restart)) {
      settle(options_.move_homes ? renamed(packed_homes(shape_, mean_)) : contiguous());
    } else {
      keep_homes();
    }
    place_homeless();
    if (options_.restart) {
      for (Index p = 0; p < shape_.num_slots(); ++p) {
        if (start_.fixed[p] == kFree) start_.experts[p] = -1;
      }
    }
    fill();
    return std::move(start_);
  }

 private:
  Index rank_of(Index slot) const { return slot / shape_.slots; }
  std::int64_t speed(Index rank) const { return shape_.speed.empty() ? 1 : shape_.speed[rank]; }

  /// The slot of `expert` on `rank`, or -1.
  Index find(Index expert, Index rank) const {
    for (Index p = rank * shape_.slots; p < (rank + 1) * shape_.slots; ++p) {
      if (start_.experts[p] == expert) return p;
    }
    return -1;
  }

  /// A slot of `rank` that may get another expert: an empty one, otherwise the last; or -1.
  Index free_slot(Index rank) const {
    Index last = -1;
    for (Index p = rank * shape_.slots; p < (rank + 1) * shape_.slots; ++p) {
      if (start_.experts[p] < 0) return p;
      if (start_.fixed[p] == kFree) last = p;
    }
    return last;
  }

  void take_old(const Placement& old) {
    start_.has_old = true;
    start_.held.assign(static_cast<std::size_t>(shape_.num_ranks) * home_.size(), 0);
    for (Index i = 0; i < shape_.num_ranks; ++i) {
      const Index rank = live_[i];
      if (rank >= old.num_ranks || !old.alive(rank)) continue;
      for (Index s = 0; s < old.slots_per_rank(); ++s) {
        const Index expert = old.physical_to_logical[rank * old.slots_per_rank() + s];
        char& held = start_.held[std::size_t{1} * i * shape_.num_logical + expert];
        if (held == 0 && s < shape_.slots) start_.experts[i * shape_.slots + s] = expert;
        held = 1;
      }
    }
  }

  void fix(Index slot, Index expert, char how = kHome) {
    start_.experts[slot] = expert;
    start_.fixed[slot] = how;
    if (home_[expert] < 0) home_[expert] = rank_of(slot);
  }

  void place_pinned(const PinnedExpert& pin) {
    const auto at = std::find(live_.begin(), live_.end(), pin.rank);
    const auto rank = static_cast<Index>(at - live_.begin());
    Index slot = find(pin.expert, rank);
    if (slot < 0) slot = free_slot(rank);
    check_argument(slot >= 0, "pinned", "rank {} has {} slots, too few for its pinned experts",
                   pin.rank, shape_.slots);
    fix(slot, pin.expert, kPinned);
  }

  /// An expert's home is its replica that comes first on its rank.
  void keep_homes() {
    for (Index s = 0; s < shape_.slots; ++s) {
      for (Index g = 0; g < shape_.num_ranks; ++g) {
        const Index expert = start_.experts[g * shape_.slots + s];
        if (expert >= 0 && home_[expert] < 0) fix(g * shape_.slots + s, expert);
      }
    }
  }

  std::vector<Index> contiguous() const {
    std::vector<Index> rank(home_.size());
    for (Index e = 0; e < shape_.num_logical; ++e) {
      rank[e] = static_cast<Index>(std::int64_t{e} * shape_.num_ranks / shape_.num_logical);
    }
    return rank;
  }

  /// Renames the ranks so that many experts are on a rank that has them already: greedily, the pair
  /// with most of them first.
  std::vector<Index> renamed(std::vector<Index> rank) const {
    if (!start_.has_old || !shape_.speed.empty()) return rank;
    const auto ranks = static_cast<std::size_t>(shape_.num_ranks);
    std::vector<Index> common(ranks * ranks, 0);
    for (Index e = 0; e < shape_.num_logical; ++e) {
      for (Index g = 0; g < shape_.num_ranks; ++g) {
        common[rank[e] * ranks + g] += start_.held[std::size_t{1} * g * shape_.num_logical + e];
      }
    }
    std::vector<std::size_t> order(common.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return common[a] > common[b]; });
    std::vector<Index> name(ranks, -1);
    std::vector<char> used(ranks, 0);
    for (const std::size_t i : order) {
      if (name[i / ranks] >= 0 || used[i % ranks] != 0) continue;
      name[i / ranks] = static_cast<Index>(i % ranks);
      used[i % ranks] = 1;
    }
    for (Index& g : rank) g = name[g];
    return rank;
  }

  /// Makes `rank` [num_logical] the homes, as far as slots are free. First those that are there.
  void settle(const std::vector<Index>& rank) {
    for (Index e = 0; e < shape_.num_logical; ++e) {
      const Index slot = home_[e] < 0 ? find(e, rank[e]) : -1;
      if (slot >= 0) fix(slot, e);
    }
    for (Index e = 0; e < shape_.num_logical; ++e) {
      const Index slot = home_[e] < 0 ? free_slot(rank[e]) : -1;
      if (slot >= 0) fix(slot, e);
    }
  }

  /// Gives the experts without a home one: the heaviest first, on the rank whose homes have the
  /// least load / speed. A rank that has the weights comes first.
  void place_homeless() {
    std::vector<std::int64_t> load(static_cast<std::size_t>(shape_.num_ranks), 0);
    std::vector<Index> homeless;
    for (Index e = 0; e < shape_.num_logical; ++e) {
      if (home_[e] < 0) homeless.push_back(e);
      if (home_[e] >= 0) load[home_[e]] += mean_[e];
    }
    std::stable_sort(homeless.begin(), homeless.end(),
                     [&](Index a, Index b) { return mean_[a] > mean_[b]; });
    for (const Index e : homeless) {
      Index best = -1;
      const auto is_better = [&](Index g) {
        if (best < 0) return true;
        const bool is_new = start_.is_new(e, g, shape_.num_logical);
        if (is_new != start_.is_new(e, best, shape_.num_logical)) return !is_new;
        return load[g] * speed(best) < load[best] * speed(g);
      };
      for (Index g = 0; g < shape_.num_ranks; ++g) {
        if (free_slot(g) >= 0 && is_better(g)) best = g;
      }
      // NOTE: a replica of the expert may be there by now; it must not be there twice.
      check_argument(best >= 0, "pinned", "leave no slot for expert {}", e);
      const Index there = find(e, best);
      fix(there >= 0 ? there : free_slot(best), e);
      load[best] += mean_[e];
    }
  }

  /// Fills the empty slots: the next goes to the expert with most load a replica, on the rank with
  /// the least load / speed that has room and not the expert.
  void fill() {
    std::vector<std::int64_t> count(home_.size(), 0);
    std::vector<std::int64_t> load(static_cast<std::size_t>(shape_.num_ranks), 0);
    Index empty = 0;
    for (const Index e : start_.experts) {
      if (e >= 0) ++count[e];
      empty += e < 0;
    }
    for (Index p = 0; p < shape_.num_slots(); ++p) {
      const Index e = start_.experts[p];
      if (e >= 0) load[rank_of(p)] += mean_[e] / count[e];
    }
    std::vector<char> blocked(home_.size(), 0);  // whether no rank has room for another replica
    while (empty > 0) {
      Index expert = -1;
      for (Index e = 0; e < shape_.num_logical; ++e) {
        if (blocked[e] != 0) continue;
        if (expert < 0 || mean_[e] * count[expert] > mean_[expert] * count[e]) expert = e;
      }
      Index best = -1;
      for (Index g = 0; g < shape_.num_ranks; ++g) {
        if (find(-1, g) < 0 || find(expert, g) >= 0) continue;
        if (best < 0 || load[g] * speed(best) < load[best] * speed(g)) best = g;
      }
      if (best < 0) {
        blocked[expert] = 1;
        continue;
      }
      start_.experts[find(-1, best)] = expert;
      load[best] += mean_[expert] / ++count[expert];
      --empty;
    }
  }

  const HomesShape& shape_;
  const std::vector<Index>& live_;
  std::span<const std::int64_t> mean_;
  const HomesOptions& options_;
  HomesStart start_;
  std::vector<Index> home_;  // [num_logical]: the rank; -1: none yet
};

}  // namespace

std::vector<Index> packed_homes(const HomesShape& shape, std::span<const std::int64_t> mean) {
  std::vector<Index> order(mean.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return mean[a] > mean[b]; });
  const auto ranks = static_cast<std::size_t>(shape.num_ranks);
  std::vector<std::int64_t> load(ranks, 0);
  std::vector<Index> room(ranks, shape.num_logical / shape.num_ranks);
  for (Index g = 0; g < shape.num_logical % shape.num_ranks; ++g) ++room[g];
  std::vector<Index> rank(mean.size());
  for (const Index e : order) {
    Index best = -1;
    for (Index g = 0; g < shape.num_ranks; ++g) {
      if (room[g] == 0) continue;
      const auto with = [&](Index r, Index other) {
        return (load[r] + mean[e]) * (shape.speed.empty() ? 1 : shape.speed[other]);
      };
      if (best < 0 || with(g, best) < with(best, g)) best = g;
    }
    rank[e] = best;
    load[best] += mean[e];
    --room[best];
  }
  return rank;
}

HomesStart start_of_homes(const HomesShape& shape, const std::vector<Index>& live,
                          std::span<const std::int64_t> mean, const Placement* old,
                          const HomesOptions& options) {
  return Starter(shape, live, mean, old, options).run();
}

}  // namespace lplb::placement
