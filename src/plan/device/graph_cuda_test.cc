// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <functional>

#include "plan/device/cuda_test_support.h"

// DevicePlanner in CUDA graphs and together with another planner, and what it refuses.
namespace lplb {
namespace {

using testing::BatchShape;
using testing::CapturedGraph;
using testing::DeviceRank;
using testing::draw_batch;
using testing::GroupBatch;
using ::testing::HasSubstr;
using testing::HostRank;
using testing::SplitMix64;

class PlannerGraphCuda : public testing::PlannerCuda {};

INSTANTIATE_TEST_SUITE_P(All, PlannerGraphCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

/// A batch in which `rank` has `tokens` tokens, and the others some.
GroupBatch full_batch(const Placement& p, Index rank, Index num_topk, std::size_t tokens,
                      SplitMix64& random) {
  GroupBatch batch = draw_batch(p, {.num_topk = num_topk, .max_tokens = 200}, random);
  auto& topk = batch.topk[static_cast<std::size_t>(rank)];
  topk.resize(tokens * static_cast<std::size_t>(num_topk));
  for (std::int64_t& id : topk) {
    id = random.below(p.num_logical_experts + 1) * random.below(17) / 16;
    if (random.below(20) == 0) id = -1;
  }
  return batch;
}

TEST_P(PlannerGraphCuda, ReplaysReadWhatIsThereThen) {
  SplitMix64 random(1);
  const Placement p = testing::make_workload("hypercube16x2", 1).placement;
  const PlannerOptions limits = options(4, 2048);
  DeviceRank device(p, 5, limits, device_options());
  HostRank host(p, 5, limits);
  GroupBatch batch = full_batch(p, 5, 4, 2048, random);
  device.set(batch.topk[5], batch.packed, 4);
  device.valid.set({2048});
  device.batch.num_valid_tokens = device.valid.data();
  CapturedGraph graph(device.stream.get());
  device.planner.run(device.stream.get(), device.batch);
  graph.end();
  for (const std::int32_t valid : {2048, 2048, 0, 7, 1000, 2047}) {
    batch = full_batch(p, 5, 4, 2048, random);
    device.set(batch.topk[5], batch.packed, 4);  // same memory
    device.valid.set({valid});
    const auto real = batch.topk[5].begin() + 4 * std::ptrdiff_t{valid};
    auto want = host.run({batch.topk[5].begin(), real}, batch.counts);
    want.resize(batch.topk[5].size(), -1);
    graph.replay();
    ASSERT_EQ(device.result(), want) << valid << " valid tokens";
  }
  const DevicePlannerStats stats = device.stats();
  EXPECT_EQ(stats.batches, 6);
  EXPECT_EQ(stats.optimal, 6);
  EXPECT_EQ(stats.check_failures, 0);
}

TEST_P(PlannerGraphCuda, GraphsSurviveAnUpdateOfThePlacement) {
  SplitMix64 random(2);
  const Placement first = testing::make_workload("cube8x2", 1).placement;
  PlannerOptions limits = options(8, 512);
  limits.max_redundants = 32;
  DeviceRank device(first, 1, limits, device_options());
  HostRank host(first, 1, limits);
  GroupBatch batch = full_batch(first, 1, 8, 512, random);
  const std::size_t most = 8 * (32 + 8);
  const auto padded = [most](std::vector<std::int32_t> packed) {
    packed.resize(most, 0);
    return packed;
  };
  device.set(batch.topk[1], padded(batch.packed), 4);
  CapturedGraph graph(device.stream.get());
  device.planner.run(device.stream.get(), device.batch);
  graph.end();

  std::vector<Placement> placements;
  std::vector<Load> popular(256, 1);
  for (const Index replicas : {8, 16, 24, 32, 0}) {
    for (Load& w : popular) w = random.between(1, 1000);
    popular[7] = 50'000;
    const Placement made = testing::greedy_placement(popular, replicas, 8);
    PlacementOptions other;
    other.num_nodes = replicas % 16 == 0 ? 2 : 1;
    other.rank_alive.assign(8, 1);
    placements.push_back(make_placement(8, 256, made.physical_to_logical, other));
  }
  for (const Placement& next : placements) {
    device.planner.update_placement(device.stream.get(), next);
    host.planner.update_placement(next);
    EXPECT_EQ(device.planner.placement(), next);
    EXPECT_EQ(device.planner.layout().fingerprint, PackedLayout(next).fingerprint);
    batch = full_batch(next, 1, 8, 512, random);
    device.set(batch.topk[1], padded(batch.packed), 4);
    const auto want = host.run(batch.topk[1], batch.counts);
    graph.replay();
    ASSERT_EQ(device.result(), want) << next.num_physical() << " slots";
    ASSERT_EQ(device.run(), want);
  }
  EXPECT_EQ(device.stats().check_failures, 0);
  // If updates follow each other without a batch between, the last one counts.
  for (const Placement& next : placements) {
    device.planner.update_placement(device.stream.get(), next);
  }
  host.planner.update_placement(placements.back());
  graph.replay();
  EXPECT_EQ(device.result(), host.run(batch.topk[1], batch.counts));
}

TEST_P(PlannerGraphCuda, TwoPlannersOnTwoStreamsShareNothing) {
  SplitMix64 random(3);
  const Placement a = testing::make_workload("cube8x2", 1).placement;
  const Placement b = testing::make_workload("EP64+64", 1).placement;
  DeviceRank one(a, 0, options(8, 1024), device_options(false));
  DeviceRank two(b, 9, options(8, 1024), device_options(false));
  HostRank host_one(a, 0, options(8, 1024));
  HostRank host_two(b, 9, options(8, 1024));
  const GroupBatch batch_one = full_batch(a, 0, 8, 1024, random);
  const GroupBatch batch_two = full_batch(b, 9, 8, 1000, random);
  one.set(batch_one.topk[0], batch_one.packed, 4);
  two.set(batch_two.topk[9], batch_two.packed, 8);
  for (int i = 0; i < 50; ++i) {
    one.planner.run(one.stream.get(), one.batch);
    two.planner.run(two.stream.get(), two.batch);
  }
  EXPECT_EQ(one.result(), host_one.run(batch_one.topk[0], batch_one.counts));
  EXPECT_EQ(two.result(), host_two.run(batch_two.topk[9], batch_two.counts));
  EXPECT_EQ(one.stats().optimal, 50);
  EXPECT_EQ(two.stats().optimal, 50);
}

TEST_P(PlannerGraphCuda, ChecksFindWhatIsWrong) {
  SplitMix64 random(4);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 0, options(8, 64), device_options());
  const GroupBatch batch = full_batch(p, 0, 8, 64, random);
  device.set(batch.topk[0], batch.packed, 4);
  const auto right = device.run();
  EXPECT_EQ(device.stats().check_failures, 0);
  std::int64_t before = 0;
  const auto expect_found = [&](std::size_t at, std::int32_t wrong, const char* what) {
    std::vector<std::int32_t> changed(right.begin(), right.end());
    changed[at] = wrong;
    device.out.set(changed);
    device.planner.check(device.stream.get(), device.batch);
    const std::int64_t after = device.stats().check_failures;
    EXPECT_GT(after, before) << what;
    before = after;
  };
  const auto replica_of_many = [&](std::int64_t id) {
    return id >= 0 && p.replica_count[p.physical_to_logical[id]] > 1;
  };
  const std::size_t at =
      static_cast<std::size_t>(std::ranges::find_if(right, replica_of_many) - right.begin());
  ASSERT_LT(at, right.size());
  expect_found(at, -1, "a token that went nowhere");
  expect_found(at, 272, "a slot that does not exist");
  expect_found(at, static_cast<std::int32_t>(right[at]) ^ 1, "a slot of another expert");
  const auto replicas = p.replicas(p.physical_to_logical[right[at]]);
  expect_found(at, right[at] == replicas[0] ? replicas[1] : replicas[0], "another replica");
  const std::size_t dropped =
      static_cast<std::size_t>(std::ranges::find(right, -1) - right.begin());
  ASSERT_LT(dropped, right.size());
  expect_found(dropped, 3, "a dropped token that went somewhere");

  DeviceRank silent(p, 0, options(8, 64), device_options(false));
  EXPECT_THROW(silent.planner.check(silent.stream.get(), device.batch), ArgumentError);
}

TEST_P(PlannerGraphCuda, StatsCanBePolled) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 0, options(8, 64), device_options(false));
  device.set(std::vector<std::int64_t>(64, 300), std::vector<std::int32_t>(8 * 24, 0), 4);
  device.run();
  EXPECT_EQ(device.planner.poll_stats(device.stream.get()), std::nullopt);
  LPLB_CUDA_CHECK(cudaStreamSynchronize(device.stream.get()));
  const auto polled = device.planner.poll_stats(device.stream.get());
  ASSERT_TRUE(polled.has_value());
  EXPECT_EQ(polled->batches, 1);
  EXPECT_EQ(polled->out_of_range, 64);
}

