// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "lplb/solver.h"
#include "solve/time/test_models.h"
#include "support/instances.h"

// Compares the CUDA solvers with those of the CPU: they are equal in every integer.
namespace lplb {
namespace {

using lplb::testing::adversarial_instances;
using lplb::testing::Instance;
using lplb::testing::make_workload;
using lplb::testing::random_instance;
using lplb::testing::RandomLimits;

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << cuda_support().missing;
  }

  /// Solves on both. Returns false if the device left the instance to the CPU.
  bool expect_equal(const Instance& instance, Solver solver, std::int64_t max_steps = -1) {
    return expect_equal(instance, SolveOptions{.solver = solver, .max_steps = max_steps});
  }
  /// The same by solver fast-time.
  bool expect_equal(const Instance& instance, const CostModel& model) {
    return expect_equal(instance, SolveOptions{.solver = Solver::kFastTime, .cost = &model});
  }
  bool expect_equal(const Instance& instance, SolveOptions options) {
    const SplitProblem problem(instance.placement);
    solve(problem, instance.load, cpu_, cpu_workspace_, options);
    options.backend = Backend::kCuda;
    solve(problem, instance.load, cuda_, cuda_workspace_, options);
    EXPECT_EQ(cuda_.physical_load, cpu_.physical_load) << instance.name;
    EXPECT_EQ(cuda_.rank_load, cpu_.rank_load) << instance.name;
    EXPECT_EQ(cuda_.bottleneck_ranks, cpu_.bottleneck_ranks) << instance.name;
    EXPECT_EQ(cuda_.status, cpu_.status) << instance.name;
    EXPECT_EQ(cuda_.steps, cpu_.steps) << instance.name;
    EXPECT_EQ(cuda_.max_load, cpu_.max_load) << instance.name;
    EXPECT_EQ(cuda_.lower_bound, cpu_.lower_bound) << instance.name;
    EXPECT_EQ(cuda_.max_level.tokens, cpu_.max_level.tokens) << instance.name;
    EXPECT_EQ(cuda_.max_level.rank, cpu_.max_level.rank) << instance.name;
    EXPECT_EQ(cuda_.bound_level.tokens, cpu_.bound_level.tokens) << instance.name;
    EXPECT_EQ(cuda_.bound_level.rank, cpu_.bound_level.rank) << instance.name;
    EXPECT_EQ(cuda_.cost.max, cpu_.cost.max) << instance.name;
    EXPECT_EQ(cuda_.cost.bound, cpu_.cost.bound) << instance.name;
    EXPECT_EQ(cuda_.cost.bottleneck_ranks, cpu_.cost.bottleneck_ranks) << instance.name;
    EXPECT_EQ(cuda_.cost.rank_cost, cpu_.cost.rank_cost) << instance.name;
    EXPECT_EQ(cuda_.cost.active_experts, cpu_.cost.active_experts) << instance.name;
    EXPECT_EQ(verify_split(instance.placement, instance.load, cuda_, options.cost), "")
        << instance.name;
    return cuda_.backend == Backend::kCuda;
  }

 private:
  Split cpu_, cuda_;
  Workspace cpu_workspace_, cuda_workspace_;
};

TEST_F(Cuda, SaysWhereItRan) {
  const auto workload = make_workload("cube8x2", 1);
  const auto backend_of = [](const Placement& p, const std::vector<Load>& load) {
    return solve(p, load, {.backend = Backend::kCuda}).backend;
  };
  EXPECT_EQ(backend_of(workload.placement, workload.loads[0]), Backend::kCuda);
  // The device does not take these.
  std::vector<Load> large = workload.loads[0];
  large[0] = Load{1} << 31;
  EXPECT_EQ(backend_of(workload.placement, large), Backend::kCpu);
  Placement uneven = workload.placement;
  uneven.rank_speed = {1, 1, 1, 1, 1, 1, 1, 2};
  EXPECT_EQ(backend_of(uneven, workload.loads[0]), Backend::kCpu);
}

TEST_F(Cuda, SolversWithoutAKernelRunOnTheCpu) {
  const CostModel model("us", CostTable{3, {8, 20}, {4, 7}, 16, 5});
  const auto workload = testing::make_workload("cube8x2", 1);
  for (const Solver solver : {Solver::kIpm, Solver::kTime}) {
    SolveOptions options{.solver = solver};
    if (solver != Solver::kIpm) options.cost = &model;
    const Split on_cpu = solve(workload.placement, workload.loads[0], options);
    options.backend = Backend::kCuda;
    const Split split = solve(workload.placement, workload.loads[0], options);
    EXPECT_EQ(split.backend, Backend::kCpu) << solver_name(solver);
    EXPECT_EQ(split.physical_load, on_cpu.physical_load) << solver_name(solver);
    EXPECT_EQ(split.cost.bound, on_cpu.cost.bound) << solver_name(solver);
  }
}

