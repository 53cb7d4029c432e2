// SPDX-License-Identifier: MIT
#include <algorithm>

#include "solve/ipm/finish.h"

// The interior-point solver. It solves the split problem as a linear program, without the
// restriction to whole tokens. Then it rounds the result, and compares it with the bound that the
// dual prices prove.
namespace lplb::solvers {
namespace {

void fill_structure(const Tables& t, IpmScratch& s) {
  IpmModel& m = s.model;
  m.num_ranks = static_cast<Index>(t.live_ranks.size());
  m.num_rows = m.num_ranks;
  s.order.assign(static_cast<std::size_t>(t.num_ranks), -1);  // rank -> row
  m.speed.resize(t.live_ranks.size());
  double joint_speed = 0;
  for (const Index g : t.live_ranks) joint_speed += t.cost.speed(g);
  for (Index i = 0; i < m.num_ranks; ++i) {
    s.order[t.live_ranks[i]] = i;
    m.speed[i] = t.cost.speed(t.live_ranks[i]) / (joint_speed / m.num_ranks);
  }
  m.begin = t.place_begin;
  m.row.resize(t.place.size());
  for (std::size_t i = 0; i < t.place.size(); ++i) m.row[i] = s.order[t.place[i].rank];
  m.entry_begin.clear();
  m.entry_row.clear();
  m.coefficient.clear();
}

}  // namespace

void fill_model(const Tables& t, Buffers& b) {
  IpmScratch& s = b.ipm;
  fill_structure(t, s);
  const double unit = static_cast<double>(b.total) / s.model.num_ranks;
  s.model.limit.resize(t.live_ranks.size());
  for (Index i = 0; i < s.model.num_ranks; ++i) {
    s.model.limit[i] = -static_cast<double>(b.fixed_load[t.live_ranks[i]]) / unit;
  }
  s.model.want.resize(t.expert.size());
  for (Index k = 0; k < t.num_replicated(); ++k) {
    s.model.want[k] = static_cast<double>(b.want[k]) / unit;
  }
}

void solve_ipm(const Tables& t, const SolveOptions& options, Buffers& b) {
  IpmScratch& s = b.ipm;
  s.price.assign(t.live_ranks.size(), 1);
  s.tokens.assign(t.place.size(), 0);
  b.steps = 0;
  if (b.total > 0) {
    fill_model(t, b);
    s.result = Ipm(s.model, s.state)
                   .run({.tolerance = options.tolerance,
                         .max_iterations = options.max_iterations,
                         .warm = options.warm_start});
    b.steps = s.result.iterations;
    const double unit = static_cast<double>(b.total) / s.model.num_ranks;
    for (std::size_t i = 0; i < t.place.size(); ++i) s.tokens[i] = s.state.x[i] * unit;
    std::copy(s.state.z.begin(), s.state.z.end(), s.price.begin());
  }
  prove_by_prices(t, s.price, b);
  round_shares(t, b);
  settle_status(t, b);
}

}  // namespace lplb::solvers
