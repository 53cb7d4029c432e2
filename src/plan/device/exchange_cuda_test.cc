// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "plan/device/exchange_test_support.h"
#include "support/expect_refused.h"

// DevicePlanners that exchange their counts, compared with Planner that is given all counts. The
// ranks are streams of one device.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::BatchShape;
using testing::chained_placement;
using testing::DeviceRank;
using testing::draw_batch;
using testing::ExchangingRanks;
using testing::GroupBatch;
using testing::HostRank;
using testing::PlannerCuda;
using testing::PooledBatches;
using testing::random_placement;
using testing::rounds_or;
using testing::SplitMix64;
using testing::spread_placement;

class PlannerExchangeCuda : public PlannerCuda {};

INSTANTIATE_TEST_SUITE_P(All, PlannerExchangeCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

TEST_P(PlannerExchangeCuda, EqualsCpuOnRandomGroups) {
  SplitMix64 random(11);
  for (int repeat = 0; repeat < 25; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_placement(random, repeat % 5 == 0 ? 16 : 8);
    const BatchShape shape{.num_topk = 1 + random.below(8),
                           .max_tokens = repeat % 4 == 0 ? 1500 : 100};
    PlannerOptions limits = options(shape.num_topk, shape.max_tokens);
    if (repeat % 3 == 1) limits.solve.solver = Solver::kFlow;
    DevicePlannerOptions on_device = device_options(repeat % 2 == 0);
    on_device.max_blocks = p.num_ranks > 8 ? 2 : 4;
    ExchangingRanks group(p, limits, on_device);
    for (int i = 0; i < 3; ++i) {
      group.expect_drawn_solved(shape, random, i == 1 ? 8 : 4);
      if (HasFatalFailure() || HasFailure()) return;
    }
  }
}

TEST_P(PlannerExchangeCuda, PlacementsChangeBetweenBatches) {
  SplitMix64 random(12);
  PlannerOptions limits = options(4, 500);
  limits.max_redundants = 24;
  ExchangingRanks group(spread_placement(1, 2), limits, device_options());
  for (int i = 0; i < 12; ++i) {
    group.update(spread_placement(1 + i % 5, 1 + i % 3));
    group.expect_drawn_solved({.num_topk = 4, .max_tokens = 500}, random);
    if (HasFailure()) return;
  }
}

TEST_P(PlannerExchangeCuda, ARankThatIsLeftOutDegradesTheOthersUntilItIsBack) {
  SplitMix64 random(13);
  const Placement p = chained_placement(8);
  const BatchShape shape{.num_topk = 8, .max_tokens = 600};
  ExchangingRanks group(p, options(8, 600), device_options(), 5ms);
  for (int i = 0; i < 2; ++i) {
    const GroupBatch batch = draw_batch(p, shape, random);
    group.set(batch);
    group.run(7);
    for (std::size_t g = 0; g < 7; ++g) group.expect_degraded(batch, g);
    if (HasFailure()) return;
  }
  for (std::size_t g = 0; g < 7; ++g) {
    EXPECT_EQ(group.device[g]->stats().lost, 2);
    EXPECT_EQ(group.exchanges[g]->stats(group.device[g]->stream.get()).last_missing, 7);
  }
  for (int i = 0; i < 2; ++i) group.device[7]->run();
  const GroupBatch batch = draw_batch(p, shape, random);
  group.set(batch);
  group.run(8);
  group.expect_solved(batch, 2);
}

// Some ranks come about when the others give them up. The blocks of a cluster may then see the
// round end differently; they must map its batch in the same way.
TEST_P(PlannerExchangeCuda, ABatchIsMappedByOneVerdict) {
  SplitMix64 random(18);
  const Placement p = chained_placement(4);
  DevicePlannerOptions on_device = device_options();
  on_device.max_blocks = 4;
  ExchangingRanks group(p, options(8, 2500), on_device, 60us);
  const GroupBatch batch =
      draw_batch(p, {.num_topk = 8, .max_tokens = 2500, .skewed = true}, random);
  group.set(batch);
  testing::DeviceVector<testing::RoundLog> logs(std::vector<testing::RoundLog>(4));
  std::vector<std::vector<std::int64_t>> exact, even;
  for (std::size_t g = 0; g < 4; ++g) {
    exact.push_back(group.host[g]->run(batch.topk[g], batch.counts));
    even.push_back(group.host[g]->run_alone(batch.topk[g], batch.counts));
  }
  int solved = 0;
  int degraded = 0;
  for (int round = 0; round < 300; ++round) {
    for (std::size_t g = 0; g < 4; ++g) {
      const auto stream = group.device[g]->stream.get();
      testing::launch_delay(logs.data() + g, static_cast<int>(g), round % 4 == 0 ? 0 : 150'000,
                            stream);
      group.device[g]->planner.run(stream, group.device[g]->batch);
      testing::launch_compare(logs.data() + g, nullptr, nullptr, 0, stream);
    }
    for (std::size_t g = 0; g < 4; ++g) {
      const auto got = group.device[g]->result();
      const bool is_lost = group.device[g]->stats().last_status == BatchStatus::kDegraded;
      ++(is_lost ? degraded : solved);
      ASSERT_EQ(got, is_lost ? even[g] : exact[g]) << "round " << round << ", rank " << g;
    }
  }
  EXPECT_GT(solved, 0);
  EXPECT_GT(degraded, 0);
  RecordProperty("solved", solved);
  for (std::size_t g = 0; g < 4; ++g) EXPECT_EQ(group.device[g]->stats().check_failures, 0);
}

TEST_P(PlannerExchangeCuda, ARankWithAnotherPlacementIsNoticed) {
  SplitMix64 random(14);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  ExchangingRanks group(p, options(8, 100), device_options());
  // The same experts are replicated, but elsewhere, so the packed counts have the same layout.
  std::vector<Index> map = p.physical_to_logical;
  const Index slots = p.slots_per_rank();
  std::swap(map[static_cast<std::size_t>(slots - 1)], map[static_cast<std::size_t>(2 * slots - 1)]);
  group.device[3]->planner.update_placement(
      group.device[3]->stream.get(), make_placement(p.num_ranks, p.num_logical_experts, map));
  const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 100}, random);
  group.set(batch);
  group.run(8);
  for (std::size_t g = 0; g < 8; ++g) {
    if (g != 3) group.expect_degraded(batch, g);
    EXPECT_EQ(group.device[g]->stats().lost, 1);
    EXPECT_EQ(group.exchanges[g]->stats(group.device[g]->stream.get()).mismatched, 1);
  }
}

