// SPDX-License-Identifier: MIT
#include "lplb/lp.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/format.h"
#include "solve/solvers.h"

// solve_lp(). It has a variable for each slot, because constraints may distinguish the slots of one
// rank.
namespace lplb {
namespace {

using solvers::Ipm;
using solvers::IpmModel;
using solvers::IpmStatus;
using Tables = SplitProblem::Tables;
using Buffers = Workspace::Buffers;

/// Adds the experts with several live slots, with a variable for each slot. Sets slot_of_variable
/// and variable_of_slot.
void fill_experts(const Tables& t, const Buffers& b, std::span<const Load> load, LpScratch& s) {
  IpmModel& m = s.model;
  m.num_ranks = static_cast<Index>(t.live_ranks.size());
  s.row_of_rank.assign(static_cast<std::size_t>(t.num_ranks), -1);
  double joint_speed = 0;
  for (const Index g : t.live_ranks) joint_speed += t.cost.speed(g);
  s.mean_speed = joint_speed / m.num_ranks;
  s.unit = b.total > 0 ? static_cast<double>(b.total) / m.num_ranks : 1;
  m.speed.clear();
  m.limit.clear();
  s.fixed.assign(static_cast<std::size_t>(t.num_physical), 0);
  for (const Index g : t.live_ranks) {
    s.row_of_rank[g] = static_cast<Index>(m.speed.size());
    m.speed.push_back(t.cost.speed(g) / s.mean_speed);
    m.limit.push_back(0);
  }
  for (Index e = 0; e < t.num_logical; ++e) {
    if (t.fixed_slot[e] < 0) continue;
    s.fixed[t.fixed_slot[e]] = static_cast<double>(load[e]);
    m.limit[s.row_of_rank[t.fixed_rank[e]]] -= static_cast<double>(load[e]) / s.unit;
  }
  m.want.clear();
  m.begin.assign(1, 0);
  m.row.clear();
  s.slot_of_variable.clear();
  s.variable_of_slot.assign(static_cast<std::size_t>(t.num_physical), -1);
  const auto add_slots = [&](const Tables::Place& place) {
    for (Index i = 0; i < place.slot_count; ++i) {
      const Index slot = t.slots[place.slot_begin + i];
      s.variable_of_slot[slot] = static_cast<Index>(m.row.size());
      s.slot_of_variable.push_back(slot);
      m.row.push_back(s.row_of_rank[place.rank]);
    }
  };
  const auto close_expert = [&](Index expert) {
    m.want.push_back(static_cast<double>(load[expert]) / s.unit);
    m.begin.push_back(static_cast<Index>(m.row.size()));
  };
  for (Index k = 0; k < t.num_replicated(); ++k) {
    for (Index i = t.place_begin[k]; i < t.place_begin[k + 1]; ++i) add_slots(t.place[i]);
    close_expert(t.expert[k]);
  }
  for (const Tables::Place& place : t.shared) {
    add_slots(place);
    close_expert(place.expert);
  }
}

/// Adds the constraints, each scaled so that its largest coefficient is 1.
void fill_constraints(std::span<const LinearConstraint> constraints, LpScratch& s) {
  IpmModel& m = s.model;
  m.num_rows = m.num_ranks + static_cast<Index>(constraints.size());
  m.entry_begin.assign(m.row.size() + 1, 0);
  s.scale.clear();
  for (const LinearConstraint& constraint : constraints) {
    double scale = 0;
    double left = constraint.at_most;
    for (const Term& term : constraint.terms) {
      left -= term.coefficient * s.fixed[term.physical];
      const Index variable = s.variable_of_slot[term.physical];
      if (variable < 0) continue;
      scale = std::max(scale, std::abs(term.coefficient));
      ++m.entry_begin[variable + 1];
    }
    s.scale.push_back(scale > 0 ? scale : 1);
    m.limit.push_back(left / (s.unit * s.scale.back()));
  }
  for (std::size_t i = 1; i < m.entry_begin.size(); ++i) m.entry_begin[i] += m.entry_begin[i - 1];
  m.entry_row.resize(static_cast<std::size_t>(m.entry_begin.back()));
  m.coefficient.resize(m.entry_row.size());
  s.filled.assign(m.entry_begin.begin(), m.entry_begin.end() - 1);
  for (std::size_t c = 0; c < constraints.size(); ++c) {
    for (const Term& term : constraints[c].terms) {
      const Index variable = s.variable_of_slot[term.physical];
      if (variable < 0) continue;
      const Index at = s.filled[variable]++;
      m.entry_row[at] = m.num_ranks + static_cast<Index>(c);
      m.coefficient[at] = term.coefficient / s.scale[c];
    }
  }
}

void check_constraints(const Tables& t, std::span<const LinearConstraint> constraints) {
  check_argument(t.live_ranks.size() + constraints.size() <= std::size_t{kMaxLpConstraints},
                 "constraints", "{} live ranks and {} constraints, expected at most {} in all",
                 t.live_ranks.size(), constraints.size(), kMaxLpConstraints);
  for (std::size_t c = 0; c < constraints.size(); ++c) {
    check_argument(std::isfinite(constraints[c].at_most), "constraints",
                   "constraint {} has at_most {}, expected a finite number", c,
                   constraints[c].at_most);
    for (const Term& term : constraints[c].terms) {
      check_argument(term.physical >= 0 && term.physical < t.num_physical, "constraints",
                     "constraint {} names slot {}, expected 0 to {}", c, term.physical,
                     t.num_physical - 1);
      check_argument(std::isfinite(term.coefficient), "constraints",
                     "constraint {} has coefficient {} for slot {}, expected a finite number", c,
                     term.coefficient, term.physical);
    }
  }
}

void report(const Tables& t, std::span<const LinearConstraint> constraints,
            const solvers::IpmResult& result, const LpScratch& s, LpSolution& out) {
  const IpmModel& m = s.model;
  out.status = result.status == IpmStatus::kConverged    ? LpStatus::kOptimal
               : result.status == IpmStatus::kInfeasible ? LpStatus::kInfeasible
                                                         : LpStatus::kIterationLimit;
  out.iterations = result.iterations;
  out.physical_load.assign(s.fixed.begin(), s.fixed.end());
  for (Index k = 0; k < m.num_experts(); ++k) {
    double sum = 0;
    for (Index p = m.begin[k]; p < m.begin[k + 1]; ++p) sum += s.state.x[p];
    for (Index p = m.begin[k]; p < m.begin[k + 1]; ++p) {
      out.physical_load[s.slot_of_variable[p]] =
          sum > 0 ? m.want[k] * s.unit * (s.state.x[p] / sum) : 0;
    }
  }
  out.rank_load.assign(static_cast<std::size_t>(t.num_ranks), 0);
  const Index slots_per_rank = t.num_physical / t.num_ranks;
  for (Index p = 0; p < t.num_physical; ++p) {
    out.rank_load[p / slots_per_rank] += out.physical_load[p];
  }
  out.max_load = 0;
  out.rank_price.assign(static_cast<std::size_t>(t.num_ranks), 0);
  double weight = 0;
  for (Index i = 0; i < m.num_ranks; ++i) weight += m.speed[i] * s.state.z[i];
  for (Index i = 0; i < m.num_ranks; ++i) {
    const Index g = t.live_ranks[i];
    out.max_load = std::max(out.max_load, out.rank_load[g] / t.cost.speed(g));
    out.rank_price[g] = s.state.z[i] / (weight * s.mean_speed);
  }
  out.lower_bound = result.lower_bound * (s.unit / s.mean_speed);
  out.gap = out.max_load > 0 ? std::max(0.0, 1 - out.lower_bound / out.max_load) : 0;
  out.constraint_price.clear();
  out.violation = 0;
  for (std::size_t c = 0; c < constraints.size(); ++c) {
    out.constraint_price.push_back(s.state.z[static_cast<std::size_t>(m.num_ranks) + c] /
                                   (weight * s.mean_speed * s.scale[c]));
    double sum = -constraints[c].at_most;
    for (const Term& term : constraints[c].terms) {
      sum += term.coefficient * out.physical_load[term.physical];
    }
    out.violation = std::max(out.violation, sum);
  }
}

}  // namespace

const char* lp_status_name(LpStatus status) {
  switch (status) {
    case LpStatus::kOptimal:
      return "optimal";
    case LpStatus::kIterationLimit:
      return "iteration limit";
    case LpStatus::kInfeasible:
      return "infeasible";
  }
  throw ArgumentError("status", formatted("{} is none", static_cast<int>(status)));
}

void solve_lp(const SplitProblem& problem, std::span<const Load> load,
              std::span<const LinearConstraint> constraints, LpSolution& solution,
              Workspace& workspace, const LpOptions& options) {
  const Tables& t = problem.tables();
  Buffers& b = workspace.buffers();
  check_constraints(t, constraints);
  solvers::take_loads(t, load, b);
  LpScratch& s = b.lp;
  fill_experts(t, b, load, s);
  fill_constraints(constraints, s);
  const solvers::IpmResult result = Ipm(s.model, s.state)
                                        .run({.tolerance = options.tolerance,
                                              .max_iterations = options.max_iterations,
                                              .warm = options.warm_start});
  report(t, constraints, result, s, solution);
}

LpSolution solve_lp(const Placement& placement, std::span<const Load> load,
                    std::span<const LinearConstraint> constraints, const LpOptions& options) {
  LpSolution solution;
  Workspace workspace;
  solve_lp(SplitProblem(placement), load, constraints, solution, workspace, options);
  return solution;
}

}  // namespace lplb
