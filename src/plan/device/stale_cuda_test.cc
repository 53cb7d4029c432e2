// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "plan/device/exchange_test_support.h"
#include "support/expect_refused.h"

// Compares DevicePlanners with staleness 1 with Planners that have it too.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::BatchShape;
using testing::chained_placement;
using testing::DeviceRank;
using testing::DeviceVector;
using testing::draw_batch;
using testing::ExchangingRanks;
using testing::expect_refused;
using testing::GroupBatch;
using testing::HostRank;
using testing::outside;
using testing::PooledBatches;
using testing::random_placement;
using testing::rounds_or;
using testing::SplitMix64;
using testing::spread_placement;

class PlannerStaleCuda : public testing::PlannerCuda {
 protected:
  static PlannerOptions stale(Index num_topk, std::int64_t max_tokens) {
    PlannerOptions made = options(num_topk, max_tokens);
    made.staleness = 1;
    return made;
  }
};

INSTANTIATE_TEST_SUITE_P(All, PlannerStaleCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

/// The row of `rank` in the batch's packed counts.
std::vector<std::int32_t> row_of(const GroupBatch& batch, Index rank, std::size_t size) {
  const auto first = batch.packed.begin() + static_cast<std::ptrdiff_t>(size) * rank;
  return {first, first + static_cast<std::ptrdiff_t>(size)};
}

TEST_P(PlannerStaleCuda, EqualsCpuOnRandomGroups) {
  SplitMix64 random(31);
  for (int repeat = 0; repeat < 24; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_placement(random, repeat % 3 == 0 ? 64 : repeat % 3 == 1 ? 8 : 20);
    const BatchShape shape{.num_topk = 1 + random.below(8),
                           .max_tokens = repeat % 10 == 0 ? 2000 : 100};
    const Index rank = random.below(p.num_ranks);
    PlannerOptions limits = stale(shape.num_topk, shape.max_tokens);
    if (repeat % 4 == 1) limits.solve.solver = Solver::kFlow;
    DeviceRank device(p, rank, limits, device_options());
    HostRank host(p, rank, limits);
    const std::size_t size = device.planner.layout().size();
    DeviceVector<std::int32_t> packed(std::vector<std::int32_t>(size, -9));
    std::vector<std::int32_t> last(size * static_cast<std::size_t>(p.num_ranks), -5);
    for (int i = 0; i < 4; ++i) {
      const GroupBatch batch = draw_batch(p, shape, random);
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      device.set(topk, last, i == 1 ? 8 : 4);
      if (i == 0 && repeat % 2 == 0) device.batch.all_counts = nullptr;
      device.batch.packed = packed.data();
      ASSERT_EQ(device.run(), host.run(topk, batch.counts)) << i;
      EXPECT_EQ(packed.get(), row_of(batch, rank, size));
      const DevicePlannerStats stats = device.stats();
      EXPECT_EQ(stats.last_status, host.last_status);
      EXPECT_EQ(stats.unplanned, 1);
      EXPECT_EQ(stats.optimal, host.planner.stats().optimal);
      EXPECT_EQ(stats.degraded, 0);
      EXPECT_EQ(stats.check_failures, 0);
      if (i > 0) {
        EXPECT_EQ(static_cast<double>(stats.last_max_load), host.planner.last_split().max_load);
        EXPECT_DOUBLE_EQ(stats.last_imbalance, host.planner.stats().last_imbalance);
      }
      if (HasFailure()) return;
      last = batch.packed;
    }
  }
}

TEST_P(PlannerStaleCuda, RanksThatExchangeEqualCpu) {
  SplitMix64 random(32);
  for (const bool within : {true, false}) {
    for (int repeat = 0; repeat < 10; ++repeat) {
      SCOPED_TRACE(repeat);
      const Placement p = random_placement(random, 8);
      const BatchShape shape{.num_topk = 1 + random.below(8),
                             .max_tokens = repeat % 3 == 0 ? 1500 : 100};
      DevicePlannerOptions on_device = device_options(repeat % 2 == 0);
      on_device.max_blocks = 4;
      ExchangingRanks group(p, stale(shape.num_topk, shape.max_tokens), on_device, 10s,
                            within ? nullptr : outside);
      for (int i = 0; i < 4; ++i) {
        group.expect_drawn_solved(shape, random, i == 1 ? 8 : 4);
        if (HasFatalFailure() || HasFailure()) return;
      }
    }
  }
}

// If a rank waited, the first rank's batch would end at the deadline and be lost.
TEST_P(PlannerStaleCuda, NoRankWaitsForOneThatIsLessThanABatchBehind) {
  SplitMix64 random(33);
  const Placement p = chained_placement(4);
  for (const bool within : {true, false}) {
    ExchangingRanks group(p, stale(4, 500), device_options(), 60s, within ? nullptr : outside);
    for (int i = 0; i < 5; ++i) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 4, .max_tokens = 500}, random);
      group.set(batch);
      for (std::size_t k = 0; k < 4; ++k) {
        DeviceRank& rank = *group.device[(k + static_cast<std::size_t>(i)) % 4];
        rank.run();  // waits for the stream
      }
      group.expect_solved(batch);
      if (HasFailure()) return;
    }
  }
}