TEST_F(Cuda, EqualsCpuOnAdversarialInstances) {
  int on_device = 0;
  for (const Instance& instance : adversarial_instances()) {
    on_device += expect_equal(instance, Solver::kFlow);
    for (const std::int64_t limit : {0, 1, 3}) expect_equal(instance, Solver::kFlow, limit);
    if (instance.placement.num_ranks <= kMaxCutRanks) expect_equal(instance, Solver::kCut);
    if (HasFailure()) return;
  }
  EXPECT_GT(on_device, 100);
}

TEST_F(Cuda, EqualsCpuOnWorkloads) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = make_workload(name, 200);
    for (const auto& load : workload.loads) {
      const Instance instance{name, workload.placement, load};
      EXPECT_TRUE(expect_equal(instance, Solver::kFlow));
      if (workload.placement.num_ranks <= kMaxCutRanks) {
        EXPECT_TRUE(expect_equal(instance, Solver::kCut));
      }
      if (HasFailure()) return;
    }
  }
}

/// LPLB_FUZZ_INSTANCES says how many instances BatchesEqualCpu, below, solves (scripts/gpu-check: a
/// million).
TEST_F(Cuda, EqualsCpuOnRandomInstances) {
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    RandomLimits limits;
    limits.speeds = false;
    limits.max_ranks = seed % 3 == 0 ? kMaxCutRanks : seed % 50 == 1 ? 200 : 40;
    limits.max_slots_per_rank = seed % 7 == 0 ? 12 : 4;
    limits.max_load = seed % 5 == 0 ? 3 : seed % 5 == 1 ? 100'000 : 1000;
    const Instance instance = random_instance(seed, limits);
    EXPECT_TRUE(expect_equal(instance, Solver::kFlow));
    if (instance.placement.num_ranks <= kMaxCutRanks) {
      EXPECT_TRUE(expect_equal(instance, Solver::kCut));
    }
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

/// Loads of 8 tokens a rank and more, so that in some no expert passes the first step.
TEST_F(Cuda, FastTimeEqualsCpu) {
  for (const char* name : {"cube8x2", "hypercube16x2", "EP64+64", "EP72+144", "EP128+128"}) {
    const auto workload = make_workload(name, 20);
    int on_device = 0;
    for (std::size_t i = 0; i < workload.loads.size(); ++i) {
      Instance instance{name, workload.placement, workload.loads[i]};
      for (Load& load : instance.load) load /= Load{1} << (i % 10);
      const double factor = i % 3 == 0 ? testing::kDear : 1;
      on_device += expect_equal(instance, testing::staircase_model(factor)) ? 1 : 0;
      if (HasFailure()) return;
    }
    EXPECT_EQ(on_device, 20) << name;
  }
  int on_device = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    RandomLimits limits;
    limits.speeds = seed % 10 == 0;
    limits.max_ranks = seed % 3 == 0 ? kMaxCutRanks : seed % 50 == 1 ? 200 : 40;
    limits.max_slots_per_rank = seed % 7 == 0 ? 12 : 4;
    limits.max_load = seed % 5 == 0 ? 3 : seed % 5 == 1 ? 100'000 : 1000;
    const Instance instance = random_instance(seed, limits);
    const CostModel model =
        seed % 11 == 2 ? testing::staircase_model(testing::kDear)
                       : testing::random_model(seed, instance.placement.num_ranks, limits.max_load);
    on_device += expect_equal(instance, model) ? 1 : 0;
    if (HasFailure()) FAIL() << "seed " << seed;
  }
  EXPECT_GT(on_device, 1500);
}

TEST_F(Cuda, BatchesByCostEqualCpu) {
  const CostModel model = testing::staircase_model();
  for (const char* name : {"cube8x2", "EP64+64"}) {
    const auto workload = make_workload(name, 100);
    std::vector<Load> loads;
    for (std::size_t i = 0; i < 100; ++i) {
      for (const Load load : workload.loads[i]) loads.push_back(load / (Load{1} << (i % 10)));
    }
    const SplitProblem problem(workload.placement);
    const std::size_t physical = workload.placement.physical_to_logical.size();
    std::vector<Load> cpu(100 * physical), cuda(100 * physical);
    std::vector<SplitSummary> cpu_summary(100), cuda_summary(100);
    SolveOptions options{.solver = Solver::kFastTime, .cost = &model};
    solve_batch(problem, loads, cpu, cpu_summary, 1, options);
    options.backend = Backend::kCuda;
    solve_batch(problem, loads, cuda, cuda_summary, 1, options);
    EXPECT_EQ(cuda, cpu) << name;
    for (std::size_t i = 0; i < 100; ++i) {
      ASSERT_EQ(cuda_summary[i].backend, Backend::kCuda) << name;
      ASSERT_EQ(cuda_summary[i].status, cpu_summary[i].status) << name << " " << i;
      ASSERT_EQ(cuda_summary[i].max_load, cpu_summary[i].max_load) << name << " " << i;
      ASSERT_EQ(cuda_summary[i].lower_bound, cpu_summary[i].lower_bound) << name << " " << i;
      ASSERT_EQ(cuda_summary[i].max_cost, cpu_summary[i].max_cost) << name << " " << i;
      ASSERT_EQ(cuda_summary[i].cost_lower_bound, cpu_summary[i].cost_lower_bound) << name;
    }
  }
}