void expect_refused(const std::function<void()>& call, const char* part) {
  try {
    call();
    ADD_FAILURE() << "accepted: expected " << part;
  } catch (const ArgumentError& e) {
    EXPECT_THAT(e.what(), HasSubstr(part));
  }
}

TEST_P(PlannerGraphCuda, RefusesBatchesThatDoNotFit) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 0, options(8, 64), device_options(false));
  device.set(std::vector<std::int64_t>(8 * 64, 3), std::vector<std::int32_t>(8 * 24, 0), 4);
  const auto with = [&](const std::function<void(DeviceBatch&)>& change) {
    return [&device, change] {
      DeviceBatch batch = device.batch;
      change(batch);
      device.planner.run(device.stream.get(), batch);
    };
  };
  const auto moved = [](const void* pointer, int bytes) {
    return const_cast<char*>(static_cast<const char*>(pointer)) + bytes;
  };
  expect_refused(with([](auto& b) { b.num_tokens = 65; }),
                 "num_tokens: 65 is not between 0 and max_tokens (64)");
  expect_refused(with([](auto& b) { b.num_tokens = -1; }), "num_tokens: -1 is not between");
  expect_refused(with([](auto& b) { b.id_bytes = 2; }), "id_bytes: 2 is not 4 or 8");
  expect_refused(with([](auto& b) { b.topk_idx = nullptr; }), "topk_idx: is null");
  expect_refused(with([](auto& b) { b.physical_idx = nullptr; }), "physical_idx: is null");
  expect_refused(with([](auto& b) { b.target_rank = b.physical_idx; }),
                 "target_rank: is the same memory as physical_idx");
  expect_refused(with([&](auto& b) { b.topk_idx = moved(b.topk_idx, 2); }), "topk_idx: is at 0x");
  expect_refused(with([&](auto& b) {
                   b.id_bytes = 8;
                   b.physical_idx = moved(b.physical_idx, 4);
                 }),
                 "expected a multiple of 8");
  EXPECT_EQ(device.stats().batches, 0);
}

