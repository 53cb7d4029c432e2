// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "lplb/planner.h"
#include "support/allocations.h"
#include "support/expect_refused.h"
#include "support/plan_batches.h"

// Planners with staleness 1: each batch is split by the counts of the previous batch.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::draw_batch;
using ::testing::ElementsAre;
using testing::expect_refused;
using testing::GroupBatch;
using testing::map_stale;
using testing::SplitMix64;
using testing::two_ranks;

PlannerOptions stale(std::int64_t max_tokens, Index num_topk) {
  PlannerOptions options;
  options.max_tokens = max_tokens;
  options.num_topk = num_topk;
  options.staleness = 1;
  return options;
}

TEST(StalePlanner, SplitsABatchByTheOneBefore) {
  auto given = std::make_shared<GivenCounts>(2, 0);
  Planner planner(two_ranks(), 0, stale(8, 1), given);
  std::vector<std::int64_t> out(4);
  const auto run = [&](std::vector<std::int64_t> topk) {
    out.resize(topk.size());
    return planner.run(topk, out);
  };
  EXPECT_EQ(run({0, 0, 0, 0}), BatchStatus::kUnplanned);
  EXPECT_THAT(out, ElementsAre(0, 0, 3, 3));  // evenly
  // In that batch rank 1 had four tokens of expert 2, so all tokens of expert 0 belong on rank 0.
  given->set(std::vector<Load>{0, 0, 0, 0, 0, 4}, 3);
  EXPECT_EQ(run({0, 0, 1, -1, 7, 0}), BatchStatus::kOptimal);
  EXPECT_THAT(out, ElementsAre(0, 0, 1, -1, -1, 0));
  EXPECT_THAT(planner.last_split().rank_load, ElementsAre(4, 4));
  EXPECT_EQ(planner.stats().last_imbalance, 1.0);
  // In that one rank 1 had no tokens, so two of the three tokens of expert 0 belong there.
  given->set(std::vector<Load>(6, 0), 3);
  EXPECT_EQ(run({0, 0, 0, 0, 0, 0}), BatchStatus::kOptimal);
  EXPECT_THAT(out, ElementsAre(0, 0, 3, 3, 3, 3));
  EXPECT_EQ(planner.stats().batches, 3);
  EXPECT_EQ(planner.stats().unplanned, 1);
  EXPECT_EQ(planner.stats().solved, 2);
  EXPECT_EQ(planner.stats().degraded, 0);
  EXPECT_EQ(planner.stats().out_of_range, 1);
}

TEST(StalePlanner, EqualsTheMapInProportionOnRandomGroups) {
  SplitMix64 random(3);
  int solved = 0;
  for (int repeat = 0; repeat < 60; ++repeat) {
    const Placement p = testing::random_placement(random, 12);
    const Index rank = random.below(p.num_ranks);
    auto given = std::make_shared<GivenCounts>(p.num_ranks, rank);
    Planner planner(p, rank, stale(200, 2), given);
    std::vector<Load> before;
    for (int i = 0; i < 4; ++i) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 200}, random);
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      std::vector<std::int64_t> out(topk.size());
      const BatchStatus status = planner.run(topk, out);
      if (i > 0) {
        EXPECT_EQ(status, BatchStatus::kOptimal);
        ASSERT_EQ(out, map_stale(p, before, rank, topk)) << repeat << ", " << i;
        ++solved;
      }
      before = batch.counts;
      given->set(before, p.num_logical_experts);
    }
  }
  EXPECT_EQ(solved, 180);
}

// Counts that are under way cannot be used with a placement that has another layout. With a
// placement whose replicas are on other ranks but whose layout is the same, they can.
TEST(StalePlanner, StartsAnewWithAnotherLayout) {
  PlannerOptions options = stale(8, 1);
  options.max_redundants = 3;
  auto given = std::make_shared<GivenCounts>(2, 0);
  Planner planner(two_ranks(), 0, options, given);
  given->set(std::vector<Load>(6, 0), 3);
  std::vector<std::int32_t> out(2);
  const std::vector<std::int32_t> topk = {0, 0};
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kUnplanned);
  const std::vector<Index> wider = {0, 1, 2, 2, 1, 0};
  planner.update_placement(make_placement(2, 3, wider));
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kUnplanned);
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);
  EXPECT_THAT(planner.last_split().rank_load, ElementsAre(1, 1));
  const std::vector<Index> moved = {2, 1, 0, 0, 1, 2};
  planner.update_placement(make_placement(2, 3, moved));
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);
  EXPECT_THAT(out, ElementsAre(2, 3));
  EXPECT_EQ(planner.stats().unplanned, 2);
}

