// SPDX-License-Identifier: MIT
#include "solve/time/fast.h"

#include <algorithm>

#include "solve/time/time.h"

// The solver "fast-time". docs/time.md, "In a step", has the steps, and device/fast_time.cuh the
// same ones for a warp.
namespace lplb::solvers {
namespace {

class FastTime {
 public:
  FastTime(const Tables& tables, Buffers& buffers)
      : t_(tables), b_(buffers), s_(*buffers.time), state_(s_.state) {}

  void run(const SolveOptions& options) {
    s_.model.assign(*options.cost, t_);
    state_.begin(t_, s_.model, b_.load);
    s_.best.begin();
    s_.bound = 0;
    s_.in_set.assign(static_cast<std::size_t>(t_.num_ranks), 0);
    if (all_cost_one_step()) {
      solve_units();
    } else {
      solve_parts();
    }
    write_best(s_, b_);
  }

 private:
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

  /// The solver's split by tokens or, if that is not near the bound, the cheaper of it and a greedy
  /// one of whole experts; then moves of one expert each.
  void solve_parts() {
    solve_by_tokens(t_, b_);
    find_bound();
    state_.set_all(b_.take);
    s_.best.keep(state_);
    const Cost near = s_.bound + s_.bound / kNearPart;
    if (s_.best.price > near) {
      put_greedily(state_);
      s_.best.keep(state_);
      state_.set_all(s_.best.take);
    }
    b_.steps = improve_singly(state_, near, kFastMoves, s_.search);
    s_.best.keep(state_);
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

}  // namespace lplb::solvers
