// SPDX-License-Identifier: MIT
#include "solve/time/time.h"

#include <algorithm>
#include <numeric>

#include "solve/solvers.h"

// The solver "time": the least largest cost of a rank. The problem contains bin packing, so beyond
// decode sizes it is a search with a proven bound (docs/time.md, docs/design/0011-time.md).
namespace lplb::solvers {
namespace {

class Time {
 public:
  Time(const Tables& tables, Buffers& buffers)
      : t_(tables), b_(buffers), s_(*buffers.time), state_(s_.state) {}

  void run(const SolveOptions& options) {
    s_.model.assign(*options.cost, t_);
    state_.begin(t_, s_.model, b_.load);
    s_.best.begin();
    s_.set.reserve(t_.live_ranks.size());
    s_.search.began.reserve(8);  // a few chains
    s_.matching.found.reserve(t_.live_ranks.size());
    // The split by tokens is the first candidate, and its bound stays in the result.
    solve_by_tokens(t_, b_);
    b_.steps = 0;
    state_.set_all(b_.take);
    keep_best();
    if (is_decode(state_)) {
      solve_decode();
    } else {
      solve_any();
    }
    finish();
  }

 private:
  void solve_decode() {
    match(state_, s_.matching);
    keep_best();
    s_.proof.begin(state_, s_.best.price);
    s_.proof.try_set(s_.matching.found, s_.best.price);
  }

  void solve_any() {
    put_homes(state_);
    keep_best();
    put_evenly(state_);
    keep_best();
    s_.proof.begin(state_, s_.best.price);
    prove_by_flow();
    prove_by_worst_fixed();
    if (!done()) {
      put_longest_first();
      search();
    }
    if (!done()) {
      put_as_flow();
      search();
    }
    if (!done()) {
      state_.set_all(b_.take);
      search();
    }
    if (!done()) {
      put_evenly(state_);
      search();
    }
    if (!done()) {
      put_homes(state_);
      search();
    }
    state_.set_all(s_.best.take);
    if (!done()) prove_by_neighbours();
  }

  bool done() const { return s_.best.price <= s_.proof.bound(); }

  void search() {
    b_.steps += improve(state_, s_.proof.bound(), s_.search);
    keep_best();
  }

  void keep_best() { s_.best.keep(state_); }

  /// Every expert whole, those that cost most first, on the rank that is then the cheapest
  /// (Graham's LPT rule, 1969).
  void put_longest_first() {
    const auto cost_of = [&](Index k) {
      return s_.model.weight(t_.place[t_.place_begin[k]].rank).of(state_.want(k));
    };
    s_.order.resize(t_.expert.size());
    std::iota(s_.order.begin(), s_.order.end(), 0);
    std::sort(s_.order.begin(), s_.order.end(), [&](Index a, Index b) {
      const Cost cost_a = cost_of(a);
      const Cost cost_b = cost_of(b);
      return cost_a != cost_b ? cost_a > cost_b : a < b;
    });
    for (std::size_t i = 0; i < t_.place.size(); ++i) state_.set(static_cast<Index>(i), 0);
    for (const Index k : s_.order) {
      Index best = t_.place_begin[k];
      Cost best_price = kCostLimit;
      for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        const Index g = t_.place[i].rank;
        const Cost price =
            state_.price_of(g, state_.parts(g) + s_.model.curve(g).of(state_.want(k)));
        if (price >= best_price) continue;
        best = i;
        best_price = price;
      }
      state_.set(best, state_.want(k));
    }
  }

  /// Splits the experts' weights as if any part of an expert weighed in proportion: an exact flow,
  /// whose set of ranks proves a bound.
  void prove_by_flow() {
    if (s_.flow == nullptr) s_.flow = std::make_unique<Workspace>();
    Buffers& f = s_.flow->buffers();
    f.resize(t_);
    f.total = 0;
    for (const Index g : t_.live_ranks) {
      f.fixed_load[g] = state_.fixed_weight(g) + (s_.model.uniform() ? 0 : s_.model.weight(g).rank);
      f.total += f.fixed_load[g];
    }
    for (Index k = 0; k < t_.num_replicated(); ++k) {
      f.want[k] = s_.model.weight(t_.place[t_.place_begin[k]].rank).of(state_.want(k));
      f.total += f.want[k];
    }
    solve_flow(t_, {}, f);
    s_.set.clear();
    for (const Index g : t_.live_ranks) {
      if (f.in_proof[g] != 0) s_.set.push_back(g);
    }
    s_.proof.try_set(s_.set, s_.best.price);
  }

  void prove_by_worst_fixed() {
    Index worst = t_.live_ranks[0];
    for (const Index g : t_.live_ranks) {
      if (state_.price_of(g, state_.fixed(g)) > state_.price_of(worst, state_.fixed(worst))) {
        worst = g;
      }
    }
    s_.set.assign(1, worst);
    s_.proof.try_set(s_.set, s_.best.price);
    for (Index k = 0; k < t_.num_replicated() && !done(); ++k) {
      if (state_.want(k) == 0) continue;
      s_.set.clear();
      for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        s_.set.push_back(t_.place[i].rank);
      }
      s_.proof.try_set(s_.set, s_.best.price);
    }
  }