TEST_P(PlannerExchangeCuda, ManyRoundsEqualCpu) {
  SplitMix64 random(15);
  for (const Index num_ranks : {2, 4, 8, 16}) {
    SCOPED_TRACE(num_ranks);
    const Placement p = chained_placement(num_ranks);
    DevicePlannerOptions on_device = device_options(false);
    on_device.max_blocks = num_ranks < 16 ? 4 : 2;
    ExchangingRanks group(p, options(4, 2500), on_device);
    PooledBatches pool(group, p, {.num_topk = 4, .max_tokens = 2500}, 16, random);
    const int rounds = rounds_or(1000);
    pool.run(rounds);
    pool.expect_right(rounds);
    if (HasFailure()) return;
  }
}

TEST_P(PlannerExchangeCuda, GraphsAreReplayed) {
  constexpr int kRounds = 10;
  SplitMix64 random(16);
  const Placement p = chained_placement(8);
  ExchangingRanks group(p, options(8, 600), device_options(false));
  PooledBatches pool(group, p, {.num_topk = 8, .max_tokens = 600}, kRounds, random);
  const int replays = std::max(1, rounds_or(2000) / kRounds);
  pool.replay(replays);
  pool.expect_right(long{replays} * kRounds);
}

/// An exchange of the user's: its all-gather copies the counts that it was given.
class ToldCounts : public DeviceExchange {
 public:
  ToldCounts(Index num_ranks, Index rank) : num_ranks_(num_ranks), rank_(rank) {}
  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  std::size_t max_counts() const override { return 4096; }
  void all_gather(StreamHandle stream, const DeviceGather& g) override {
    EXPECT_EQ(g.outcome, nullptr);
    const std::size_t row = g.num_counts * sizeof(std::int32_t);
    auto* const cuda_stream = static_cast<cudaStream_t>(stream);
    LPLB_CUDA_CHECK(cudaMemcpyAsync(g.all, all.data(), row * static_cast<std::size_t>(num_ranks_),
                                    cudaMemcpyDeviceToDevice, cuda_stream));
    mine.assign(g.num_counts, -1);
    LPLB_CUDA_CHECK(cudaMemcpyAsync(mine.data(), g.mine, row, cudaMemcpyDeviceToHost, cuda_stream));
  }
  DeviceExchangeStats stats(StreamHandle) override { return {}; }