TEST_P(PlannerStaleCuda, PlacementsChangeBetweenBatches) {
  SplitMix64 random(34);
  PlannerOptions limits = stale(4, 500);
  limits.max_redundants = 24;
  for (const bool within : {true, false}) {
    ExchangingRanks group(spread_placement(1, 2), limits, device_options(), 10s,
                          within ? nullptr : outside);
    for (int i = 0; i < 16; ++i) {
      // There is another layout, the same one with replicas elsewhere, or no update.
      if (i % 2 == 1) group.update(spread_placement(1 + i % 5, 1 + i / 4 % 3));
      group.expect_drawn_solved({.num_topk = 4, .max_tokens = 500}, random);
      if (HasFailure()) return;
    }
    const DevicePlannerStats stats = group.device[0]->stats();
    EXPECT_EQ(stats.unplanned, group.host[0]->planner.stats().unplanned);
    EXPECT_GT(stats.unplanned, 2);
    EXPECT_GT(stats.solved, 8);
  }
}

TEST_P(PlannerStaleCuda, ARankThatIsLeftOutDegradesTheOthersUntilItIsBack) {
  SplitMix64 random(35);
  const Placement p = chained_placement(8);
  const BatchShape shape{.num_topk = 8, .max_tokens = 600};
  ExchangingRanks group(p, stale(8, 600), device_options(), 5ms);
  std::vector<GroupBatch> batches;
  for (int i = 0; i < 3; ++i) {
    const GroupBatch& batch = batches.emplace_back(draw_batch(p, shape, random));
    group.set(batch);
    group.run(7);
    for (std::size_t g = 0; g < 7; ++g) {
      if (i > 0) {
        group.expect_degraded(batch, g);
        continue;
      }
      ASSERT_EQ(group.device[g]->result(), group.host[g]->run(batch.topk[g], batch.counts));
      EXPECT_EQ(group.device[g]->stats().last_status, BatchStatus::kUnplanned);
    }
    if (HasFailure()) return;
  }
  EXPECT_EQ(group.device[0]->stats().lost, 2);
  EXPECT_EQ(group.exchanges[0]->stats(group.device[0]->stream.get()).last_missing, 7);
  // The late rank's first batch is unplanned. The round that its second needs was given up by the
  // others; the one that its third needs is still there.
  DeviceRank& late = *group.device[7];
  HostRank& model = *group.host[7];
  for (int i = 0; i < 3; ++i) {
    const GroupBatch& batch = batches[static_cast<std::size_t>(i)];
    late.set(batch.topk[7], batch.packed, 4);
    late.batch.all_counts = nullptr;
    const auto got = late.run();
    ASSERT_EQ(got, i == 1 ? model.run_alone(batch.topk[7], batch.counts)
                          : model.run(batch.topk[7], batch.counts));
    EXPECT_EQ(late.stats().last_status, model.last_status);
  }
  EXPECT_EQ(late.stats().lost, 1);
  for (int i = 0; i < 2; ++i) {
    const GroupBatch batch = draw_batch(p, shape, random);
    group.set(batch);
    group.run(8);
    for (std::size_t g = 0; g < 8; ++g) {
      ASSERT_EQ(group.device[g]->result(), group.host[g]->run(batch.topk[g], batch.counts));
      EXPECT_EQ(group.device[g]->stats().last_status, BatchStatus::kOptimal);
    }
  }
}

TEST_P(PlannerStaleCuda, ManyRoundsEqualCpu) {
  SplitMix64 random(36);
  for (const Index num_ranks : {2, 8, 16}) {
    SCOPED_TRACE(num_ranks);
    const Placement p = chained_placement(num_ranks);
    DevicePlannerOptions on_device = device_options(false);
    on_device.max_blocks = num_ranks < 16 ? 4 : 2;
    ExchangingRanks group(p, stale(4, 2500), on_device);
    PooledBatches pool(group, p, {.num_topk = 4, .max_tokens = 2500}, 16, random);
    pool.prime();
    const int rounds = rounds_or(1000);
    pool.run(rounds);
    pool.expect_right(rounds);
    if (HasFailure()) return;
  }
}

