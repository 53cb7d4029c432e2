// SPDX-License-Identifier: MIT
#include "bench/solve_bench.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "bench/workloads.h"
#include "lplb/solver.h"

namespace lplb::bench {
namespace {

/// A batch, its placement, and the solver's tables of the placement.
struct Item {
  const Placement* placement;
  const SplitProblem* problem;
  const std::vector<Load>* load;
};

/// All batches of a case.
class Items {
 public:
  explicit Items(std::vector<testing::Workload> workloads) : workloads_(std::move(workloads)) {
    problems_.reserve(workloads_.size());
    for (const testing::Workload& w : workloads_) {
      problems_.emplace_back(w.placement);
      for (const auto& load : w.loads) items_.push_back({&w.placement, &problems_.back(), &load});
    }
  }
  const std::vector<Item>& all() const { return items_; }

 private:
  std::vector<testing::Workload> workloads_;
  std::vector<SplitProblem> problems_;
  std::vector<Item> items_;
};

// Solves every batch once and checks the result by its certificate, because only right results may
// be timed.
std::string check_batches(const std::vector<Item>& items, const SolveOptions& options) {
  Workspace workspace;
  Split split;
  for (const Item& item : items) {
    solve(*item.problem, *item.load, split, workspace, options);
    if (split.status != SolveStatus::kOptimal && options.solver != Solver::kIpm) {
      return "a batch was not solved to optimality";
    }
    const std::string problem_found = verify_split(*item.placement, *item.load, split);
    if (!problem_found.empty()) return problem_found;
  }
  return "";
}

// solve/WORKLOAD/SOLVER: solves one batch after the other on one thread. An item is a batch.
void solve_one(benchmark::State& state, const Case& c, Solver solver) {
  const Items items(c.make(kNumBatches));
  SolveOptions options;
  options.solver = solver;
  if (solver == Solver::kIpm) options.tolerance = 1e-4;
  const std::string wrong = check_batches(items.all(), options);
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());

  Workspace workspace;
  Split split;
  std::size_t i = 0;
  for (auto _ : state) {
    const Item& item = items.all()[i];
    solve(*item.problem, *item.load, split, workspace, options);
    benchmark::DoNotOptimize(split.physical_load.data());
    i = (i + 1) % items.all().size();
  }
  state.SetItemsProcessed(state.iterations());
}

void register_solvers(const Case& c) {
  for (const Solver solver : {Solver::kCut, Solver::kFlow, Solver::kIpm}) {
    if (solver == Solver::kCut && !is_shape(c, "cube8x2")) continue;
    if (solver == Solver::kIpm && is_only_hard(c)) continue;
    const std::string title = "solve/" + c.name + "/" + solver_name(solver);
    benchmark::RegisterBenchmark(title.c_str(), solve_one, c, solver);
  }
}

// batch/WORKLOAD: solves all batches in one call of solve_batch() on one thread. An item is a
// batch.
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

// tables/WORKLOAD: the cost of a new placement, which is not on the hot path.
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
  for (const Case& c : synthetic_cases()) {
    register_solvers(c);
    if (is_hard(c)) continue;
    benchmark::RegisterBenchmark(("batch/" + c.name).c_str(), solve_many, c.name);
    benchmark::RegisterBenchmark(("tables/" + c.name).c_str(), make_tables, c.name);
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace

void register_recorded(const std::string& trace) {
  for (const Case& c : recorded_cases(trace)) register_solvers(c);
}

}  // namespace lplb::bench