  /// The flow's division of weights, in tokens: each place takes the tokens that its weight pays
  /// for, and the place with the most weight takes the rest.
  void put_as_flow() {
    const Buffers& f = s_.flow->buffers();
    for (Index k = 0; k < t_.num_replicated(); ++k) {
      Index largest = t_.place_begin[k];
      Load left = state_.want(k);
      for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        if (f.take[i] > f.take[largest]) largest = i;
      }
      for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        if (i == largest) continue;
        const Load tokens = s_.model.weight(t_.place[i].rank).capacity(f.take[i], left);
        state_.set(i, tokens);
        left -= tokens;
      }
      state_.set(largest, left);
    }
  }

  /// The worst rank of the split, then in addition all ranks of the experts that it has, and so
  /// on: sets that the split itself suggests.
  void prove_by_neighbours() {
    std::vector<char>& inside = s_.inside;
    inside.assign(static_cast<std::size_t>(t_.num_ranks), 0);
    s_.set.assign(1, state_.worst());
    inside[s_.set[0]] = 1;
    for (std::size_t begin = 0; begin < s_.set.size() && !done();) {
      const std::size_t end = s_.set.size();
      for (; begin < end; ++begin) {
        const Index g = s_.set[begin];
        for (Index i = t_.incident_begin[g]; i < t_.incident_begin[g + 1]; ++i) {
          if (state_.take(t_.incident[i]) == 0) continue;
          const Index k = t_.place_owner[t_.incident[i]];
          for (Index j = t_.place_begin[k]; j < t_.place_begin[k + 1]; ++j) {
            if (inside[t_.place[j].rank] != 0) continue;
            inside[t_.place[j].rank] = 1;
            s_.set.push_back(t_.place[j].rank);
          }
        }
      }
      s_.proof.try_set(s_.set, s_.best.price);
    }
  }

  void finish() {
    s_.bound = s_.proof.bound();
    s_.in_set.assign(s_.proof.set().begin(), s_.proof.set().end());
    write_best(s_, b_);
  }

  const Tables& t_;
  Buffers& b_;
  TimeScratch& s_;
  TimeState& state_;
};

}  // namespace

void solve_by_tokens(const Tables& tables, Buffers& buffers) {
  const SolveOptions tokens;
  const bool is_cut = chosen_solver(tokens, tables.num_ranks) == Solver::kCut;
  (is_cut ? solve_cut : solve_flow)(tables, tokens, buffers);
}

void write_best(TimeScratch& scratch, Buffers& b) {
  const TimeState& state = scratch.state;
  scratch.state.set_all(scratch.best.take);
  b.take.assign(scratch.best.take.begin(), scratch.best.take.end());
  b.rank_load = b.fixed_load;
  const auto& places = state.tables().place;
  for (std::size_t i = 0; i < places.size(); ++i) b.rank_load[places[i].rank] += b.take[i];
  b.status = scratch.best.price <= scratch.bound ? SolveStatus::kOptimal : SolveStatus::kBounded;
}

void solve_time(const Tables& tables, const SolveOptions& options, Buffers& buffers) {
  if (buffers.time == nullptr) buffers.time.reset(new TimeScratch);
  Time(tables, buffers).run(options);
}

void report_cost(const Tables& tables, const Buffers& buffers, SplitCost& cost) {
  const TimeScratch& s = *buffers.time;
  cost.max = s.state.max_price();
  cost.bound = s.bound;
  cost.max_cost = cost_in_units(cost.max);
  cost.lower_bound = cost_in_units(cost.bound);
  cost.bottleneck_ranks.clear();
  cost.bottleneck_ranks.reserve(tables.live_ranks.size());
  cost.rank_cost.assign(static_cast<std::size_t>(tables.num_ranks), 0);
  cost.active_experts.assign(static_cast<std::size_t>(tables.num_ranks), 0);
  for (const Index g : tables.live_ranks) {
    cost.rank_cost[g] = s.state.price(g);
    if (s.in_set[g] != 0) cost.bottleneck_ranks.push_back(g);
  }
  for (Index e = 0; e < tables.num_logical; ++e) {
    const Index rank = tables.fixed_rank[e];
    if (rank >= 0 && buffers.load[e] > 0) ++cost.active_experts[rank];
  }
  for (std::size_t i = 0; i < tables.place.size(); ++i) {
    if (buffers.take[i] > 0) ++cost.active_experts[tables.place[i].rank];
  }
}

void clear_cost(SplitCost& cost) {
  cost.max_cost = cost.lower_bound = 0;
  cost.max = cost.bound = 0;
  cost.bottleneck_ranks.clear();
  cost.rank_cost.clear();
  cost.active_experts.clear();
}

}  // namespace lplb::solvers

void lplb::Workspace::TimeDeleter::operator()(TimeScratch* time) const { delete time; }