// With the exchange in the kernel, and on the planner's own stream. The capture includes that
// stream, and join() brings it back.
TEST_P(PlannerStaleCuda, GraphsAreReplayed) {
  constexpr int kRounds = 10;
  SplitMix64 random(37);
  const Placement p = chained_placement(4);
  for (const bool within : {true, false}) {
    ExchangingRanks group(p, stale(8, 600), device_options(false), 10s, within ? nullptr : outside);
    PooledBatches pool(group, p, {.num_topk = 8, .max_tokens = 600}, kRounds, random);
    pool.prime();
    const int replays = std::max(1, rounds_or(1000) / kRounds);
    pool.replay(replays);
    // Run two rounds outside a graph again.
    for (int round = 0; round < 2; ++round) {
      for (std::size_t g = 0; g < group.device.size(); ++g) pool.enqueue(round, g, 2000);
    }
    pool.expect_right(long{replays} * kRounds + 2);
  }
}

TEST_P(PlannerStaleCuda, ACaptureWantsWhatIsUnderWayToBeJoined) {
  SplitMix64 random(38);
  const Placement p = chained_placement(2);
  ExchangingRanks group(p, stale(2, 100), device_options(false), 10s, outside);
  group.set(draw_batch(p, {.num_topk = 2, .max_tokens = 100}, random));
  group.run(2);
  DeviceRank& rank = *group.device[0];
  const cudaStream_t stream = rank.stream.get();
  LPLB_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  expect_refused([&] { rank.planner.run(stream, rank.batch); }, "expected join() between");
  cudaGraph_t graph = nullptr;
  LPLB_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  LPLB_CUDA_CHECK(cudaGraphDestroy(graph));
  group.run(2);  // nothing has changed
  rank.result();
  EXPECT_EQ(rank.stats().batches, 2);
}

TEST_P(PlannerStaleCuda, QuotasAreOfTheBatchBefore) {
  SplitMix64 random(39);
  const Placement p = chained_placement(4);
  DevicePlannerOptions keeping = device_options(false);
  keeping.keeps_split = true;
  for (const bool within : {true, false}) {
    ExchangingRanks group(p, stale(8, 300), keeping, 10s, within ? nullptr : outside);
    std::vector<GroupBatch> batches;
    for (int i = 0; i < 3; ++i) {
      const GroupBatch& batch =
          batches.emplace_back(draw_batch(p, {.num_topk = 8, .max_tokens = 300}, random));
      group.set(batch);
      group.run(4);
      group.expect_solved(batch);
    }
    group.expect_quotas(batches[1]);
  }
}

// The quotas are those of the map: the odd token of an expert is not at the same replica on every
// rank.
TEST_P(PlannerStaleCuda, QuotasOfTheFirstBatchAreEven) {
  SplitMix64 random(40);
  const Placement p = chained_placement(4);
  DevicePlannerOptions keeping = device_options(false);
  keeping.keeps_split = true;
  DeviceRank rank(p, 3, stale(8, 300), keeping);
  GroupBatch batch;
  while (batch.topk.empty() || batch.topk[3].empty()) {
    batch = draw_batch(p, {.num_topk = 8, .max_tokens = 300}, random);
  }
  rank.set(batch.topk[3], {}, 4);
  rank.batch.all_counts = nullptr;
  std::vector<std::int32_t> taken(static_cast<std::size_t>(p.num_physical()), 0);
  for (const std::int64_t id : rank.run()) {
    if (id >= 0) ++taken[static_cast<std::size_t>(id)];
  }
  const std::vector<std::int32_t> got = testing::from_device(rank, 2).quota_end;
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    if (p.replica_count[e] == 1) continue;
    EXPECT_EQ(got[static_cast<std::size_t>(2 * e)],
              taken[static_cast<std::size_t>(p.replicas(e)[0])])
        << e;
  }
}

TEST_P(PlannerStaleCuda, RefusesWhatDoesNotFit) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  PlannerOptions limits = stale(8, 10);
  limits.staleness = 2;
  expect_refused([&] { DevicePlanner(p, 2, limits, device_options()); },
                 "staleness: 2 is not 0 or 1");
  DeviceVector<std::int32_t> packed(std::vector<std::int32_t>(24));
  DevicePlanner exact(p, 2, options(8, 10), device_options());
  expect_refused([&] { exact.run(nullptr, {.packed = packed.data()}); },
                 "packed: is given, expected null: staleness is 0");
  exact.join(nullptr);
  ExchangingRanks group(p, stale(8, 10), device_options());
  expect_refused([&] { group.device[0]->planner.run(nullptr, {.packed = packed.data()}); },
                 "packed: is given, expected null: the planner has an exchange");
}

}  // namespace
}  // namespace lplb
