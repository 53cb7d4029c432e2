// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "plan/device/cuda_test_support.h"
#include "solve/time/test_models.h"
#include "support/expect_refused.h"

// Compares DevicePlanner with Planner where tokens have costs.
namespace lplb {
namespace {

using testing::BatchShape;
using testing::DeviceRank;
using testing::draw_batch;
using testing::GroupBatch;
using testing::HostRank;
using testing::packed_rows;
using testing::PlannerCuda;
using testing::SplitMix64;

using CostPlannerCuda = PlannerCuda;
INSTANTIATE_TEST_SUITE_P(All, CostPlannerCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

void expect_equal(DeviceRank& device, const HostRank& host) {
  const DevicePlannerStats got = device.stats();
  const PlannerStats& want = host.planner.stats();
  EXPECT_EQ(got.solved, want.solved);
  EXPECT_EQ(got.optimal, want.optimal);
  EXPECT_EQ(got.check_failures, 0);
  EXPECT_EQ(got.last_max_cost, want.last_max_cost);
  EXPECT_EQ(got.last_cost_lower_bound, want.last_cost_lower_bound);
  EXPECT_EQ(static_cast<double>(got.last_max_load), host.planner.last_split().max_load);
  EXPECT_EQ(static_cast<double>(got.last_lower_bound), want.last_lower_bound);
  EXPECT_EQ(got.last_steps, host.planner.last_split().steps);
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
    DeviceRank device(p, rank, limits, device_options());
    HostRank host(p, rank, limits);
    for (int i = 0; i < 3; ++i) {
      const GroupBatch batch = draw_batch(p, shape, random);
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      const auto want = host.run(topk, batch.counts);
      device.set(topk, packed_rows(p, batch.counts, Singles::kEach), i == 1 ? 8 : 4);
      ASSERT_EQ(device.run(), want);
      expect_equal(device, host);
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
      limits.cost = testing::staircase_model();
      DeviceRank device(p, 3, limits, device_options());
      HostRank host(p, 3, limits);
      for (int i = 0; i < 5; ++i) {
        const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = tokens}, random);
        const auto want = host.run(batch.topk[3], batch.counts);
        device.set(batch.topk[3], packed_rows(p, batch.counts, Singles::kEach), 4);
        ASSERT_EQ(device.run(), want);
        expect_equal(device, host);
      }
    }
  }
}

TEST_P(CostPlannerCuda, TakesAnotherPlacement) {
  SplitMix64 random(4);
  const testing::Workload workload = testing::make_workload("cube8x2", 1);
  PlannerOptions limits = options(2, 300);
  limits.cost = testing::staircase_model();
  DeviceRank device(workload.placement, 1, limits, device_options());
  HostRank host(workload.placement, 1, limits);
  std::vector<Index> map = workload.placement.physical_to_logical;
  std::rotate(map.begin(), map.begin() + 10, map.end());
  const Placement other = make_placement(8, workload.placement.num_logical_experts, map);
  device.planner.update_placement(device.stream.get(), other);
  host.planner.update_placement(other);
  const GroupBatch batch = draw_batch(other, {.num_topk = 2, .max_tokens = 300}, random);
  device.set(batch.topk[1], packed_rows(other, batch.counts, Singles::kEach), 4);
  EXPECT_EQ(device.run(), host.run(batch.topk[1], batch.counts));
  expect_equal(device, host);
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
