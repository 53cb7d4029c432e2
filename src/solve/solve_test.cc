// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "lplb/solver.h"
#include "support/instances.h"

namespace lplb {
namespace {

using lplb::testing::adversarial_instances;
using lplb::testing::Instance;
using lplb::testing::random_instance;
using lplb::testing::RandomLimits;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Load kMaxLoad = std::numeric_limits<Load>::max();

Split solve_with(const Instance& instance, Solver solver, Backend backend = Backend::kCpu) {
  return solve(instance.placement, instance.load, {.solver = solver, .backend = backend});
}

void expect_proven(const Instance& instance, const Split& split) {
  EXPECT_EQ(verify_split(instance.placement, instance.load, split), "") << instance.name;
  EXPECT_EQ(split.status, SolveStatus::kOptimal) << instance.name;
}

TEST(Solve, SmallExampleByHand) {
  // Expert 0 is on ranks 0 and 1, expert 3 on 1 and 2. Experts 1, 2 and 4 are on one rank each.
  const Placement p = make_placement(3, 5, std::vector<Index>{0, 1, 0, 3, 3, 4, 2, 2, 2});
  // Slots a rank: {0, 1, 0}, {3, 3, 4}, {2, 2, 2}.
  EXPECT_EQ(p.rank_of(2), 0);
  const Split split = solve(p, std::vector<Load>{9, 1, 4, 5, 2});
  EXPECT_EQ(split.max_load, 10);
  EXPECT_THAT(split.rank_load, ElementsAre(10, 7, 4));
  EXPECT_THAT(split.bottleneck_ranks, ElementsAre(0));
  // The slots of one rank share evenly; the first takes the odd token.
  EXPECT_THAT(split.physical_load, ElementsAre(5, 1, 4, 3, 2, 2, 2, 1, 1));
}

TEST(Solve, LevelsTwoRanks) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 1, 2});
  for (const Solver solver : {Solver::kCut, Solver::kFlow}) {
    const Split split = solve(p, std::vector<Load>{10, 7, 2}, {.solver = solver});
    EXPECT_EQ(split.solver, solver);
    EXPECT_EQ(split.max_load, 10);
    EXPECT_EQ(split.lower_bound, 10);
    EXPECT_THAT(split.rank_load, ::testing::UnorderedElementsAre(10, 9));
  }
}

class EverySolver : public ::testing::TestWithParam<std::tuple<Solver, Backend>> {
 protected:
  void SetUp() override {
    if (backend() == Backend::kCuda && !cuda_support().missing.empty()) {
      GTEST_SKIP() << cuda_support().missing;
    }
  }
  static Solver solver() { return std::get<0>(GetParam()); }
  static Backend backend() { return std::get<1>(GetParam()); }
  static bool takes(const Placement& p) {
    return solver() != Solver::kCut || p.num_ranks <= kMaxCutRanks;
  }
};

INSTANTIATE_TEST_SUITE_P(Solve, EverySolver,
                         ::testing::Combine(::testing::Values(Solver::kAuto, Solver::kCut,
                                                              Solver::kFlow),
                                            ::testing::Values(Backend::kCpu, Backend::kCuda)),
                         [](const auto& param) {
                           return std::string(solver_name(std::get<0>(param.param))) + "_" +
                                  backend_name(std::get<1>(param.param));
                         });

TEST_P(EverySolver, ProvesAdversarialInstances) {
  for (const Instance& instance : adversarial_instances()) {
    if (!takes(instance.placement)) continue;
    expect_proven(instance, solve_with(instance, solver(), backend()));
  }
}

TEST_P(EverySolver, ProvesRandomInstances) {
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    RandomLimits limits;
    limits.max_ranks = solver() == Solver::kCut ? kMaxCutRanks : seed % 100 == 0 ? 130 : 16;
    limits.max_load = seed % 5 == 0 ? 3 : seed % 5 == 1 ? Load{1} << 40 : 1000;
    const Instance instance = random_instance(seed, limits);
    expect_proven(instance, solve_with(instance, solver(), backend()));
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST_P(EverySolver, WorkspaceAndSplitCarryNothingOver) {
  Split reused;
  Workspace workspace;
  const SolveOptions options{.solver = solver(), .backend = backend()};
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = 8});
    const SplitProblem problem(instance.placement);
    solve(problem, instance.load, reused, workspace, options);
    const Split fresh = solve(instance.placement, instance.load, options);
    EXPECT_EQ(reused.physical_load, fresh.physical_load);
    EXPECT_EQ(reused.rank_load, fresh.rank_load);
    EXPECT_EQ(reused.bottleneck_ranks, fresh.bottleneck_ranks);
    EXPECT_EQ(reused.max_load, fresh.max_load);
    EXPECT_EQ(reused.steps, fresh.steps);
  }
}

