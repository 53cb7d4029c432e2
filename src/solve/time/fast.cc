// SPDX-License-Identifier: MIT
#include "solve/time/fast.h"

#include <algorithm>

#include "solve/time/time.h"

// The solver "fast-time". docs/time.md, "In a step", has the steps, and device/fast_time.cuh the
// same ones for a block.
namespace lplb::solvers {
namespace {

class FastTime {
 public:
  FastTime(const Tables& tables, Buffers& buffers)
      : t_(tables), b_(buffers), s_(*buffers.time), state_(s_.state) {}

  void run(const SolveOptions& options) {
    begin(options);
    if (all_cost_one_step()) {
      solve_units();
    } else {
      solve_parts();
    }
    write_best(s_, b_);
  }

  /// complete_fast_time()
  void complete(const SolveOptions& options, Cost cost_bound) {
    begin(options);
    if (all_cost_one_step()) {
      s_.bound = cost_bound;
      s_.in_set.assign(b_.in_proof.begin(), b_.in_proof.end());
      prove_tokens();
    } else {
      find_bound();
    }
    state_.set_all(b_.take);
    s_.best.keep(state_);
    write_best(s_, b_);
  }

 private:
  void begin(const SolveOptions& options) {
    s_.model.assign(*options.cost, t_);
    state_.begin(t_, s_.model, b_.load);
    s_.best.begin();
    s_.bound = 0;
    s_.in_set.assign(static_cast<std::size_t>(t_.num_ranks), 0);
  }

  /// Whether each expert, wherever it is, costs one step if it is whole.
  bool all_cost_one_step() const {
    if (!s_.model.uniform() || !t_.cost.uniform()) return false;
    const Load step = s_.model.curve(t_.live_ranks[0]).tokens[0];
    return std::all_of(b_.load.begin(), b_.load.end(), [&](Load n) { return n <= step; });
  }

  /// Then an expert is like a single token, and the solver by tokens finds the best split of whole
  /// experts, with its proof.
  void solve_units() {
    if (s_.flow == nullptr) s_.flow = std::make_unique<Workspace>();
    Buffers& f = s_.flow->buffers();
    f.resize(t_);
    f.total = 0;
    for (Index e = 0; e < t_.num_logical; ++e) {
      if (b_.load[e] == 0) continue;
      ++f.total;
      if (t_.fixed_rank[e] >= 0) ++f.fixed_load[t_.fixed_rank[e]];
    }
    for (Index k = 0; k < t_.num_replicated(); ++k) f.want[k] = state_.want(k) > 0 ? 1 : 0;
    solve_by_tokens(t_, f);
    for (std::size_t i = 0; i < t_.place.size(); ++i) {
      state_.set(static_cast<Index>(i), f.take[i] * state_.want(t_.place_owner[i]));
    }
    s_.best.keep(state_);
    const CostCurve& curve = s_.model.curve(t_.live_ranks[0]);
    s_.bound = state_.price_of(t_.live_ranks[0], f.bound.tokens * curve.cost[0]);
    s_.in_set.assign(f.in_proof.begin(), f.in_proof.end());
    b_.steps = 0;
    prove_tokens();
  }

  /// A bound of the tokens, because nothing has looked at these.
  void prove_tokens() {
    const auto live = static_cast<Load>(t_.live_ranks.size());
    b_.bound = {(b_.total + live - 1) / live, t_.live_ranks[0]};
    b_.in_proof.assign(static_cast<std::size_t>(t_.num_ranks), 0);
    for (const Index g : t_.live_ranks) b_.in_proof[g] = 1;
    for (const Index g : t_.live_ranks) {
      if (b_.fixed_load[g] <= b_.bound.tokens) continue;
      b_.bound = {b_.fixed_load[g], g};
      std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
      b_.in_proof[g] = 1;
    }
  }

