// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "solve/time/model.h"
#include "solve/time/test_models.h"

// Solver fast-time. Its promises are tested with those of solver time, in time_test.cc.
namespace lplb {
namespace {

using testing::Instance;
using testing::random_instance;

TEST(SolveFastTime, IsOptimalIfNoExpertPassesTheFirstStep) {
  for (std::uint64_t seed = 0; seed < 2000 && !HasFailure(); ++seed) {
    const Instance instance =
        random_instance(seed, {.max_ranks = 16, .max_load = 3, .speeds = false});
    testing::SplitMix64 random(seed);
    const CostModel model("us", CostTable{random.unit() * 9, {3}, {1 + random.unit()}, 1, 1});
    const Split split =
        solve(instance.placement, instance.load, {.solver = Solver::kFastTime, .cost = &model});
    EXPECT_EQ(split.status, SolveStatus::kOptimal) << instance.name;
    EXPECT_EQ(split.cost.max, solve(instance.placement, instance.load, {.cost = &model}).cost.max);
  }
}

// Ranks 2 i and 2 i + 1 share expert i of 17, and each has another expert of its own.
TEST(SolveFastTime, MakesNoSecondSweepIfNothingCanHelpTheDearestRank) {
  std::vector<Index> map;
  for (Index g = 0; g < 34; ++g) map.insert(map.end(), {g / 2, 17 + g});
  const Placement placement = make_placement(34, 51, map);
  std::vector<Load> load(51, 0);
  for (Index e = 0; e < 17; ++e) load[static_cast<std::size_t>(e)] = 2;
  const CostModel model = testing::staircase_model();
  const SolveOptions how{.solver = Solver::kFastTime, .cost = &model};
  // 129 + 129 tokens: two steps on each rank. No division is better, and the bound does not know.
  load[0] = 258;
  const Split split = solve(placement, load, how);
  EXPECT_EQ(split.status, SolveStatus::kBounded);
  EXPECT_GT(split.cost.max, split.cost.bound + split.cost.bound / 64);
  EXPECT_EQ(split.steps, 1);
}

TEST(SolveFastTime, MakesASecondSweepIfTheDearestRankCanBeHelped) {
  const testing::Workload workload = testing::make_workload("EP72+144", 20);
  const CostModel model = testing::staircase_model();
  const SolveOptions how{.solver = Solver::kFastTime, .cost = &model};
  int num_second_sweeps = 0;
  for (std::vector<Load> load : workload.loads) {
    for (Load& tokens : load) tokens /= 8;
    num_second_sweeps += solve(workload.placement, load, how).steps == 2 ? 1 : 0;
  }
  EXPECT_GT(num_second_sweeps, 5);
}

TEST(TimeModel, NoDivisionCostsLessThanTheLeastCurve) {
  // One expert on four ranks: up to four parts.
  const SplitProblem problem(make_placement(4, 1, std::vector<Index>{0, 0, 0, 0}));
  constexpr Load kMost = 200;
  double of_whole = 0;
  for (std::uint64_t seed = 0; seed < 150 && !HasFailure(); ++seed) {
    testing::SplitMix64 random(seed);
    const CostModel model("us", testing::random_table(random, 1 + random.between(1, 100)));
    solvers::TimeModel made;
    made.assign(model, problem.tables());
    // best[p][n]: the least cost of n tokens in at most p parts.
    std::vector<std::vector<Cost>> best(5, std::vector<Cost>(kMost + 1, kMaxCost));
    for (auto& row : best) row[0] = 0;
    for (std::size_t p = 1; p < 5; ++p) {
      for (Load n = 1; n <= kMost; ++n) {
        for (Load part = 1; part <= n; ++part) {
          best[p][n] = std::min(best[p][n], made.curve(0).of(part) + best[p - 1][n - part]);
        }
      }
    }
    for (Load n = 1; n <= kMost; ++n) {
      ASSERT_LE(made.least().of(n), best[4][n]) << "seed " << seed << ", " << n << " tokens";
      of_whole += static_cast<double>(made.least().of(n)) / static_cast<double>(best[4][n]);
    }
  }
  EXPECT_GT(of_whole / (150 * kMost), 0.75) << "the curve is near the least costs";
}

TEST(SolveFastTime, IsNearTheSlowSolver) {
  // A step of 32 tokens, and experts of up to 300: most ranks carry several parts.
  const CostModel model("us", CostTable{20, {32, 64, 96}, {10, 16, 25}, 32, 9});
  double above = 0;
  int count = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Instance instance =
        random_instance(seed, {.max_ranks = 16, .max_slots_per_rank = 6, .max_load = 300});
    const Split fast =
        solve(instance.placement, instance.load, {.solver = Solver::kFastTime, .cost = &model});
    const Cost slow = solve(instance.placement, instance.load, {.cost = &model}).cost.max;
    if (slow == 0) continue;
    above += static_cast<double>(fast.cost.max) / static_cast<double>(slow) - 1;
    ++count;
  }
  EXPECT_LT(above / count, 0.02);
}

}  // namespace
}  // namespace lplb
