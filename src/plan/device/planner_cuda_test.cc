// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "core/launches.h"
#include "plan/device/cuda_test_support.h"

// Compares DevicePlanner with Planner: outputs and statistics are equal.
namespace lplb {
namespace {

using testing::BatchShape;
using testing::ComparedRank;
using testing::DeviceRank;
using testing::draw_batch;
using ::testing::Each;
using testing::GroupBatch;
using testing::HostRank;
using testing::PlannerCuda;
using testing::random_placement;
using testing::SplitMix64;

INSTANTIATE_TEST_SUITE_P(All, PlannerCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

void expect_equal_stats(DeviceRank& device, const HostRank& host) {
  const DevicePlannerStats got = device.stats();
  const PlannerStats& want = host.planner.stats();
  EXPECT_EQ(got.batches, want.batches);
  EXPECT_EQ(got.solved, want.solved);
  EXPECT_EQ(got.optimal, want.optimal);
  EXPECT_EQ(got.degraded, want.degraded);
  EXPECT_EQ(got.out_of_range, want.out_of_range);
  EXPECT_EQ(got.last_status, host.last_status);
  EXPECT_EQ(got.check_failures, 0);
  if (want.solved == 0 || host.last_status == BatchStatus::kDegraded) return;
  EXPECT_EQ(static_cast<double>(got.last_max_load), host.planner.last_split().max_load);
  EXPECT_EQ(static_cast<double>(got.last_lower_bound), want.last_lower_bound);
  EXPECT_EQ(got.last_steps, host.planner.last_split().steps);
  EXPECT_DOUBLE_EQ(got.last_imbalance, want.last_imbalance);
}

TEST_P(PlannerCuda, EqualsCpuOnRandomGroups) {
  SplitMix64 random(1);
  for (int repeat = 0; repeat < 60; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_placement(random, repeat % 3 == 0 ? 64 : repeat % 3 == 1 ? 8 : 20);
    const BatchShape shape{.num_topk = 1 + random.below(8),
                           .max_tokens = repeat % 10 == 0 ? 2000 : 100};
    const Index rank = random.below(p.num_ranks);
    PlannerOptions limits = options(shape.num_topk, shape.max_tokens);
    // Also take another solver, and a step limit that leaves gaps.
    if (repeat % 4 == 1) limits.solve.solver = Solver::kFlow;
    if (repeat % 4 == 2) limits.solve = {.solver = Solver::kFlow, .max_steps = 0};
    ComparedRank both(p, rank, limits, device_options());
    for (int i = 0; i < 3; ++i) {
      both.expect_drawn_equal(shape, random, i == 1 ? 8 : 4);
      expect_equal_stats(both.device, both.host);
      if (HasFailure()) return;
    }
  }
}

TEST_P(PlannerCuda, AllRanksMeetTheQuotas) {
  SplitMix64 random(2);
  for (int repeat = 0; repeat < 8; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_placement(random, 12);
    const BatchShape shape{.num_topk = 2, .max_tokens = 60, .bad_of_16 = 0};
    const GroupBatch batch = draw_batch(p, shape, random);
    std::vector<Load> taken(p.physical_to_logical.size(), 0), wanted = taken;
    for (Index g = 0; g < p.num_ranks; ++g) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      HostRank host(p, g, options(2, 60));
      for (const std::int64_t id : host.run(topk, batch.counts)) ++wanted[id];
      DeviceRank device(p, g, options(2, 60), device_options());
      device.set(topk, batch.packed, 4);
      for (const std::int64_t id : device.run()) ++taken[id];
    }
    ASSERT_EQ(taken, wanted);
  }
}

TEST_P(PlannerCuda, EqualsCpuOnWorkloads) {
  SplitMix64 random(3);
  for (const char* name : {"cube8x2", "torus8x4x2", "EP64+64", "EP72+144", "EP128+128"}) {
    SCOPED_TRACE(name);
    const Placement p = testing::make_workload(name, 1).placement;
    // The other ranks have few tokens; this one has enough for the largest cluster.
    const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 20}, random);
    std::vector<std::int64_t> topk(8 * 4096 + 8);
    for (std::int64_t& id : topk) id = random.below(p.num_logical_experts);
    DeviceRank device(p, 3, options(8, 4097), device_options());
    EXPECT_EQ(device.planner.num_blocks(4097), 8);
    EXPECT_EQ(device.planner.num_blocks(128), 1);
    HostRank host(p, 3, options(8, 4097));
    const auto want = host.run(topk, batch.counts);
    device.set(topk, batch.packed, 4);
    ASSERT_EQ(device.run(), want);
    expect_equal_stats(device, host);
  }
}

