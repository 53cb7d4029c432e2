// SPDX-License-Identifier: MIT
#include "core/raise_to_fit.h"

#include <algorithm>

namespace lplb {

Level raise_to_fit(const RankCost& cost, std::span<const Index> ranks, Load need,
                   std::vector<Level>& heap) {
  const auto count = static_cast<Load>(ranks.size());
  if (cost.uniform() || need == 0) return {need / count + (need % count != 0), ranks[0]};

  // If the fastest rank takes one token more, the capacity of every other rank grows by at most
  // one. First find the largest n for which the set is still too small if the fastest rank takes n
  // tokens.
  Index fastest = ranks[0];
  double joint_speed = 0;
  for (const Index g : ranks) {
    if (cost.speed(g) > cost.speed(fastest)) fastest = g;
    joint_speed += cost.speed(g);
  }
  const auto too_small = [&](Load n) {
    Load room = need;
    for (const Index g : ranks) {
      room -= cost.capacity(g, {n, fastest}, room);
      if (room == 0) return false;
    }
    return true;
  };
  const double estimate = static_cast<double>(need) * (cost.speed(fastest) / joint_speed);
  const Load low = most_that_fit(estimate, need, too_small);

  // Then add the cheapest next token until the set fits.
  const auto dearer = [&](Level a, Level b) {
    const int order = cost.compare(a, b);
    return order != 0 ? order > 0 : a.rank > b.rank;
  };
  heap.clear();
  Load room = need;
  for (const Index g : ranks) {
    const Load tokens = cost.capacity(g, {low, fastest}, need);
    room -= tokens;
    heap.push_back({tokens + 1, g});
  }
  std::make_heap(heap.begin(), heap.end(), dearer);
  Level level;
  while (room > 0) {
    std::pop_heap(heap.begin(), heap.end(), dearer);
    level = heap.back();
    ++heap.back().tokens;
    std::push_heap(heap.begin(), heap.end(), dearer);
    --room;
  }
  return level;
}

}  // namespace lplb
