// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lplb/solver.h"
#include "solve/ipm/cholesky.h"
#include "solve/ipm/finish.h"
#include "solve/ipm/round.h"
#include "support/instances.h"

namespace lplb {
namespace {

using lplb::testing::adversarial_instances;
using lplb::testing::Instance;
using lplb::testing::random_instance;
using lplb::testing::SplitMix64;
using solvers::IpmStatus;
using ::testing::ElementsAre;

const SolveOptions kIpm{.solver = Solver::kIpm};

/// Solves, and checks the split, its bound and the shares. Compares the bound and the shares with
/// flow's exact optimum.
struct Checked {
  Split split;
  solvers::IpmResult result;
};

Checked check(const Instance& instance, const SolveOptions& options = kIpm) {
  SCOPED_TRACE(instance.name);
  const SplitProblem problem(instance.placement);
  Checked checked;
  Split& split = checked.split;
  Workspace workspace;
  solve(problem, instance.load, split, workspace, options);
  EXPECT_EQ(verify_split(instance.placement, instance.load, split), "");
  EXPECT_EQ(split.solver, Solver::kIpm);
  // Levels above 2^53 may differ although their doubles are equal.
  const bool met =
      split.max_level.tokens == split.bound_level.tokens && split.max_load == split.lower_bound;
  if (instance.placement.rank_speed.empty()) {
    EXPECT_EQ(split.status == SolveStatus::kOptimal, met);
  }

  const double best = solve(instance.placement, instance.load, {.solver = Solver::kFlow}).max_load;
  EXPECT_GE(split.max_load, best);
  EXPECT_LE(split.lower_bound, best);
  const Workspace::Buffers& b = workspace.buffers();
  if (b.total == 0) return checked;
  checked.result = b.ipm.result;
  EXPECT_EQ(checked.result.status, IpmStatus::kConverged);
  EXPECT_LE(checked.result.max_load - checked.result.lower_bound,
            options.tolerance * checked.result.max_load);
  // The program's optimum is at most that for whole tokens, which may be higher by one token for
  // each rank.
  double joint_speed = 0;
  double fastest_token = 0;
  for (const Index g : problem.tables().live_ranks) {
    joint_speed += instance.placement.speed(g);
    fastest_token = std::max(fastest_token, 1 / instance.placement.speed(g));
  }
  const double unit = static_cast<double>(b.total) / joint_speed;
  EXPECT_LE(checked.result.lower_bound * unit, best * (1 + 1e-9));
  EXPECT_GE(checked.result.max_load * unit, (best - fastest_token) * (1 - 1e-9));
  const auto& state = b.ipm.state;
  for (Index k = 0; k < b.ipm.model.num_experts(); ++k) {
    const double want = b.ipm.model.want[k];
    double sum = 0;
    for (Index p = b.ipm.model.begin[k]; p < b.ipm.model.begin[k + 1]; ++p) {
      EXPECT_GE(state.x[p], 0);
      EXPECT_LE(state.x[p], want * (1 + 1e-9));
      sum += state.x[p];
    }
    EXPECT_NEAR(sum, want, 1e-9 * want);
  }
  return checked;
}

TEST(Ipm, SolvesAdversarialInstances) {
  for (const Instance& instance : adversarial_instances()) {
    if (instance.placement.num_ranks > kMaxIpmRanks) continue;
    EXPECT_LE(check(instance).result.iterations, 20) << instance.name;
  }
}

TEST(Ipm, SolvesRandomInstances) {
  int optimal = 0;
  constexpr int kSeeds = 3000;
  for (std::uint64_t seed = 0; seed < kSeeds && !HasFailure(); ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = seed % 20 == 0 ? 70 : 12,
                                                     .max_load = seed % 5 == 0   ? 3
                                                                 : seed % 5 == 1 ? Load{1} << 40
                                                                                 : 1000});
    optimal += check(instance).split.status == SolveStatus::kOptimal;
  }
  EXPECT_GT(optimal, kSeeds * 9 / 10);
}

TEST(Ipm, WorkloadsTakeFewIterations) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 40);
    std::int64_t steps = 0;
    for (const auto& load : workload.loads) {
      const Checked checked =
          check({name, workload.placement, load}, {.solver = Solver::kIpm, .tolerance = 1e-4});
      // Whole tokens lose no more than the tolerance and a few tokens.
      EXPECT_LE(checked.split.max_load, checked.split.lower_bound * (1 + 1e-4) + 3) << name;
      steps += checked.split.steps;
    }
    EXPECT_LE(steps, 40 * 6) << name;
  }
}