  /// The solver's split by tokens, which up to two sweeps then make cheaper: over the experts of
  /// ranks that are not near the bound. If experts are few, the first one is over all; otherwise
  /// there is a second one only if the dearest rank can be helped.
  void solve_parts() {
    solve_by_tokens(t_, b_);
    find_bound();
    state_.set_all(b_.take);
    const Cost near = s_.bound + s_.bound / kNearPart;
    const bool is_few = t_.num_replicated() <= kTimeFew;
    b_.steps = 0;
    while (b_.steps < kTimeSweeps && state_.max_price() > near) {
      if (b_.steps > 0 && !is_few && !can_be_helped(state_.worst())) break;
      const Cost enough = is_few && b_.steps == 0 ? 0 : near;
      for (Index k = 0; k < t_.num_replicated(); ++k) level(k, enough);
      ++b_.steps;
    }
    s_.best.keep(state_);
  }

  /// Whether a place of rank g could give tokens to another one, so that both ranks cost less than
  /// g does now.
  bool can_be_helped(Index g) const {
    for (Index i = t_.incident_begin[g]; i < t_.incident_begin[g + 1]; ++i) {
      const Index from = t_.incident[i];
      if (state_.take(from) == 0) continue;
      const Load begun = s_.model.curve(g).steps(state_.take(from));
      const Index k = t_.place_owner[from];
      for (Index to = t_.place_begin[k]; to < t_.place_begin[k + 1]; ++to) {
        if (to == from) continue;
        for (int less = 1; less <= kTimeHelps; ++less) {
          const Division d = at(from, to, less < kTimeHelps ? std::max<Load>(begun - less, 0) : 0);
          if (std::max(d.price_first, d.price_second) < state_.price(g)) return true;
        }
      }
    }
    return false;
  }

  Cost price_at(Index place) const { return state_.price(t_.place[place].rank); }

  /// How two places divide the tokens of both, and what their ranks then cost.
  struct Division {
    Index from = -1, to = -1;
    Load first = 0;  // of `from`
    Cost price_first = 0, price_second = 0;
    bool is_below(const Division& other) const {
      const Cost most = std::max(price_first, price_second);
      const Cost most_of_other = std::max(other.price_first, other.price_second);
      if (most != most_of_other) return most < most_of_other;
      return price_first + price_second < other.price_first + other.price_second;
    }
  };

  /// The division in which `from` takes so many steps, at most as many as both have.
  Division at(Index from, Index to, Load steps) const {
    const Index rank_a = t_.place[from].rank;
    const Index rank_b = t_.place[to].rank;
    const CostCurve& curve = s_.model.curve(rank_a);
    const Load both = state_.take(from) + state_.take(to);
    const Load first = steps < curve.steps(both) ? curve.end(steps) : both;
    const Cost rest_a = state_.parts(rank_a) - state_.part(from);
    const Cost rest_b = state_.parts(rank_b) - state_.part(to);
    return {from, to, first, state_.price_of(rank_a, rest_a + curve.of(first)),
            state_.price_of(rank_b, rest_b + s_.model.curve(rank_b).of(both - first))};
  }

  /// Makes the division if it is better than what is. Returns whether it was.
  bool put(const Division& d) {
    if (!d.is_below({d.from, d.to, 0, price_at(d.from), price_at(d.to)})) return false;
    const Load both = state_.take(d.from) + state_.take(d.to);
    state_.set(d.from, d.first);
    state_.set(d.to, both - d.first);
    return true;
  }

  /// Makes the larger price of the ranks of expert k smaller, if it is above `enough`.
  void level(Index k, Cost enough) {
    const Index begin = t_.place_begin[k];
    const Index end = t_.place_begin[k + 1];
    if (state_.want(k) == 0) return;
    if (end - begin == 2) {
      if (std::max(price_at(begin), price_at(begin + 1)) > enough) put(divide(begin));
      return;
    }
    for (int i = 0; i < kTimeDivisions; ++i) {
      if (!divide_dearest(begin, end, enough)) break;
    }
  }