TEST_P(PlannerGraphCuda, RefusesWhatThePlannerCannotTake) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  const auto made = [&](const Placement& placement, const PlannerOptions& limits,
                        DevicePlannerOptions on_device) {
    on_device.shape = GetParam();
    return [=] { DevicePlanner(placement, 0, limits, on_device); };
  };
  expect_refused(made(p, options(8, 0), {}), "max_tokens: 0 is not between 1 and 268435455");
  expect_refused(made(p, options(8, 1 << 28), {}), "max_tokens: 268435456 is not between 1 and");
  expect_refused(made(p, options(0, 8), {}), "num_topk: 0 is not >= 1");
  PlannerOptions ipm = options(8, 8);
  ipm.solve.solver = Solver::kIpm;
  expect_refused(made(p, ipm, {}), "solver: \"ipm\" is not on the device");
  expect_refused(made(p, options(8, 8), {.max_blocks = 3}), "max_blocks: 3 is not 1, 2, 4 or 8");
  PlannerOptions wide = options(8, 8);
  wide.max_redundants = 3800;
  expect_refused(made(p, wide, {}), "of a block's shared memory, expected at most");
  Placement uneven = p;
  uneven.rank_speed = {1, 1, 1, 1, 1, 1, 1, 2};
  expect_refused(made(uneven, options(8, 8), {}), "rank_speed: rank 7 has speed 2");

  DeviceRank device(p, 0, options(8, 8), device_options(false));
  const auto updated = [&](const Placement& next) {
    return [&device, next] { device.planner.update_placement(device.stream.get(), next); };
  };
  expect_refused(updated(uneven), "rank_speed: rank 7 has speed 2");
  expect_refused(updated(testing::make_workload("EP64+64", 1).placement),
                 "placement: has 64 ranks, expected those of the first (8)");
  EXPECT_EQ(device.planner.placement(), p);
  CapturedGraph graph(device.stream.get());
  expect_refused(updated(p), "stream: is being captured, expected an update outside of a capture");
  expect_refused([&] { device.stats(); }, "stream: is being captured");
  graph.end();
}

}  // namespace
}  // namespace lplb
