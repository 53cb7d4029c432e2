// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "plan/device/cuda_test_support.h"
#include "solve/time/test_models.h"
#include "support/expect_refused.h"

// Compares DevicePlanner with Planner where tokens have costs.
namespace lplb {
namespace {

using testing::BatchShape;
using testing::ComparedRank;
using testing::PlannerCuda;
using testing::SplitMix64;

using CostPlannerCuda = PlannerCuda;
INSTANTIATE_TEST_SUITE_P(All, CostPlannerCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

/// Draws a batch for both, and compares slots and statistics.
void expect_drawn_equal(ComparedRank& both, const BatchShape& shape, SplitMix64& random,
                        int id_bytes = 4) {
  both.expect_drawn_equal(shape, random, id_bytes);
  const DevicePlannerStats got = both.device.stats();
  const PlannerStats& want = both.host.planner.stats();
  const Split& split = both.host.planner.last_split();
  EXPECT_EQ(got.solved, want.solved);
  EXPECT_EQ(got.optimal, want.optimal);
  EXPECT_EQ(got.check_failures, 0);
  EXPECT_EQ(got.last_max_cost, want.last_max_cost);
  EXPECT_EQ(got.last_cost_lower_bound, want.last_cost_lower_bound);
  EXPECT_EQ(static_cast<double>(got.last_max_load), split.max_load);
  EXPECT_EQ(static_cast<double>(got.last_lower_bound), want.last_lower_bound);
  EXPECT_EQ(got.last_steps, split.steps);
}

TEST_P(CostPlannerCuda, EqualsCpuOnRandomGroups) {
  SplitMix64 random(9);
  for (int repeat = 0; repeat < 80; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = testing::random_placement(random, repeat % 3 == 0   ? 64
                                                          : repeat % 3 == 1 ? 8
                                                                            : 20);
    const BatchShape shape{.num_topk = 1 + random.below(8),
                           .max_tokens = repeat % 5 == 0 ? 2000 : 100};
    const Index rank = random.below(p.num_ranks);
    PlannerOptions limits = options(shape.num_topk, shape.max_tokens);
    limits.cost = repeat % 4 == 0 ? CostModel("us", CostTable{9, {100000, 200000}, {5, 7}, 1, 1})
                                  : testing::random_model(random.next(), p.num_ranks, 500);
    ComparedRank both(p, rank, limits, device_options());
    for (int i = 0; i < 3; ++i) {
      expect_drawn_equal(both, shape, random, i == 1 ? 8 : 4);
      if (HasFailure()) return;
    }
  }
}

TEST_P(CostPlannerCuda, EqualsCpuOnWorkloads) {
  SplitMix64 random(3);
  for (const char* name : {"cube8x2", "torus8x4x2", "EP64+64", "EP72+144", "EP128+128"}) {
    const Placement p = testing::make_workload(name, 1).placement;
    for (const std::int64_t tokens : {2, 20, 200, 4096}) {
      SCOPED_TRACE(name + (" " + std::to_string(tokens)));
      PlannerOptions limits = options(8, tokens);
      limits.cost = testing::staircase_model(tokens == 200 ? testing::kDear : 1);
      ComparedRank both(p, 3, limits, device_options());
      for (int i = 0; i < 5; ++i) {
        expect_drawn_equal(both, {.num_topk = 8, .max_tokens = tokens}, random);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(CostPlannerCuda, TakesAnotherPlacement) {
  SplitMix64 random(4);
  const testing::Workload workload = testing::make_workload("cube8x2", 1);
  PlannerOptions limits = options(2, 300);
  limits.cost = testing::staircase_model();
  ComparedRank both(workload.placement, 1, limits, device_options());
  std::vector<Index> map = workload.placement.physical_to_logical;
  std::rotate(map.begin(), map.begin() + 10, map.end());
  both.update_placement(make_placement(8, workload.placement.num_logical_experts, map));
  expect_drawn_equal(both, {.num_topk = 2, .max_tokens = 300}, random);
}

TEST_P(CostPlannerCuda, RefusesWhatTheDeviceCannot) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  const auto make = [&](const PlannerOptions& options) {
    DevicePlanner(p, 0, options, device_options());
  };
  PlannerOptions limits = options(1, 10);
  limits.cost = weights_only_model();
  limits.staleness = 1;
  testing::expect_refused([&] { make(limits); }, "is 1 with a cost");
  limits.staleness = 0;
  limits.solve.solver = Solver::kTime;
  testing::expect_refused([&] { make(limits); }, "\"time\" is not on the device");
  limits.solve.solver = Solver::kCut;
  testing::expect_refused([&] { make(limits); }, "\"cut\" takes no cost model");
  limits.solve.solver = Solver::kAuto;
  limits.cost = CostModel("us", CostTable{0, {1}, {1}, 1, 1e12});
  testing::expect_refused([&] { make(limits); }, "may cost 2^62");
}

}  // namespace
}  // namespace lplb