  /// The best division of two neighbouring places, of which the first takes a whole number of
  /// steps, or all: between the ends of two steps its price stays, and the second one falls. Of at
  /// most kTimeLanes numbers around what the solver by tokens gave it. The first price grows with
  /// the steps, so the best is where the prices cross.
  Division divide(Index place) const {
    const CostCurve& curve = s_.model.curve(t_.place[place].rank);
    const Load all = curve.steps(state_.take(place) + state_.take(place + 1));
    const Load begin = std::max<Load>(
        std::min(curve.steps(b_.take[place]) - kTimeLanes / 2, all - kTimeLanes + 1), 0);
    // Up to the least number at which the first price reaches the second, or the last.
    Load low = begin;
    Load high = std::min(begin + kTimeLanes - 1, all);
    while (low < high) {
      const Load middle = low + (high - low) / 2;
      const Division d = at(place, place + 1, middle);
      if (d.price_first < d.price_second) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const Division best = at(place, place + 1, low);
    if (low == begin) return best;
    const Division below = at(place, place + 1, low - 1);
    return below.is_below(best) ? below : best;
  }

  /// The place of places [begin, end) with tokens whose rank is the dearest gives steps to another
  /// one: none beyond what it has begun, some, or all.
  bool divide_dearest(Index begin, Index end, Cost enough) {
    Index from = -1;
    for (Index i = begin; i < end; ++i) {
      if (state_.take(i) > 0 && (from < 0 || price_at(i) > price_at(from))) from = i;
    }
    if (from < 0 || price_at(from) <= enough) return false;
    const Load begun = s_.model.curve(t_.place[from].rank).steps(state_.take(from));
    const int tries = 1 << time_try_bits(end - begin);
    Division best;
    for (Index to = begin; to < end; ++to) {
      if (to == from) continue;
      for (int i = 0; i < tries; ++i) {
        const Division d = at(from, to, i < tries - 1 ? std::max<Load>(begun - i, 0) : 0);
        if (best.to < 0 || d.is_below(best)) best = d;
      }
    }
    return put(best);
  }

  /// The largest of three bounds: what a rank's fixed experts cost, and what the experts of all
  /// ranks, or of those that prove the bound of the tokens, cost at least, shared equally.
  void find_bound() {
    for (const Index g : t_.live_ranks) {
      const Cost price = state_.price_of(g, state_.fixed(g));
      if (price <= s_.bound) continue;
      s_.bound = price;
      std::fill(s_.in_set.begin(), s_.in_set.end(), 0);
      s_.in_set[g] = 1;
    }
    if (!s_.model.uniform()) return;
    s_.inside.assign(static_cast<std::size_t>(t_.num_ranks), 0);
    for (const Index g : t_.live_ranks) s_.inside[g] = 1;
    raise_bound(s_.inside);
    raise_bound(b_.in_proof);
  }

  void raise_bound(const std::vector<char>& in_set) {
    Cost sum = 0;
    Cost ranks = 0;
    for (const Index g : t_.live_ranks) {
      if (in_set[g] == 0) continue;
      sum += state_.fixed(g);
      ++ranks;
    }
    for (Index k = 0; k < t_.num_replicated(); ++k) {
      bool is_confined = true;
      for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        is_confined = is_confined && in_set[t_.place[i].rank] != 0;
      }
      if (is_confined) sum += s_.model.least().of(state_.want(k));
    }
    if (ranks == 0) return;
    const Cost price = state_.price_of(t_.live_ranks[0], (sum + ranks - 1) / ranks);
    if (price <= s_.bound) return;
    s_.bound = price;
    s_.in_set.assign(in_set.begin(), in_set.end());
  }

  const Tables& t_;
  Buffers& b_;
  TimeScratch& s_;
  TimeState& state_;
};

}  // namespace

void solve_fast_time(const Tables& tables, const SolveOptions& options, Buffers& buffers) {
  if (buffers.time == nullptr) buffers.time.reset(new TimeScratch);
  FastTime(tables, buffers).run(options);
}

const TimeModel& assign_model(const Tables& tables, const SolveOptions& options, Buffers& buffers) {
  if (buffers.time == nullptr) buffers.time.reset(new TimeScratch);
  buffers.time->model.assign(*options.cost, tables);
  return buffers.time->model;
}

void complete_fast_time(const Tables& tables, const SolveOptions& options, Cost cost_bound,
                        Buffers& buffers) {
  FastTime(tables, buffers).complete(options, cost_bound);
}

}  // namespace lplb::solvers