TEST(Solve, SolversAgreeOnTheOptimum) {
  for (std::uint64_t seed = 5000; seed < 7000; ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = kMaxCutRanks});
    const Split cut = solve_with(instance, Solver::kCut);
    const Split flow = solve_with(instance, Solver::kFlow);
    EXPECT_EQ(cut.max_load, flow.max_load) << "seed " << seed;
  }
}

TEST(Solve, AssignedProblemEqualsFreshOne) {
  SplitProblem problem(random_instance(0).placement);
  Split split;
  Workspace workspace;
  for (std::uint64_t seed = 1; seed < 100; ++seed) {
    const Instance instance = random_instance(seed);
    problem.assign(instance.placement);
    solve(problem, instance.load, split, workspace);
    EXPECT_EQ(split.physical_load, solve(instance.placement, instance.load).physical_load);
  }
}

TEST(Solve, AutoTakesCutUpToEightRanks) {
  const auto solver_at = [](Index ranks) {
    std::vector<Index> map(static_cast<std::size_t>(ranks));
    std::iota(map.begin(), map.end(), 0);
    return solve(make_placement(ranks, ranks, map), std::vector<Load>(map.size(), 1)).solver;
  };
  EXPECT_EQ(solver_at(8), Solver::kCut);
  EXPECT_EQ(solver_at(9), Solver::kFlow);
}

TEST(Solve, ForcedCutRefusesNineRanks) {
  const std::vector<Index> map = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const Placement p = make_placement(9, 9, map);
  try {
    solve(p, std::vector<Load>(9, 1), {.solver = Solver::kCut});
    FAIL() << "accepted";
  } catch (const ArgumentError& e) {
    EXPECT_EQ(e.argument(), "solver");
    EXPECT_THAT(e.what(), HasSubstr("\"cut\" takes up to 8 ranks, not 9"));
  }
}

/// The mean of each part is a bound that flow knows before its first step.
TEST(Solve, FlowTakesNoStepIfPartsCanBeLevelled) {
  const Index map[] = {0, 1, 0, 2,
                       3, 4, 3, 5};  // ranks 0 and 1 share expert 0, ranks 2 and 3 expert 3
  const Load load[] = {100, 10, 20, 300, 30, 40};
  const Split split =
      solve(make_placement(4, 6, map), load, {.solver = Solver::kFlow, .max_steps = 0});
  EXPECT_EQ(split.status, SolveStatus::kOptimal);
  EXPECT_EQ(split.max_load, 185);
  EXPECT_EQ(split.lower_bound, 185);
}

TEST(Solve, StepLimitLeavesAFeasibleSplitAndAnHonestBound) {
  int bounded = 0;
  for (const Instance& instance : adversarial_instances()) {
    const Split best = solve_with(instance, Solver::kFlow);
    for (const std::int64_t limit : {0, 1, 3}) {
      const Split split =
          solve(instance.placement, instance.load, {.solver = Solver::kFlow, .max_steps = limit});
      EXPECT_EQ(verify_split(instance.placement, instance.load, split), "") << instance.name;
      EXPECT_LE(split.steps, limit);
      EXPECT_LE(split.lower_bound, best.max_load);
      EXPECT_GE(split.max_load, best.max_load);
      bounded += split.status == SolveStatus::kBounded;
    }
  }
  EXPECT_GT(bounded, 0) << "no instance reached the limit: the test shows nothing";
}

TEST(Solve, RefusesBadLoads) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1});
  const auto message = [&](std::vector<Load> load) -> std::string {
    try {
      solve(p, load);
    } catch (const ArgumentError& e) {
      EXPECT_EQ(e.argument(), "load");
      return e.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({1}), HasSubstr("has 1 entries, expected num_logical_experts (2)"));
  EXPECT_THAT(message({1, -5}), HasSubstr("expert 1 has load -5"));
  EXPECT_THAT(message({kMaxLoad, 1}), HasSubstr("the sum passes 2^63 - 1"));
  EXPECT_THAT(message({kMaxLoad, -1}), HasSubstr("expert 1 has load -1"));
  EXPECT_EQ(solve(p, std::vector<Load>{kMaxLoad, 0}).max_level.tokens, kMaxLoad);
}