  testing::DeviceVector<std::int32_t> all;
  std::vector<std::int32_t> mine;

 private:
  Index num_ranks_, rank_;
};

TEST_P(PlannerExchangeCuda, AnExchangeOfTheUsersRunsBetweenTwoKernels) {
  SplitMix64 random(17);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const Placement p = random_placement(random, 20);
    const Index rank = random.below(p.num_ranks);
    const auto exchange = std::make_shared<ToldCounts>(p.num_ranks, rank);
    DevicePlannerOptions on_device = device_options();
    on_device.exchange = exchange;
    DeviceRank device(p, rank, options(3, 2000), on_device);
    HostRank host(p, rank, options(3, 2000));
    const GroupBatch batch = draw_batch(p, {.num_topk = 3, .max_tokens = 2000}, random);
    const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
    exchange->all.set(batch.packed);
    device.set(topk, batch.packed, 4);
    device.batch.all_counts = nullptr;
    ASSERT_EQ(device.run(), host.run(topk, batch.counts));
    EXPECT_EQ(device.stats().check_failures, 0);
    const std::size_t size = device.planner.layout().size();
    const auto first = batch.packed.begin() + static_cast<std::ptrdiff_t>(size) * rank;
    EXPECT_EQ(exchange->mine, std::vector<std::int32_t>(first, first + static_cast<int>(size)));
  }
}

TEST_P(PlannerExchangeCuda, QuotasAreOfTheCountsThatTravelled) {
  SplitMix64 random(19);
  const Placement p = chained_placement(8);
  DevicePlannerOptions keeping = device_options(false);
  keeping.keeps_split = true;
  ExchangingRanks group(p, options(8, 300), keeping);
  const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 300}, random);
  group.set(batch);
  group.run(8);
  group.expect_solved(batch);
  group.expect_quotas(batch);
  const testing::DeviceVector<std::int32_t> some(std::vector<std::int32_t>(1));
  for (const auto& rank : group.device) {
    testing::expect_refused(
        [&] {
          rank->planner.write_quotas(rank->stream.get(), some.data(), {2, some.data()});
        },
        "all_counts");
  }
}

TEST_P(PlannerExchangeCuda, RefusesAnExchangeThatDoesNotFit) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  const auto refused = [&](std::shared_ptr<DeviceExchange> exchange, const char* part) {
    DevicePlannerOptions on_device = device_options();
    on_device.exchange = std::move(exchange);
    try {
      DevicePlanner(p, 2, options(8, 10), on_device);
      ADD_FAILURE() << "accepted: expected " << part;
    } catch (const ArgumentError& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr(part));
    }
  };
  refused(std::make_shared<ToldCounts>(8, 1), "exchange: is that of rank 1, expected 2");
  std::vector<PeerGroup> small = PeerGroup::in_process(std::vector<int>(8, 0), {.max_counts = 23});
  refused(small[2].channel(0), "exchange: has room for 23 counts, expected 24");
  DevicePlannerOptions on_device = device_options();
  on_device.exchange = std::make_shared<ToldCounts>(8, 2);
  DevicePlanner planner(p, 2, options(8, 10), on_device);
  const std::int32_t some[1] = {};
  EXPECT_THROW(planner.run(nullptr, {.all_counts = some}), ArgumentError);
  EXPECT_THROW(planner.count(nullptr, {}, nullptr), ArgumentError);
}

}  // namespace
}  // namespace lplb