/// Solves many loads of all shapes for one placement, as a batched launch does.
TEST_F(Cuda, BatchesEqualCpu) {
  const char* const wanted = std::getenv("LPLB_FUZZ_INSTANCES");
  const std::size_t total = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 20'000;
  lplb::testing::SplitMix64 random(3);
  const auto names = lplb::testing::workload_names();
  std::size_t done = 0;
  for (std::uint64_t round = 0; done < total; ++round) {
    const Placement placement =
        round % 2 == 0
            ? make_workload(names[round / 2 % names.size()], 1, round).placement
            : random_instance(round, {.max_ranks = 64, .max_slots_per_rank = 8, .speeds = false})
                  .placement;
    const Solver solver =
        placement.num_ranks <= kMaxCutRanks && round % 4 < 2 ? Solver::kCut : Solver::kFlow;
    const auto logical = static_cast<std::size_t>(placement.num_logical_experts);
    const std::size_t count = 2000;
    std::vector<Load> loads;
    for (std::size_t i = 0; i < count; ++i) {
      const auto shape = static_cast<lplb::testing::LoadShape>(random.below(6));
      const Load tokens = Load{1} << random.below(28);
      const auto load =
          lplb::testing::make_load(shape, placement.num_logical_experts, tokens, random);
      loads.insert(loads.end(), load.begin(), load.end());
    }
    const SplitProblem problem(placement);
    const std::size_t physical = placement.physical_to_logical.size();
    std::vector<Load> cpu(count * physical), cuda(count * physical);
    std::vector<SplitSummary> cpu_summary(count), cuda_summary(count);
    solve_batch(problem, loads, cpu, cpu_summary, 16, {.solver = solver});
    solve_batch(problem, loads, cuda, cuda_summary, 1,
                {.solver = solver, .backend = Backend::kCuda});
    ASSERT_EQ(cuda, cpu) << "round " << round;
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(cuda_summary[i].status, SolveStatus::kOptimal) << "round " << round;
      ASSERT_EQ(cuda_summary[i].backend, Backend::kCuda);
      ASSERT_EQ(cuda_summary[i].max_load, cpu_summary[i].max_load);
      ASSERT_EQ(cuda_summary[i].lower_bound, cpu_summary[i].lower_bound);
      ASSERT_EQ(cuda_summary[i].max_load, cuda_summary[i].lower_bound);
      ASSERT_EQ(loads.size(), count * logical);
    }
    done += count;
  }
  RecordProperty("instances", std::to_string(done));
}

TEST_F(Cuda, BatchesThatDoNotFitAreSolvedOnTheCpu) {
  const auto workload = make_workload("cube8x2", 3);
  std::vector<Load> loads;
  for (const auto& load : workload.loads) loads.insert(loads.end(), load.begin(), load.end());
  loads[300] = Load{1} << 40;
  const SplitProblem problem(workload.placement);
  const std::size_t physical = workload.placement.physical_to_logical.size();
  std::vector<Load> cpu(3 * physical), cuda(3 * physical);
  std::vector<SplitSummary> summary(3);
  solve_batch(problem, loads, cpu, summary, 1);
  solve_batch(problem, loads, cuda, summary, 1, {.backend = Backend::kCuda});
  EXPECT_EQ(cuda, cpu);
  EXPECT_EQ(summary[0].backend, Backend::kCuda);
  EXPECT_EQ(summary[1].backend, Backend::kCpu);
  Workspace workspace;
  for (int i = 0; i < 3; ++i) {  // with memory that is kept between calls
    std::fill(cuda.begin(), cuda.end(), -1);
    solve_batch(problem, loads, cuda, summary, workspace, {.backend = Backend::kCuda});
    EXPECT_EQ(cuda, cpu);
    EXPECT_EQ(summary[2].backend, Backend::kCuda);
  }
  loads[600] = -4;
  EXPECT_THROW(solve_batch(problem, loads, cuda, summary, 1, {.backend = Backend::kCuda}),
               ArgumentError);
}

TEST(CudaMissing, IsSaidByWhoIsAskedForIt) {
  if (cuda_support().missing.empty()) GTEST_SKIP() << "there is a device";
  const auto workload = make_workload("cube8x2", 1);
  try {
    solve(workload.placement, workload.loads[0], {.backend = Backend::kCuda});
    FAIL() << "accepted";
  } catch (const CudaError& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr(cuda_support().missing));
  }
}

}  // namespace
}  // namespace lplb
