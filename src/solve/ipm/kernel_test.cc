// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "solve/ipm/cholesky.h"
#include "solve/ipm/finish.h"
#include "solve/ipm/tables.h"
#include "support/emulated_block.h"
#include "support/instances.h"

// Runs the kernel's source on the CPU, with our Cholesky in place of cuSolverDx's.
#define LPLB_IPM_ROWS 16
#define LPLB_IPM_THREADS 64

namespace lplb::solvers {
alignas(16) double shared[1 << 15];
}

#include "solve/ipm/kernel.cu"

// cuSolverDx's matrices are stored by columns. The lower half is read.
namespace lplb::emulated {
constexpr Index kRows = LPLB_IPM_ROWS;

std::vector<double> by_rows(const double* matrix) {
  std::vector<double> rows(std::size_t{kRows} * kRows);
  for (Index i = 0; i < kRows; ++i) {
    for (Index j = 0; j <= i; ++j) rows[i * kRows + j] = matrix[j * kRows + i];
  }
  return rows;
}
}  // namespace lplb::emulated

extern "C" void lplb_potrf(double* matrix, int* status) {
  using lplb::emulated::kRows;
  if (threadIdx.x != 0) return;
  std::vector<double> rows = lplb::emulated::by_rows(matrix);
  *status = lplb::solvers::cholesky(rows.data(), kRows) ? 0 : 1;
  for (lplb::Index i = 0; i < kRows; ++i) {
    for (lplb::Index j = 0; j <= i; ++j) matrix[j * kRows + i] = rows[i * kRows + j];
  }
}

extern "C" void lplb_potrs(double* matrix, double* right) {
  using lplb::emulated::kRows;
  if (threadIdx.x != 0) return;
  const std::vector<double> rows = lplb::emulated::by_rows(matrix);
  lplb::solvers::cholesky_solve(rows.data(), kRows, right);
  lplb::solvers::cholesky_solve(rows.data(), kRows, right + kRows);
}

namespace lplb::solvers {
namespace {

using lplb::testing::Instance;

/// Launches one block for each instance, one after another.
class Emulator {
 public:
  Emulator(const SplitProblem& problem, int instances)
      : tables_(problem.tables()), rows_(tables_.live_ranks.size()) {
    ipm_.assign(tables_);
    ipm_.fill(args_, ipm_.integers().data(), ipm_.speed().data());
    const auto n = static_cast<std::size_t>(instances);
    take.resize(n * tables_.place.size());
    price.resize(n * rows_);
    outcome.resize(n);
    kept.resize(n * (1 + tables_.place.size() + rows_));
  }

  void add(const Workspace::Buffers& b) {
    want_.insert(want_.end(), b.want.begin(), b.want.end());
    for (const Index g : tables_.live_ranks) fixed_.push_back(b.fixed_load[g]);
  }

  void launch(const SolveOptions& options) {
    args_.want = want_.data();
    args_.fixed = fixed_.data();
    args_.take = take.data();
    args_.price = price.data();
    args_.outcome = outcome.data();
    args_.kept = kept.data();
    args_.tolerance = options.tolerance;
    args_.max_iterations = options.max_iterations;
    args_.warm = options.warm_start;
    emulated::run_block(LPLB_IPM_THREADS, [&] {
      for (unsigned block = 0; block < outcome.size(); ++block) {
        blockIdx.x = block;
        lplb_ipm(args_);
        __syncthreads();
      }
    });
  }

  std::vector<Load> take;
  std::vector<double> price;
  std::vector<IpmOutcome> outcome;
  std::vector<double> kept;

 private:
  const Tables& tables_;
  std::size_t rows_;
  IpmTables ipm_;
  IpmKernelArgs args_{};
  std::vector<Load> want_, fixed_;
};

void expect_as_on_the_cpu(const Placement& placement, const std::vector<std::vector<Load>>& loads) {
  const SplitProblem problem(placement);
  const Tables& t = problem.tables();
  const SolveOptions options{.solver = Solver::kIpm, .tolerance = 1e-6};
  Emulator emulator(problem, static_cast<int>(loads.size()));
  std::vector<Workspace> workspaces(loads.size());
  Split split;
  for (std::size_t i = 0; i < loads.size(); ++i) {
    solve(problem, loads[i], split, workspaces[i], options);
    emulator.add(workspaces[i].buffers());
  }
  emulator.launch(options);
  for (std::size_t i = 0; i < loads.size(); ++i) {
    Workspace::Buffers& b = workspaces[i].buffers();
    const IpmOutcome& outcome = emulator.outcome[i];
    EXPECT_EQ(outcome.status, IpmOutcomeStatus::kConverged);
    EXPECT_NEAR(outcome.iterations, static_cast<double>(b.steps), 1);
    const Load* const take = emulator.take.data() + i * t.place.size();
    for (Index k = 0; k < t.num_replicated(); ++k) {
      Load sum = 0;
      for (Index p = t.place_begin[k]; p < t.place_begin[k + 1]; ++p) {
        EXPECT_GE(take[p], 0);
        sum += take[p];
      }
      EXPECT_EQ(sum, b.want[k]);
    }
    if (b.total == 0) continue;
    const double unit = static_cast<double>(b.total) / static_cast<double>(t.live_ranks.size());
    EXPECT_NEAR(outcome.max_load / unit, b.ipm.result.max_load, 2e-6 * b.ipm.result.max_load);
    EXPECT_NEAR(outcome.lower_bound / unit, b.ipm.result.lower_bound, 2e-6 * b.ipm.result.max_load);
    const Level bound = b.bound;
    const std::size_t rows = t.live_ranks.size();
    prove_by_prices(t, std::span(emulator.price).subspan(i * rows, rows), b);
    EXPECT_NEAR(t.cost.price(b.bound), t.cost.price(bound), 1e-6 * t.cost.price(bound) + 1.001);
  }
}

TEST(IpmKernel, SolvesTheCubeAndTheHypercubeAsTheCpuDoes) {
  for (const char* name : {"cube8x2", "hypercube16x2"}) {
    const auto workload = lplb::testing::make_workload(name, 3);
    expect_as_on_the_cpu(workload.placement, workload.loads);
  }
}

TEST(IpmKernel, SolvesRandomInstancesAsTheCpuDoes) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const Instance instance = lplb::testing::random_instance(seed, {.max_ranks = 16});
    expect_as_on_the_cpu(instance.placement, {instance.load});
  }
}

TEST(IpmKernel, StartsFromTheLastBatch) {
  const auto workload = lplb::testing::make_workload("cube8x2", 1);
  const SplitProblem problem(workload.placement);
  Emulator emulator(problem, 1);
  Workspace workspace;
  Split split;
  SolveOptions options{.solver = Solver::kIpm, .tolerance = 1e-4, .warm_start = true};
  solve(problem, workload.loads[0], split, workspace, options);
  emulator.add(workspace.buffers());
  emulator.launch(options);  // there is no previous batch yet
  const int cold = emulator.outcome[0].iterations;
  emulator.launch(options);
  EXPECT_EQ(emulator.outcome[0].status, IpmOutcomeStatus::kConverged);
  EXPECT_LT(emulator.outcome[0].iterations, cold);
}

TEST(IpmKernel, RefusesWhatNoSizeTakes) {
  const std::vector<Index> map(145, 0);
  IpmTables tables;
  EXPECT_THROW(tables.assign(SplitProblem(make_placement(145, 1, map)).tables()), ArgumentError);
}

}  // namespace
}  // namespace lplb::solvers
