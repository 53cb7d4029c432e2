// SPDX-License-Identifier: MIT
#include "solve/ipm/finish.h"

#include <algorithm>

#include "core/raise_to_fit.h"
#include "solve/ipm/round.h"

namespace lplb::solvers {

void prove_by_prices(const Tables& t, std::span<const double> price, Buffers& b) {
  IpmScratch& s = b.ipm;
  const auto live = static_cast<Index>(t.live_ranks.size());
  s.order.resize(t.live_ranks.size());
  for (Index i = 0; i < live; ++i) s.order[i] = i;
  std::sort(s.order.begin(), s.order.end(),
            [&](Index i, Index j) { return price[i] != price[j] ? price[i] > price[j] : i < j; });
  s.position.resize(static_cast<std::size_t>(t.num_ranks));
  s.joined.assign(t.live_ranks.size(), 0);
  for (Index i = 0; i < live; ++i) {
    const Index rank = t.live_ranks[s.order[i]];
    s.position[rank] = i;
    s.joined[i] = b.fixed_load[rank];
  }
  for (Index k = 0; k < t.num_replicated(); ++k) {
    Index last = 0;
    for (Index i = t.place_begin[k]; i < t.place_begin[k + 1]; ++i) {
      last = std::max(last, s.position[t.place[i].rank]);
    }
    s.joined[last] += b.want[k];
  }

  // Try the first n ranks in this order, for every n.
  Index best = 0;
  Load best_load = 0;
  double best_level = -1;
  Load load = 0;
  double joint_speed = 0;
  for (Index i = 0; i < live; ++i) {
    load += s.joined[i];
    joint_speed += t.cost.speed(t.live_ranks[s.order[i]]);
    const double level = static_cast<double>(load) / joint_speed;
    if (level > best_level) {
      best = i;
      best_load = load;
      best_level = level;
    }
  }
  std::fill(b.in_proof.begin(), b.in_proof.end(), 0);
  b.rank_list.clear();
  for (Index i = 0; i < live; ++i) {
    const Index rank = t.live_ranks[i];
    if (s.position[rank] > best) continue;
    b.in_proof[rank] = 1;
    b.rank_list.push_back(rank);
  }
  b.bound = raise_to_fit(t.cost, b.rank_list, best_load, b.heap);
}

void round_shares(const Tables& t, Buffers& b) {
  IpmScratch& s = b.ipm;
  s.room.assign(static_cast<std::size_t>(t.num_ranks), 0);
  s.rank.resize(t.place.size());
  for (const Index g : t.live_ranks) {
    s.room[g] = static_cast<double>(t.cost.capacity(g, b.bound, b.total) - b.fixed_load[g]);
  }
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    s.rank[i] = t.place[i].rank;
    s.room[s.rank[i]] -= s.tokens[i];
  }
  b.rank_load = b.fixed_load;
  for (Index k = 0; k < t.num_replicated(); ++k) {
    const Index begin = t.place_begin[k];
    const Index end = t.place_begin[k + 1];
    round_expert(b.want[k], end - begin, s.tokens.data() + begin, s.rank.data() + begin,
                 s.room.data(), b.take.data() + begin);
    for (Index i = begin; i < end; ++i) b.rank_load[s.rank[i]] += b.take[i];
  }
}

void settle_status(const Tables& t, Buffers& b) {
  b.status = SolveStatus::kOptimal;
  for (const Index g : t.live_ranks) {
    if (t.cost.compare({b.rank_load[g], g}, b.bound) > 0) b.status = SolveStatus::kBounded;
  }
}

}  // namespace lplb::solvers
