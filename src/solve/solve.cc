// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>

#include "core/check.h"
#include "core/format.h"
#include "solve/solvers.h"

namespace lplb {
namespace {

using Tables = SplitProblem::Tables;
using Buffers = Workspace::Buffers;

/// A solver. A new one is one file, and one line in kRegistry. kAuto takes the first that fits.
struct Entry {
  Solver solver;
  const char* name;
  Index max_ranks;
  void (*run)(const Tables&, const SolveOptions&, Buffers&);
};

constexpr std::array kRegistry = {
    Entry{Solver::kCut, "cut", kMaxCutRanks, solvers::solve_cut},
    Entry{Solver::kFlow, "flow", kMaxRanks, solvers::solve_flow},
    Entry{Solver::kIpm, "ipm", kMaxIpmRanks, solvers::solve_ipm},
    Entry{Solver::kTime, "time", kMaxRanks, solvers::solve_time},
    Entry{Solver::kFastTime, "fast-time", kMaxRanks, solvers::solve_fast_time},
};

const Entry& choose_solver(const SolveOptions& options, Index num_ranks) {
  const bool by_cost = options.cost != nullptr;
  for (const Entry& entry : kRegistry) {
    const bool takes_cost = entry.solver == Solver::kTime || entry.solver == Solver::kFastTime;
    if (options.solver == Solver::kAuto && num_ranks <= entry.max_ranks && by_cost == takes_cost) {
      return entry;
    }
    if (options.solver != entry.solver) continue;
    check_argument(by_cost || !takes_cost, "solver", "\"{}\" needs a cost model", entry.name);
    check_argument(takes_cost || !by_cost, "solver",
                   "\"{}\" takes no cost model, expected \"time\", \"fast-time\" or \"auto\"",
                   entry.name);
    check_argument(num_ranks <= entry.max_ranks, "solver", "\"{}\" takes up to {} ranks, not {}",
                   entry.name, entry.max_ranks, num_ranks);
    return entry;
  }
  throw ArgumentError("solver", formatted("{} is no solver", static_cast<int>(options.solver)));
}

}  // namespace

void solvers::take_loads(const Tables& t, std::span<const Load> load, Buffers& b) {
  check_argument(load.size() == static_cast<std::size_t>(t.num_logical), "load",
                 "has {} entries, expected num_logical_experts ({})", load.size(), t.num_logical);
  b.resize(t);
  b.load = load;
  b.total = 0;
  Load sign = 0;
  bool overflow = false;
  for (Index e = 0; e < t.num_logical; ++e) {
    sign |= load[e];
    overflow |= __builtin_add_overflow(b.total, load[e], &b.total);
    const Index rank = t.fixed_rank[e];
    // NOTE: unsigned, so that a bad load cannot overflow before it is reported.
    if (rank >= 0) {
      b.fixed_load[rank] = static_cast<Load>(static_cast<std::uint64_t>(b.fixed_load[rank]) +
                                             static_cast<std::uint64_t>(load[e]));
    }
  }
  if (sign < 0) {
    const auto bad = std::find_if(load.begin(), load.end(), [](Load w) { return w < 0; });
    throw ArgumentError(
        "load", formatted("expert {} has load {}, expected >= 0", bad - load.begin(), *bad));
  }
  check_argument(!overflow, "load", "the sum passes 2^63 - 1");
  for (Index k = 0; k < t.num_replicated(); ++k) b.want[k] = load[t.expert[k]];
}

namespace {

/// Divides a place's tokens evenly among its slots. If costs count, the first slot takes them all,
/// because each slot with tokens is a part of its own to the hardware.
void fill_slots(const Tables& t, const Tables::Place& place, Load tokens, bool whole,
                std::vector<Load>& physical_load) {
  if (whole) {
    physical_load[t.slots[place.slot_begin]] = tokens;
    return;
  }
  const Load each = tokens / place.slot_count;
  const Load extra = tokens % place.slot_count;
  for (Index i = 0; i < place.slot_count; ++i) {
    physical_load[t.slots[place.slot_begin + i]] = each + (i < extra);
  }
}

void report(const Tables& t, std::span<const Load> load, const Buffers& b, bool by_cost,
            Split& split) {
  split.status = b.status;
  split.steps = b.steps;
  split.rank_load.assign(b.rank_load.begin(), b.rank_load.end());
  split.max_level = {0, t.live_ranks[0]};
  split.bottleneck_ranks.clear();
  split.bottleneck_ranks.reserve(t.live_ranks.size());
  for (const Index g : t.live_ranks) {
    const Level level{b.rank_load[g], g};
    if (t.cost.compare(level, split.max_level) > 0) split.max_level = level;
    if (b.in_proof[g] != 0) split.bottleneck_ranks.push_back(g);
  }
  split.bound_level = b.bound;
  split.max_load = t.cost.price(split.max_level);
  // Equal levels of ranks with different speeds may round to different prices, so report one of
  // them.
  split.lower_bound = t.cost.compare(split.max_level, split.bound_level) == 0
                          ? split.max_load
                          : t.cost.price(split.bound_level);

  split.physical_load.assign(static_cast<std::size_t>(t.num_physical), 0);
  for (Index e = 0; e < t.num_logical; ++e) {
    if (t.fixed_slot[e] >= 0) split.physical_load[t.fixed_slot[e]] = load[e];
  }
  for (const Tables::Place& place : t.shared) {
    fill_slots(t, place, load[place.expert], by_cost, split.physical_load);
  }
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    fill_slots(t, t.place[i], b.take[i], by_cost, split.physical_load);
  }
}

}  // namespace