TEST(Ipm, TighterToleranceTakesMoreIterationsAndLeavesLess) {
  const auto workload = lplb::testing::make_workload("torus8x4x2", 20);
  for (const auto& load : workload.loads) {
    const Instance instance{"torus", workload.placement, load};
    const Checked loose = check(instance, {.solver = Solver::kIpm, .tolerance = 1e-2});
    const Checked tight = check(instance, {.solver = Solver::kIpm, .tolerance = 1e-10});
    EXPECT_LE(loose.result.iterations, tight.result.iterations);
    EXPECT_LE(tight.result.lower_bound, loose.result.max_load);
    EXPECT_LE(loose.result.lower_bound, tight.result.max_load);
  }
}

TEST(Ipm, IterationLimitLeavesAFeasibleSplitAndAnHonestBound) {
  const auto workload = lplb::testing::make_workload("EP32+32", 10);
  for (const auto& load : workload.loads) {
    for (const int limit : {0, 1, 2}) {
      const SolveOptions options{.solver = Solver::kIpm, .tolerance = 0, .max_iterations = limit};
      const Split split = solve(workload.placement, load, options);
      EXPECT_EQ(verify_split(workload.placement, load, split), "");
      EXPECT_EQ(split.steps, limit);
    }
  }
}

TEST(Ipm, ZeroAndOneToken) {
  const Placement p = make_placement(3, 2, std::vector<Index>{0, 1, 0, 1, 0, 1});
  const Split none = solve(p, std::vector<Load>{0, 0}, kIpm);
  EXPECT_EQ(none.status, SolveStatus::kOptimal);
  EXPECT_EQ(none.max_load, 0);
  EXPECT_EQ(none.steps, 0);
  EXPECT_EQ(verify_split(p, std::vector<Load>{0, 0}, none), "");
  const Split one = solve(p, std::vector<Load>{0, 1}, kIpm);
  EXPECT_EQ(one.status, SolveStatus::kOptimal);
  EXPECT_EQ(one.max_load, 1);
}

TEST(Ipm, HugeLoads) {
  const Load huge = std::numeric_limits<Load>::max() / 3;
  check({"huge",
         make_placement(4, 3, std::vector<Index>{0, 1, 1, 2, 2, 0, 0, 1}),
         {huge, huge, huge}});
  check({"huge beside one", make_placement(2, 2, std::vector<Index>{0, 1, 1, 0}), {3 * huge, 1}});
}

TEST(Ipm, DeadRanksAndSpeeds) {
  const std::vector<Index> map = {0, 1, 1, 2, 2, 0, 0, 1};
  const Checked dead =
      check({"dead", make_placement(4, 3, map, {.rank_alive = {1, 0, 1, 1}}), {90, 60, 30}});
  EXPECT_EQ(dead.split.rank_load[1], 0);
  EXPECT_EQ(dead.split.max_load, 60);
  const Checked fast =
      check({"speeds", make_placement(4, 3, map, {.rank_speed = {1, 2, 0.5, 4}}), {900, 600, 300}});
  EXPECT_EQ(fast.split.status, SolveStatus::kOptimal);
}

TEST(Ipm, NeverByAuto) {
  for (const Index ranks : {1, 8, 9, 300}) {
    std::vector<Index> map(static_cast<std::size_t>(ranks), 0);
    EXPECT_NE(solve(make_placement(ranks, 1, map), std::vector<Load>{5}).solver, Solver::kIpm);
  }
  EXPECT_EQ(parse_solver("ipm"), Solver::kIpm);
  EXPECT_STREQ(solver_name(Solver::kIpm), "ipm");
  const std::vector<Index> map(kMaxIpmRanks + 1, 0);
  EXPECT_THROW(solve(make_placement(kMaxIpmRanks + 1, 1, map), std::vector<Load>{5}, kIpm),
               ArgumentError);
}

TEST(Ipm, WorkspaceCarriesNothingOverUnlessAsked) {
  Split reused;
  Workspace workspace;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = 8});
    const SplitProblem problem(instance.placement);
    solve(problem, instance.load, reused, workspace, kIpm);
    const Split fresh = solve(instance.placement, instance.load, kIpm);
    EXPECT_EQ(reused.physical_load, fresh.physical_load);
    EXPECT_EQ(reused.bottleneck_ranks, fresh.bottleneck_ranks);
    EXPECT_EQ(reused.steps, fresh.steps);
  }
}

/// Counts the iterations of cold and of warm starts, over batches that drift by `drift` up or down.
std::pair<std::int64_t, std::int64_t> count_iterations(const std::string& name, double drift) {
  const auto workload = lplb::testing::make_workload(name, 1);
  const SplitProblem problem(workload.placement);
  SplitMix64 random(5);
  Workspace workspace;
  Split split;
  std::int64_t cold = 0;
  std::int64_t warm = 0;
  for (int batch = 0; batch < 40; ++batch) {
    std::vector<Load> load = workload.loads[0];
    for (Load& w : load) {
      w = static_cast<Load>(static_cast<double>(w) * (1 + drift * (2 * random.unit() - 1)));
    }
    SolveOptions options{.solver = Solver::kIpm, .tolerance = 1e-4, .warm_start = batch > 0};
    solve(problem, load, split, workspace, options);
    EXPECT_EQ(verify_split(workload.placement, load, split), "");
    EXPECT_EQ(workspace.buffers().ipm.result.status, IpmStatus::kConverged);
    if (batch > 0) warm += split.steps;
    options.warm_start = false;
    if (batch > 0) cold += solve(workload.placement, load, options).steps;
  }
  return {cold, warm};
}

