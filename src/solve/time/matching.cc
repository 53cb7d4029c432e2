// SPDX-License-Identifier: MIT
#include "solve/time/matching.h"

#include "solve/time/candidates.h"

namespace lplb::solvers {
bool is_decode(const TimeState& state) {
  const Tables& t = state.tables();
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    const CostCurve& curve = state.model().curve(t.place[i].rank);
    if (curve.of(state.want(t.place_owner[i])) > curve.cost[0]) return false;
  }
  return true;
}

void match(TimeState& state, Matching& m) {
  const Tables& t = state.tables();
  put_greedily(state);
  for (;;) {
    // Breadth first from the worst rank, along experts that could go to another rank, to a rank
    // that stays below the worst one's price with one part more.
    const Index root = state.worst();
    const Cost limit = state.price(root);
    m.came_from.assign(static_cast<std::size_t>(t.num_ranks), -1);
    m.came_by.assign(static_cast<std::size_t>(t.num_ranks), -1);
    m.found.clear();
    m.found.push_back(root);
    m.came_by[root] = root;
    Index end = -1;
    for (std::size_t next = 0; next < m.found.size() && end < 0; ++next) {
      const Index g = m.found[next];
      for (Index i = t.incident_begin[g]; i < t.incident_begin[g + 1] && end < 0; ++i) {
        const Index from = t.incident[i];
        if (state.take(from) == 0) continue;
        const Index k = t.place_owner[from];
        for (Index to = t.place_begin[k]; to < t.place_begin[k + 1] && end < 0; ++to) {
          const Index taker = t.place[to].rank;
          if (m.came_by[taker] >= 0) continue;
          m.came_by[taker] = to;
          m.came_from[taker] = from;
          m.found.push_back(taker);
          const Cost more = state.parts(taker) + state.model().curve(taker).cost[0];
          if (state.price_of(taker, more) < limit) end = taker;
        }
      }
    }
    if (end < 0) return;
    while (end != root) {
      const Index from = m.came_from[end];
      state.set(m.came_by[end], state.take(from));
      state.set(from, 0);
      end = t.place[from].rank;
    }
  }
}

}  // namespace lplb::solvers