TEST(Solve, RefusesAPlacementThatWasNotMade) {
  const Placement made = make_placement(2, 2, std::vector<Index>{0, 1});
  const auto refuses = [](const Placement& placement) {
    try {
      solve(placement, std::vector<Load>(static_cast<std::size_t>(placement.num_logical_experts)));
    } catch (const ArgumentError& e) {
      EXPECT_THAT(e.what(), HasSubstr("expected a placement made by make_placement()"));
      return e.argument() == "placement";
    }
    return false;
  };
  EXPECT_TRUE(refuses({}));
  for (void (*const damage)(Placement&) : {
           +[](Placement& p) { p.num_ranks = 0; },
           +[](Placement& p) { p.num_ranks = 3; },
           +[](Placement& p) { p.num_nodes = 0; },
           +[](Placement& p) { p.num_logical_experts = 3; },
           +[](Placement& p) { p.logical_to_physical.clear(); },
           +[](Placement& p) { p.replica_count.clear(); },
           +[](Placement& p) { p.rank_speed = {1}; },
           +[](Placement& p) { p.rank_alive = {1}; },
           +[](Placement& p) {
             p.physical_to_logical = {1, 0};
           },
           +[](Placement& p) {
             p.physical_to_logical = {0, 77};
           },
           +[](Placement& p) {
             p.physical_to_logical = {0, 1, 0, 1};
           },
           +[](Placement& p) {
             p.logical_to_physical = {0, -1};
           },
           +[](Placement& p) {
             p.replica_count = {1, 0};
           },
       }) {
    Placement placement = made;
    damage(placement);
    EXPECT_TRUE(refuses(placement));
  }
  EXPECT_FALSE(refuses(made));
}

TEST(Solve, KnowsItsNames) {
  for (const Solver solver : {Solver::kAuto, Solver::kCut, Solver::kFlow}) {
    EXPECT_EQ(parse_solver(solver_name(solver)), solver);
  }
  EXPECT_THROW(parse_solver("simplex"), ArgumentError);
  EXPECT_THROW(parse_solver(""), ArgumentError);
}

TEST(SolveBatch, EqualsSolvingOneByOne) {
  const Instance instance = random_instance(42, {.max_ranks = 8});
  const SplitProblem problem(instance.placement);
  const std::size_t logical = instance.load.size();
  const std::size_t physical = instance.placement.physical_to_logical.size();
  constexpr std::size_t kBatches = 333;
  std::vector<Load> loads(kBatches * logical);
  lplb::testing::SplitMix64 random(7);
  for (Load& w : loads) w = random.between(0, 500);

  std::vector<Load> expected(kBatches * physical);
  std::vector<double> expected_max(kBatches);
  for (std::size_t i = 0; i < kBatches; ++i) {
    const Split split = solve(instance.placement, std::span(loads).subspan(i * logical, logical));
    std::copy(split.physical_load.begin(), split.physical_load.end(),
              expected.begin() + static_cast<std::ptrdiff_t>(i * physical));
    expected_max[i] = split.max_load;
  }
  for (const int threads : {1, 2, 7}) {
    std::vector<Load> got(expected.size(), -1);
    std::vector<SplitSummary> summary(kBatches);
    solve_batch(problem, loads, got, summary, threads);
    EXPECT_EQ(got, expected);
    for (std::size_t i = 0; i < kBatches; ++i) EXPECT_EQ(summary[i].max_load, expected_max[i]);
  }
  Workspace workspace;
  for (const std::size_t count : {kBatches, std::size_t{1}, std::size_t{0}}) {
    std::vector<Load> got(count * physical, -1);
    std::vector<SplitSummary> summary(count);
    solve_batch(problem, std::span(loads).first(count * logical), got, summary, workspace);
    EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
    for (const SplitSummary& batch : summary) EXPECT_EQ(batch.backend, Backend::kCpu);
  }
  std::vector<Load> short_out(1);
  std::vector<SplitSummary> summary(kBatches);
  EXPECT_THROW(solve_batch(problem, loads, short_out, summary, 1), ArgumentError);
}

TEST(Solve, RaisedBoundsAreNotFilledRankByRank) {
  // If only waves filled the room after a raised bound, a batch would take 10 steps on average, and
  // 62 at worst.
  const testing::Workload workload = testing::make_workload("EP72+144", 400);
  std::int64_t steps = 0;
  std::int64_t most = 0;
  for (const std::vector<Load>& load : workload.loads) {
    const Split split = solve(workload.placement, load, {.solver = Solver::kFlow});
    steps += split.steps;
    most = std::max(most, split.steps);
  }
  EXPECT_LT(steps, 8 * 400);
  EXPECT_LT(most, 30);
}

TEST(SplitEvenly, RotatesTheRemainder) {
  const Placement p = make_placement(3, 2, std::vector<Index>{0, 1, 0, 1, 0, 1});
  std::vector<Load> out(6);
  split_evenly(p, std::vector<Load>{5, 5}, out);
  EXPECT_THAT(out, ElementsAre(2, 1, 2, 2, 1, 2));
  const Placement dead =
      make_placement(3, 2, std::vector<Index>{0, 1, 0, 1, 0, 1}, {.rank_alive = {1, 0, 1}});
  split_evenly(dead, std::vector<Load>{5, 5}, out);
  EXPECT_THAT(out, ElementsAre(3, 2, 0, 0, 2, 3));
  EXPECT_THROW(split_evenly(p, std::vector<Load>{5, -1}, out), ArgumentError);
}

}  // namespace
}  // namespace lplb
