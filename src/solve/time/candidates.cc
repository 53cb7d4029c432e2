// SPDX-License-Identifier: MIT
#include "solve/time/candidates.h"

namespace lplb::solvers {
namespace {

/// Puts expert k whole on the rank that is the cheapest with it; of several, on the lowest.
void put_on_cheapest(TimeState& state, Index k) {
  const Tables& t = state.tables();
  Index best = t.place_begin[k];
  Cost best_price = kCostLimit;
  for (Index i = t.place_begin[k]; i < t.place_begin[k + 1]; ++i) {
    state.set(i, 0);
    const Index g = t.place[i].rank;
    const Cost price = state.price_of(g, state.parts(g) + state.model().curve(g).of(state.want(k)));
    if (price >= best_price) continue;
    best = i;
    best_price = price;
  }
  state.set(best, state.want(k));
}

}  // namespace

void BestSplit::keep(const TimeState& state) {
  const Cost new_price = state.max_price();
  const Cost new_sum = state.sum();
  if (new_price > price || (new_price == price && new_sum >= sum)) return;
  price = new_price;
  sum = new_sum;
  take.assign(state.takes().begin(), state.takes().end());
}

void put_homes(TimeState& state) {
  const Tables& t = state.tables();
  for (Index k = 0; k < t.num_replicated(); ++k) {
    for (Index i = t.place_begin[k]; i < t.place_begin[k + 1]; ++i) {
      state.set(i, i == t.place_begin[k] ? state.want(k) : 0);
    }
  }
}

void put_evenly(TimeState& state) {
  const Tables& t = state.tables();
  for (Index k = 0; k < t.num_replicated(); ++k) {
    const Index begin = t.place_begin[k];
    const Index end = t.place_begin[k + 1];
    Index slots = 0;
    for (Index i = begin; i < end; ++i) slots += t.place[i].slot_count;
    const Load each = state.want(k) / slots;
    const Load extra = state.want(k) % slots;
    Index slot = 0;
    for (Index i = begin; i < end; ++i) {
      Load tokens = 0;
      for (Index j = 0; j < t.place[i].slot_count; ++j, ++slot) {
        const Index turn = (slot - t.expert[k] % slots + slots) % slots;
        tokens += each + (turn < extra ? 1 : 0);
      }
      state.set(i, tokens);
    }
  }
}

void put_greedily(TimeState& state) {
  const Tables& t = state.tables();
  for (std::size_t i = 0; i < t.place.size(); ++i) state.set(static_cast<Index>(i), 0);
  for (Index k = 0; k < t.num_replicated(); ++k) put_on_cheapest(state, k);
}

}  // namespace lplb::solvers
