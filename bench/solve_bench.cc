// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "bench/workloads.h"
#include "lplb/solver.h"

namespace lplb::bench {
namespace {

// What is timed must be right: every batch once, checked by its certificate.
std::string check_batches(const testing::Workload& w, const SplitProblem& problem,
                          const SolveOptions& options) {
  Workspace workspace;
  Split split;
  for (const auto& load : w.loads) {
    solve(problem, load, split, workspace, options);
    if (split.status != SolveStatus::kOptimal && options.solver != Solver::kIpm) {
      return "a batch was not solved to optimality";
    }
    const std::string problem_found = verify_split(w.placement, load, split);
    if (!problem_found.empty()) return problem_found;
  }
  return "";
}

// solve/WORKLOAD/SOLVER: one batch after another, one thread; an item is a batch.
void solve_one(benchmark::State& state, const std::string& name, Solver solver) {
  const testing::Workload& w = workload(name);
  const SplitProblem problem(w.placement);
  SolveOptions options;
  options.solver = solver;
  if (solver == Solver::kIpm) options.tolerance = 1e-4;
  const std::string wrong = check_batches(w, problem, options);
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());

  Workspace workspace;
  Split split;
  std::size_t i = 0;
  for (auto _ : state) {
    solve(problem, w.loads[i], split, workspace, options);
    benchmark::DoNotOptimize(split.physical_load.data());
    i = (i + 1) % w.loads.size();
  }
  state.SetItemsProcessed(state.iterations());
}

// batch/WORKLOAD: all batches in one call of solve_batch() on one thread; an item is a batch.
void solve_many(benchmark::State& state, const std::string& name) {
  const testing::Workload& w = workload(name);
  const SplitProblem problem(w.placement);
  std::vector<Load> loads;
  for (const auto& load : w.loads) loads.insert(loads.end(), load.begin(), load.end());
  std::vector<Load> physical_loads(w.loads.size() * w.placement.physical_to_logical.size());
  std::vector<SplitSummary> summary(w.loads.size());
  for (auto _ : state) {
    solve_batch(problem, loads, physical_loads, summary, 1);
    benchmark::DoNotOptimize(physical_loads.data());
  }
  for (const SplitSummary& batch : summary) {
    if (batch.status != SolveStatus::kOptimal) state.SkipWithError("a batch was not optimal");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(summary.size()));
}

// tables/WORKLOAD: what a placement change costs, off the hot path.
void make_tables(benchmark::State& state, const std::string& name) {
  const testing::Workload& w = workload(name);
  SplitProblem problem(w.placement);
  for (auto _ : state) {
    problem.assign(w.placement);
    benchmark::DoNotOptimize(&problem.tables());
  }
  state.SetItemsProcessed(state.iterations());
}

bool register_all() {
  for (const std::string& name : testing::workload_names()) {
    const bool small = name == "cube8x2";
    for (const Solver solver : {Solver::kCut, Solver::kFlow, Solver::kIpm}) {
      if (solver == Solver::kCut && !small) continue;
      const std::string title = "solve/" + name + "/" + solver_name(solver);
      benchmark::RegisterBenchmark(title.c_str(), solve_one, name, solver);
    }
    benchmark::RegisterBenchmark(("batch/" + name).c_str(), solve_many, name);
    benchmark::RegisterBenchmark(("tables/" + name).c_str(), make_tables, name);
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