TEST(Ipm, WarmStartTakesFewerIterations) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto [cold_near, warm_near] = count_iterations(name, 0.02);
    EXPECT_LT(warm_near, 0.75 * static_cast<double>(cold_near)) << name;
    const auto [cold_far, warm_far] = count_iterations(name, 0.2);
    EXPECT_LE(warm_far, cold_far) << name;
  }
}

TEST(Ipm, WarmStartFromAnotherProblemIsHarmless) {
  Split split;
  Workspace workspace;
  SolveOptions options = kIpm;
  options.warm_start = true;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = 3, .max_slots_per_rank = 3});
    const SplitProblem problem(instance.placement);
    solve(problem, instance.load, split, workspace, options);
    EXPECT_EQ(verify_split(instance.placement, instance.load, split), "") << instance.name;
    if (workspace.buffers().total > 0) {
      EXPECT_EQ(workspace.buffers().ipm.result.status, IpmStatus::kConverged) << instance.name;
    }
  }
}

TEST(Ipm, BatchesAreSolvedColdWhateverTheThreads) {
  const auto workload = lplb::testing::make_workload("cube8x2", 200);
  const SplitProblem problem(workload.placement);
  std::vector<Load> loads;
  for (const auto& load : workload.loads) loads.insert(loads.end(), load.begin(), load.end());
  const std::size_t physical = workload.placement.physical_to_logical.size();
  SolveOptions options = kIpm;
  std::vector<Load> expected(200 * physical);
  std::vector<SplitSummary> summary(200);
  solve_batch(problem, loads, expected, summary, 1, options);
  options.warm_start = true;
  for (const int threads : {1, 3}) {
    std::vector<Load> got(expected.size());
    solve_batch(problem, loads, got, summary, threads, options);
    EXPECT_EQ(got, expected);
  }
}

TEST(Ipm, InFloatTheCubeConvergesToTheKernelsTolerance) {
  const auto workload = lplb::testing::make_workload("cube8x2", 40);
  const SplitProblem problem(workload.placement);
  Workspace workspace;
  Split split;
  solvers::IpmState<float> state;
  for (const auto& load : workload.loads) {
    solve(problem, load, split, workspace, kIpm);
    const auto result =
        solvers::Ipm<float>(workspace.buffers().ipm.model, state).run({.tolerance = 1e-4});
    EXPECT_EQ(result.status, IpmStatus::kConverged);
    EXPECT_LE(result.iterations, 8);
    EXPECT_NEAR(result.max_load, workspace.buffers().ipm.result.max_load, 2e-4);
  }
}

TEST(IpmCholesky, SolvesAndRefuses) {
  double a[] = {4, 0, 0, 2, 10, 0, 2, 4, 9};
  ASSERT_TRUE(solvers::cholesky(a, 3));
  double b[] = {8, 16, 15};  // for x = 1, 1, 1
  solvers::cholesky_solve(a, 3, b);
  for (const double x : b) EXPECT_NEAR(x, 1, 1e-12);
  double indefinite[] = {1, 0, 2, 1};
  EXPECT_FALSE(solvers::cholesky(indefinite, 2));
}

TEST(IpmRound, KeepsSumsAndEvensOutErrors) {
  const Index rank[] = {0, 1, 2};
  double room[] = {0.2, 0.6, 0.2};
  Load take[3];
  const double even[] = {10.0 / 3, 10.0 / 3, 10.0 / 3};
  solvers::round_expert(10, 3, even, rank, room, take);
  EXPECT_THAT(take, ElementsAre(3, 4, 3));
  solvers::round_expert(10, 3, even, rank, room, take);  // now other ranks have more room
  EXPECT_THAT(take, ElementsAre(4, 3, 3));
  // If shares are coarse or broken, the sum is right nevertheless.
  const Load huge = std::numeric_limits<Load>::max();
  const double wild[] = {-1e30, 1e30, std::numeric_limits<double>::quiet_NaN()};
  solvers::round_expert(huge, 3, wild, rank, room, take);
  EXPECT_THAT(take, ElementsAre(0, huge, 0));
  const double nothing[] = {0, 0, 0};
  solvers::round_expert(huge, 3, nothing, rank, room, take);
  EXPECT_EQ(take[0] + take[1] + take[2], huge);
  for (const Load tokens : take) EXPECT_GE(tokens, 0);
}

}  // namespace
}  // namespace lplb