// In a group of threads, all ranks split by the same batch, and no rank waits for one that is less
// than a batch behind.
TEST(StalePlanner, RanksOfAGroupDoNotWaitWithinABatch) {
  const Placement p = two_ranks();
  InProcessGroup group(2, 60s);
  Planner first(p, 0, stale(8, 1), group.member(0));
  Planner second(p, 1, stale(8, 1), group.member(1));
  std::vector<std::int64_t> out(4);
  const auto run = [&](Planner& planner, std::vector<std::int64_t> topk) {
    out.resize(topk.size());
    return planner.run(topk, out);
  };
  // Both ranks run in one thread: if one of them waited, nobody could end the wait.
  EXPECT_EQ(run(first, {0, 0, 0}), BatchStatus::kUnplanned);
  EXPECT_EQ(run(second, {2, 2, 2}), BatchStatus::kUnplanned);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(run(second, {0, 2, 2}), BatchStatus::kOptimal);
    EXPECT_THAT(out, ElementsAre(i == 0 ? 0 : 3, 2, 2)) << i;
    EXPECT_EQ(run(first, {1, 1, 1, 1}), BatchStatus::kOptimal);
  }
}

TEST(StalePlanner, GroupsOfThreadsSplitAlike) {
  constexpr int kBatches = 200;
  SplitMix64 random(5);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  std::vector<GroupBatch> batches;
  for (int i = 0; i < kBatches; ++i) {
    batches.push_back(draw_batch(p, {.num_topk = 8, .max_tokens = 40}, random));
  }
  InProcessGroup group(p.num_ranks, 60s);
  std::vector<std::thread> threads;
  for (Index rank = 0; rank < p.num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      Planner planner(p, rank, stale(40, 8), group.member(rank));
      for (int i = 0; i < kBatches; ++i) {
        const auto& topk = batches[i].topk[static_cast<std::size_t>(rank)];
        std::vector<std::int64_t> out(topk.size());
        const BatchStatus status = planner.run(topk, out);
        if (i == 0) continue;
        ASSERT_EQ(status, BatchStatus::kOptimal);
        ASSERT_EQ(out, map_stale(p, batches[i - 1].counts, rank, topk)) << i;
      }
      if (rank % 2 == 0) std::this_thread::sleep_for(1ms);  // ranks leave one by one
    });
  }
  for (std::thread& t : threads) t.join();
}

// If a rank comes a batch too late, one batch is degraded, on all ranks. After that the ranks are
// in step again.
TEST(StalePlanner, ALateRankDegradesABatch) {
  const Placement p = two_ranks();
  InProcessGroup group(2, 30ms);
  Planner first(p, 0, stale(8, 1), group.member(0));
  Planner second(p, 1, stale(8, 1), group.member(1));
  std::vector<std::int32_t> out(2);
  const std::vector<std::int32_t> topk = {0, 0};
  EXPECT_EQ(first.run(topk, out), BatchStatus::kUnplanned);
  EXPECT_EQ(first.run(topk, out), BatchStatus::kDegraded);  // `second` has not come
  EXPECT_EQ(second.run(topk, out), BatchStatus::kUnplanned);
  EXPECT_EQ(second.run(topk, out), BatchStatus::kDegraded);
  EXPECT_EQ(second.run(topk, out), BatchStatus::kOptimal);
  EXPECT_EQ(first.run(topk, out), BatchStatus::kOptimal);
  EXPECT_EQ(first.stats().degraded, 1);
}

TEST(StalePlanner, RunDoesNotAllocate) {
  InProcessGroup group(1);
  const std::vector<Index> map = {0, 1, 0, 2};
  Planner planner(make_placement(1, 3, map), 0, stale(8, 1), group.member(0));
  std::vector<std::int32_t> out(4);
  const std::vector<std::int32_t> topk = {0, 1, 0, 2};
  const std::int64_t before = testing::num_allocations();
  for (int i = 0; i < 3; ++i) planner.run(topk, out);
  EXPECT_EQ(testing::num_allocations() - before, 0);
  EXPECT_THAT(out, ElementsAre(0, 1, 2, 3));
}

TEST(StalePlanner, RefusesCountsThatCannotBeAndStaysInStep) {
  auto given = std::make_shared<GivenCounts>(2, 0);
  Planner planner(two_ranks(), 0, stale(8, 1), given);
  std::vector<std::int32_t> out(1);
  const std::vector<std::int32_t> topk = {0};
  planner.run(topk, out);
  expect_refused([&] { planner.run(topk, out); }, "counts: are set for 0 experts, expected 3");
  given->set(std::vector<Load>{0, 0, 0, 0, 0, std::numeric_limits<Load>::max()}, 3);
  EXPECT_THROW(planner.run(topk, out), ExchangeError);
  given->set(std::vector<Load>(6, 0), 3);
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);
  EXPECT_EQ(planner.stats().batches, 2);
}

}  // namespace
}  // namespace lplb