// One block has more entries than entry slots, so it takes them in several passes.
TEST_P(PlannerCuda, ReadsLargeBatchesTwice) {
  SplitMix64 random(4);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DevicePlannerOptions narrow = device_options();
  narrow.max_blocks = 1;
  const PlannerOptions limits = options(8, 40'000);
  DeviceRank device(p, 0, limits, narrow);
  HostRank host(p, 0, limits);
  const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 1000}, random);
  std::vector<std::int64_t> topk(8 * 40'000);
  for (std::int64_t& id : topk) id = random.below(p.num_logical_experts + 1);
  const auto want = host.run(topk, batch.counts);
  device.set(topk, batch.packed, 4);
  ASSERT_EQ(device.run(), want);
  // Now map in place.
  device.batch.physical_idx = device.in.data();
  device.run();
  const auto in_place = device.in.get();
  EXPECT_EQ(std::vector<std::int64_t>(in_place.begin(), in_place.end()), want);
  EXPECT_EQ(device.stats().check_failures, 0);
}

TEST_P(PlannerCuda, CountsTheBatchesThatAreSolved) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 1, options(2, 64), device_options());
  std::vector<std::int32_t> counts(8 * device.planner.layout().size(), 0);
  testing::DeviceVector<std::int64_t> wide;
  testing::DeviceVector<std::int32_t> narrow;
  wide.set(std::vector<std::int64_t>{std::int64_t{1} << 40});
  narrow.set(std::vector<std::int32_t>{-5});
  const auto run = [&](void* counter, int bytes) {
    device.set(std::vector<std::int64_t>(128, 3), counts, 4);
    device.batch.counter = counter;
    device.batch.counter_bytes = bytes;
    device.batch.counter_step = 3;
    device.run();
  };
  run(wide.data(), 8);
  run(narrow.data(), 4);
  run(nullptr, 4);
  EXPECT_THAT(wide.get(), ::testing::ElementsAre((std::int64_t{1} << 40) + 3));
  EXPECT_THAT(narrow.get(), ::testing::ElementsAre(-2));
  counts[0] = -1;  // the batch is degraded
  run(wide.data(), 8);
  EXPECT_THAT(wide.get(), ::testing::ElementsAre((std::int64_t{1} << 40) + 3));
  EXPECT_THROW(run(wide.data(), 2), ArgumentError);
  EXPECT_THROW(run(reinterpret_cast<char*>(wide.data()) + 4, 8), ArgumentError);
}

TEST_P(PlannerCuda, EmptyDroppedAndBadBatchesAreBatches) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 1, options(2, 64), device_options());
  const std::vector<std::int32_t> nobody(8 * device.planner.layout().size(), 0);
  device.set({}, nobody, 4);
  EXPECT_THAT(device.run(), ::testing::IsEmpty());
  device.batch.topk_idx = device.batch.physical_idx = nullptr;
  device.planner.run(device.stream.get(), device.batch);
  device.set(std::vector<std::int64_t>(64, -1), nobody, 8);
  EXPECT_THAT(device.run(), Each(-1));
  EXPECT_EQ(device.stats().out_of_range, 0);
  device.set({-2, 256, std::int64_t{1} << 32, INT64_MIN}, nobody, 8);
  EXPECT_THAT(device.run(), Each(-1));
  EXPECT_EQ(device.stats().out_of_range, 4);
  EXPECT_EQ(device.stats().batches, 4);
  EXPECT_EQ(device.stats().optimal, 4);
  EXPECT_EQ(device.stats().check_failures, 0);
}

TEST_P(PlannerCuda, PaddedTokensDoNotCount) {
  SplitMix64 random(5);
  const Placement p = random_placement(random, 8);
  const PlannerOptions limits = options(3, 500);
  DeviceRank device(p, 0, limits, device_options());
  HostRank host(p, 0, limits);
  const GroupBatch batch = draw_batch(p, {.num_topk = 3, .max_tokens = 100}, random);
  std::vector<std::int64_t> topk(3 * 500);
  for (std::int64_t& id : topk) id = random.below(p.num_logical_experts);
  device.set(topk, batch.packed, 4);
  int clamped = 0;
  for (const std::int32_t valid : {0, 1, 77, 499, 500, 501, -3}) {
    device.valid.set({valid});
    device.batch.num_valid_tokens = device.valid.data();
    const std::size_t real = 3 * static_cast<std::size_t>(std::clamp(valid, 0, 500));
    auto want =
        host.run({topk.begin(), topk.begin() + static_cast<std::ptrdiff_t>(real)}, batch.counts);
    want.resize(topk.size(), -1);
    ASSERT_EQ(device.run(), want) << valid;
    clamped += valid < 0 || valid > 500;
    EXPECT_EQ(device.stats().bad_valid, clamped);
  }
  expect_equal_stats(device, host);
}

