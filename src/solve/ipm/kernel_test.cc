// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "solve/ipm/finish.h"
#include "solve/ipm/tables.h"
#include "support/emulated_block.h"
#include "support/instances.h"
#include "support/repetitions.h"

// NOTE: this comes after the emulation, because it is compiled with it.
#include "solve/ipm/kernel.cuh"

// Runs the kernel's source on the CPU.
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
    launch_one_of(std::make_index_sequence<std::size(kIpmSizes)>());
  }

  std::vector<Load> take;
  std::vector<double> price;
  std::vector<IpmOutcome> outcome;
  std::vector<double> kept;

 private:
  template <std::size_t... kIndex>
  void launch_one_of(std::index_sequence<kIndex...>) {
    const auto launch_if = [this]<std::size_t kAt>() {
      constexpr IpmSize kSize = kIpmSizes[kAt];
      if (ipm_.size().rows == kSize.rows) launch_size<kSize.rows, kSize.lanes>();
    };
    (launch_if.template operator()<kIndex>(), ...);
  }

  template <int kRows, int kLanes>
  void launch_size() {
    std::vector<double> shared(static_cast<std::size_t>(ipm_.shared_bytes()) / sizeof(double) + 1);
    emulated::run_block(kRows * kLanes, [&] {
      for (unsigned block = 0; block < outcome.size(); ++block) {
        blockIdx.x = block;
        IpmBlock<kRows, kLanes>(args_, shared.data()).run();
        __syncthreads();
      }
    });
  }

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

// One shape for each size. ThreadSanitizer has a thread of the system for each thread of the block.
#ifdef __SANITIZE_THREAD__
constexpr const char* kShapes[] = {"cube8x2", "hypercube16x2"};
#else
constexpr const char* kShapes[] = {"cube8x2", "hypercube16x2", "torus8x4x2", "EP64+64", "EP72+144"};
#endif
constexpr std::uint64_t kNumRandom = lplb::testing::repetitions(60, 6);

TEST(IpmKernel, SolvesEachSizeAsTheCpuDoes) {
  for (const char* name : kShapes) {
    SCOPED_TRACE(name);
    const auto workload = lplb::testing::make_workload(name, 3);
    expect_as_on_the_cpu(workload.placement, workload.loads);
  }
}

TEST(IpmKernel, SolvesRandomInstancesAsTheCpuDoes) {
  for (std::uint64_t seed = 0; seed < kNumRandom; ++seed) {
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