Solver solvers::chosen_solver(const SolveOptions& options, Index num_ranks) {
  return choose_solver(options, num_ranks).solver;
}

Solver parse_solver(std::string_view name) {
  if (name == "auto") return Solver::kAuto;
  std::string known = "\"auto\"";
  for (const Entry& entry : kRegistry) {
    if (name == entry.name) return entry.solver;
    known += formatted(", \"{}\"", entry.name);
  }
  throw ArgumentError("solver", formatted("\"{}\" is unknown, expected one of {}", name, known));
}

const char* solver_name(Solver solver) {
  for (const Entry& entry : kRegistry) {
    if (entry.solver == solver) return entry.name;
  }
  return "auto";
}

const char* status_name(SolveStatus status) {
  return status == SolveStatus::kOptimal ? "optimal" : "bounded";
}

Workspace::Workspace() : buffers_(std::make_unique<Buffers>()) {}
Workspace::~Workspace() = default;
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;

void Workspace::Buffers::resize(const Tables& t) {
  const auto ranks = static_cast<std::size_t>(t.num_ranks);
  fixed_load.assign(ranks, 0);
  want.resize(t.expert.size());
  take.resize(t.place.size());
  rank_load.resize(ranks);
  in_proof.resize(ranks);
  for (auto* v : {&capacity, &room}) v->resize(ranks);
  for (auto* v : {&level_load, &level_x}) v->resize(ranks);
  level_speed.resize(ranks);
  for (auto* v : {&level_order, &label}) v->resize(ranks);
  target.resize(t.expert.size());
  for (auto* v : {&found, &rank_list}) v->reserve(ranks);
  level_begin.reserve(ranks + 2);
  heap.reserve(ranks);
  steps = 0;
}

void solve(const SplitProblem& problem, std::span<const Load> load, Split& split,
           Workspace& workspace, const SolveOptions& options) {
  const Tables& t = problem.tables();
  Buffers& b = workspace.buffers();
  const Entry& entry = choose_solver(options, t.num_ranks);
  const bool by_cost = options.cost != nullptr;
  solvers::take_loads(t, load, b);
  const bool on_device =
      options.backend == Backend::kCuda && solvers::solve_on_device(t, options, entry.solver, b);
  if (!on_device) entry.run(t, options, b);
  split.solver = entry.solver;
  split.backend = on_device ? Backend::kCuda : Backend::kCpu;
  report(t, load, b, by_cost, split);
  if (by_cost) {
    solvers::report_cost(t, b, split.cost);
  } else {
    solvers::clear_cost(split.cost);
  }
}

Split solve(const Placement& placement, std::span<const Load> load, const SolveOptions& options) {
  Split split;
  Workspace workspace;
  solve(SplitProblem(placement), load, split, workspace, options);
  return split;
}

}  // namespace lplb