TEST_P(PlannerCuda, TakesPointersAtAnyElement) {
  SplitMix64 random(6);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 2, options(8, 700), device_options());
  HostRank host(p, 2, options(8, 700));
  GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 700}, random);
  batch.topk[2].resize(8 * 699, 5);
  const auto want = host.run(batch.topk[2], batch.counts);
  for (const std::size_t offset : {1, 2, 3}) {
    for (const int bytes : {4, 8}) {
      device.set(batch.topk[2], batch.packed, bytes, offset);
      ASSERT_EQ(device.run(), want) << offset << " elements of " << bytes << " bytes";
    }
  }
  EXPECT_EQ(device.stats().check_failures, 0);
}

TEST_P(PlannerCuda, GivesRankAndSlotWhereAsked) {
  SplitMix64 random(7);
  const Placement p = random_placement(random, 8);
  DeviceRank device(p, 0, options(2, 300), device_options());
  HostRank host(p, 0, options(2, 300));
  const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
  const auto want = host.run(batch.topk[0], batch.counts);
  device.set(batch.topk[0], batch.packed, 4);
  testing::DeviceVector<std::int32_t> ranks(std::vector<std::int32_t>(want.size(), -77));
  device.batch.target_rank = ranks.data();
  const auto slots = device.run();
  const auto target_rank = ranks.get();
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(target_rank[i], want[i] < 0 ? -1 : p.rank_of(static_cast<Index>(want[i])));
    ASSERT_EQ(slots[i], want[i] < 0 ? -1 : want[i] % p.slots_per_rank());
  }
  EXPECT_EQ(device.stats().check_failures, 0);
}

// If no counts are given, all ranks have the same tokens and must choose alike.
TEST_P(PlannerCuda, SameTokensOnEveryRankAreMappedAlike) {
  SplitMix64 random(8);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  std::vector<std::int64_t> topk(8 * 500);
  for (std::int64_t& id : topk) id = random.below(16) * random.below(16);
  std::vector<Load> counts(8 * 256, 0);
  for (const std::int64_t id : topk) ++counts[static_cast<std::size_t>(id)];
  const Split split = solve(p, std::span<const Load>(counts).first(256));
  std::vector<std::int64_t> want(topk.size());
  map_tokens(p, counts, split.physical_load, 0, topk, want);
  for (const Index rank : {0, 3, 7}) {
    DeviceRank device(p, rank, options(8, 500), device_options());
    device.set(topk, {}, 4);
    device.batch.all_counts = nullptr;
    ASSERT_EQ(device.run(), want) << "rank " << rank;
    EXPECT_EQ(device.stats().last_max_load, static_cast<std::int64_t>(split.max_load));
    EXPECT_EQ(device.stats().check_failures, 0);
  }
}

TEST_P(PlannerCuda, RefusedBatchesAreDividedEvenly) {
  SplitMix64 random(9);
  const Placement p = random_placement(random, 8);
  DeviceRank device(p, 0, options(2, 300), device_options());
  HostRank host(p, 0, options(2, 300));
  const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
  const auto alone = host.run_alone(batch.topk[0], batch.counts);
  const std::size_t size = device.planner.layout().size();
  ASSERT_GE(p.num_ranks, 2);
  // Two, three or four counts of 2^31 - 1: their sums exceed the limit, or wrap around.
  int overflows = 0;
  for (const int huge : {2, 3, 4}) {
    auto packed = batch.packed;
    for (int i = 0; i < huge && i < p.num_ranks * static_cast<int>(size); ++i) {
      packed[size + static_cast<std::size_t>(i) % size] = INT32_MAX;
    }
    device.set(batch.topk[0], packed, 4);
    ASSERT_EQ(device.run(), alone);
    EXPECT_EQ(device.stats().degraded, ++overflows);
    EXPECT_EQ(device.stats().last_status, BatchStatus::kDegraded);
  }
  auto negative = batch.packed;
  negative[size] = -1;
  device.set(batch.topk[0], negative, 4);
  ASSERT_EQ(device.run(), alone);
  const DevicePlannerStats stats = device.stats();
  EXPECT_EQ(stats.degraded, overflows + 1);
  EXPECT_EQ(stats.overflows + stats.bad_counts, stats.degraded);
  EXPECT_GE(stats.bad_counts, 1);
  EXPECT_EQ(stats.check_failures, 0);
  // A sound batch is planned as before.
  device.set(batch.topk[0], batch.packed, 4);
  ASSERT_EQ(device.run(), host.run(batch.topk[0], batch.counts));
}

TEST_P(PlannerCuda, RunsOnTheDeviceInFewLaunches) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 0, options(8, 16), device_options(false));
  device.set(std::vector<std::int64_t>(8, 3), std::vector<std::int32_t>(8 * 24, 0), 4);
  const std::int64_t before = num_launches();
  device.run();
  EXPECT_EQ(num_launches() - before, GetParam() == PlanShape::kCluster ? 1 : 3);
  EXPECT_EQ(device.planner.shape(), GetParam());
}

}  // namespace
}  // namespace lplb
