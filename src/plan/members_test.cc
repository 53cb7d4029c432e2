// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "lplb/planner.h"
#include "support/expect_refused.h"
#include "support/plan_batches.h"

// Groups that have only the live ranks of a placement.
namespace lplb {
namespace {

using testing::draw_live_batch;
using ::testing::ElementsAre;
using testing::expect_refused;
using testing::GroupBatch;
using testing::live_ranks;
using testing::live_rows;
using testing::SplitMix64;

PlannerOptions with_staleness(Index staleness = 0) {
  PlannerOptions made;
  made.max_tokens = 200;
  made.num_topk = 2;
  made.staleness = staleness;
  return made;
}

/// Three ranks that have all experts.
Placement three_ranks(std::vector<char> alive) {
  const std::vector<Index> map = {0, 1, 2, 0, 1, 2, 0, 1, 2};
  return make_placement(3, 3, map, {.rank_alive = std::move(alive)});
}

// Each survivor plans what it would plan in a group of all ranks whose dead ranks have no tokens.
TEST(Survivors, PlanAsTheWholeGroup) {
  SplitMix64 random(31);
  int moved = 0;
  for (int repeat = 0; repeat < 60; ++repeat) {
    const Placement p = testing::random_with_dead(random, 12);
    const std::vector<Index> live = live_ranks(p);
    const Index member = random.below(static_cast<Index>(live.size()));
    const Index rank = live[static_cast<std::size_t>(member)];
    moved += member != rank ? 1 : 0;
    for (const Index staleness : {0, 1}) {
      auto some = std::make_shared<GivenCounts>(static_cast<Index>(live.size()), member);
      auto all = std::make_shared<GivenCounts>(p.num_ranks, rank);
      Planner survivor(p, rank, with_staleness(staleness), some);
      Planner whole(p, rank, with_staleness(staleness), all);
      GroupBatch before;
      for (int i = 0; i < 3; ++i) {
        const GroupBatch batch = draw_live_batch(p, {.num_topk = 2, .max_tokens = 200}, random);
        const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
        const GroupBatch& split_by = staleness == 0 ? batch : before;
        if (!split_by.counts.empty()) {
          some->set(live_rows(p, split_by.counts), p.num_logical_experts);
          all->set(split_by.counts, p.num_logical_experts);
        }
        std::vector<std::int64_t> got(topk.size()), want(topk.size());
        const BatchStatus status = survivor.run(topk, got);
        ASSERT_EQ(status, whole.run(topk, want));
        ASSERT_EQ(got, want) << "repeat " << repeat << ", rank " << rank << ", batch " << i;
        if (status == BatchStatus::kOptimal) {
          EXPECT_EQ(survivor.last_split().rank_load, whole.last_split().rank_load);
          EXPECT_EQ(survivor.last_split().physical_load, whole.last_split().physical_load);
          const std::span<const Load> counts = survivor.last_counts();
          EXPECT_EQ(std::vector<Load>(counts.begin(), counts.end()),
                    std::vector<Load>(split_by.packed.begin(), split_by.packed.end()));
        }
        before = batch;
      }
      EXPECT_EQ(survivor.stats().optimal, staleness == 0 ? 3 : 2);
    }
  }
  EXPECT_GT(moved, 20);  // the rank's number in the group is another one than in the placement
}

TEST(Survivors, ExchangeInAGroupOfTheirOwn) {
  SplitMix64 random(32);
  for (int repeat = 0; repeat < 10; ++repeat) {
    const Placement p = testing::random_with_dead(random, 6);
    const std::vector<Index> live = live_ranks(p);
    InProcessGroup group(static_cast<Index>(live.size()));
    const GroupBatch batch = draw_live_batch(p, {.num_topk = 2, .max_tokens = 100}, random);
    std::vector<std::vector<std::int64_t>> got(live.size());
    std::vector<std::thread> threads;
    for (std::size_t m = 0; m < live.size(); ++m) {
      threads.emplace_back([&, m] {
        Planner planner(p, live[m], with_staleness(), group.member(static_cast<Index>(m)));
        const auto& topk = batch.topk[static_cast<std::size_t>(live[m])];
        got[m].resize(topk.size());
        EXPECT_EQ(planner.run(topk, got[m]), BatchStatus::kOptimal);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t m = 0; m < live.size(); ++m) {
      auto all = std::make_shared<GivenCounts>(p.num_ranks, live[m]);
      all->set(batch.counts, p.num_logical_experts);
      Planner whole(p, live[m], with_staleness(), all);
      const auto& topk = batch.topk[static_cast<std::size_t>(live[m])];
      std::vector<std::int64_t> want(topk.size());
      whole.run(topk, want);
      EXPECT_EQ(got[m], want) << "rank " << live[m];
    }
  }
}

TEST(Survivors, MustBeTheLiveRanksOfThePlacement) {
  const Placement p = three_ranks({1, 0, 1});
  const auto with = [](const Placement& placement, Index rank, Index size, Index member) {
    return [=] {
      Planner(placement, rank, with_staleness(), std::make_shared<GivenCounts>(size, member));
    };
  };
  with(p, 2, 2, 1)();
  with(p, 1, 3, 1)();  // in a group of all ranks a dead rank may call
  expect_refused(with(p, 0, 1, 0),
                 "exchange: 1 ranks, expected those of the placement (3) or its live ones (2)");
  expect_refused(with(three_ranks({}), 0, 2, 0),
                 "exchange: 2 ranks, expected those of the placement (3)");
  expect_refused(with(p, 1, 2, 1), "rank: 1 is dead, expected a live one");
  expect_refused(with(p, 2, 2, 0), "exchange: is that of rank 0, expected 1");
}

TEST(Survivors, StayTheSameInANewPlacement) {
  auto given = std::make_shared<GivenCounts>(2, 1);
  Planner planner(three_ranks({1, 0, 1}), 2, with_staleness(), given);
  const auto refused = [&](std::vector<char> alive, const char* why) {
    expect_refused([&] { planner.update_placement(three_ranks(alive)); }, why);
  };
  refused({0, 0, 1}, "placement: has 1 live ranks, expected as many as the group has members (2)");
  refused({}, "placement: has 3 live ranks, expected as many as the group has members (2)");
  refused({0, 1, 1}, "placement: rank 0 is dead, expected the live ranks of the first");

  const std::vector<Index> turned = {1, 2, 0, 1, 2, 0, 1, 2, 0};
  planner.update_placement(make_placement(3, 3, turned, {.rank_alive = {1, 0, 1}}));
  given->set(std::vector<Load>(6, 0), 3);
  std::vector<std::int32_t> out(4);
  planner.run(std::vector<std::int32_t>{0, 0, 0, 0}, out);
  EXPECT_THAT(out, ElementsAre(8, 8, 2, 2));
  // A group of all ranks goes on, whoever has died.
  auto all = std::make_shared<GivenCounts>(3, 2);
  Planner whole(three_ranks({1, 0, 1}), 2, with_staleness(), all);
  whole.update_placement(three_ranks({0, 0, 1}));
  EXPECT_EQ(whole.placement().alive(0), false);
}

}  // namespace
}  // namespace lplb
