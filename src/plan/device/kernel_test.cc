// SPDX-License-Identifier: MIT
#include "plan/device/kernel_test_support.h"

// The plan's kernel on the CPU, compared with solve() and map_tokens().
namespace lplb {
namespace {

using testing::draw_batch;
using testing::EmulatedGroup;
using testing::EmulatedPlanner;
using testing::GroupBatch;
using testing::map_on_cpu;
using testing::SplitMix64;

TEST(EmulatedPlan, EqualsCpuOnRandomGroups) {
  SplitMix64 random(1);
  for (int i = 0; i < 9; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 20);
    const Index rank = random.below(p.num_ranks);
    const Index num_topk = 1 + random.below(4);
    const GroupBatch batch =
        draw_batch(p, {.num_topk = num_topk, .max_tokens = i % 3 == 0 ? 2000 : 60}, random);
    const std::vector<std::int64_t>& topk = batch.topk[static_cast<std::size_t>(rank)];
    const auto tokens = static_cast<int>(topk.size()) / num_topk;
    const int valid = i % 3 == 1 ? tokens / 2 : tokens;
    const std::span entries = std::span(topk).first(static_cast<std::size_t>(valid * num_topk));
    const auto experts = static_cast<std::size_t>(p.num_logical_experts);
    std::vector<Load> counts = batch.counts;
    count_tokens(entries,
                 std::span(counts).subspan(static_cast<std::size_t>(rank) * experts, experts));
    const auto want = map_on_cpu(p, rank, counts, topk, entries.size());

    EmulatedPlanner planner(p, rank, i < 6 ? 1 : 2, 4);
    planner.give(batch.packed.data());
    planner.set<std::int32_t>(topk, num_topk, valid);
    ASSERT_EQ(planner.run_alone(), want) << i;
    planner.set<std::int64_t>(topk, num_topk, valid);
    ASSERT_EQ(planner.run_alone(), want) << i;
    // If all ranks have the same tokens, all map them as if only rank 0 had any.
    planner.give(nullptr);
    planner.set<std::int32_t>(topk, num_topk, valid);
    std::vector<Load> alone(counts.size(), 0);
    count_tokens(entries, std::span(alone).first(experts));
    ASSERT_EQ(planner.run_alone(), map_on_cpu(p, 0, alone, topk, entries.size())) << i;
    EXPECT_EQ(planner.status().batches, 3u);
    EXPECT_EQ(planner.status().optimal, 3u);
  }
}

TEST(EmulatedPlan, RanksThatExchangePlanAsOne) {
  for (const int num_blocks : {1, 2}) {
    SplitMix64 random(7);
    Placement p = testing::random_placement(random, 3);
    while (p.num_ranks < 2 || PackedLayout(p).replicated.empty()) {
      p = testing::random_placement(random, 3);
    }
    std::vector<Index> all(static_cast<std::size_t>(p.num_ranks));
    std::iota(all.begin(), all.end(), 0);
    EmulatedGroup group(p, num_blocks);
    for (int round = 0; round < 4; ++round) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 900}, random);
      for (const Index g : all) {
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      }
      group.run(all);
      for (const Index g : all) {
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        ASSERT_EQ(group.planner(g).result(), map_on_cpu(p, g, batch.counts, topk, topk.size()))
            << "round " << round << ", rank " << g << ", " << num_blocks << " blocks";
        ASSERT_EQ(group.planner(g).status().optimal, static_cast<unsigned>(round) + 1);
      }
    }
  }
}

TEST(EmulatedPlan, ARankThatStaysAwayIsGivenUp) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  for (const int num_blocks : {1, 2}) {
    EmulatedGroup group(p, num_blocks);
    const std::vector<std::int64_t> topk = {0, 0, 0, 0, 1, 2, 0, 0};
    const auto set = [&](Index g) { group.planner(g).set<std::int32_t>(topk, 1, 8); };
    group.set_deadline(std::chrono::milliseconds(20));
    set(0);
    group.run({0});
    EXPECT_EQ(group.planner(0).status().lost, 1u);
    EXPECT_EQ(group.planner(0).status().degraded, 1u);
    for (const std::int64_t id : group.planner(0).result()) EXPECT_GE(id, 0);
    // The late rank lacks nothing, because rank 0 had sent its counts.
    group.set_deadline(std::chrono::minutes(2));
    set(1);
    group.run({1});
    EXPECT_EQ(group.planner(1).status().solved, 1u);
    set(0);
    set(1);
    group.run({0, 1});
    EXPECT_EQ(group.planner(0).status().solved, 1u);
    EXPECT_EQ(group.planner(1).status().solved, 2u);
    EXPECT_EQ(group.planner(0).status().last_total, 16);
    EXPECT_EQ(group.planner(1).status().last_total, 16);
  }
}

TEST(EmulatedPlan, WithStalenessEqualsTheMapInProportion) {
  SplitMix64 random(21);
  for (int i = 0; i < 6; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 20);
    const Index rank = random.below(p.num_ranks);
    EmulatedPlanner planner(p, rank, i < 4 ? 1 : 2, 4);
    planner.be_stale();
    const auto run = [&](const GroupBatch& batch) {
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      planner.set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      std::vector<std::int64_t> mapped = planner.run_alone();
      const std::size_t size = planner.packed().size();
      const auto row = std::span(batch.packed).subspan(static_cast<std::size_t>(rank) * size, size);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), planner.packed().begin()));
      return mapped;
    };
    GroupBatch last = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
    run(last);
    EXPECT_EQ(planner.status().unplanned, 1u);
    EXPECT_EQ(planner.status().last_outcome, plan::kUnplanned);
    for (int round = 0; round < 2; ++round) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      planner.give(last.packed.data());
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      ASSERT_EQ(run(batch), testing::map_stale(p, last.counts, rank, topk)) << i;
      last = batch;
    }
    EXPECT_EQ(planner.status().optimal, 2u);
    EXPECT_EQ(planner.status().degraded, 0u);
    // Impossible counts of any rank are refused, even if they are this rank's own.
    std::vector<std::int32_t> broken = last.packed;
    broken[static_cast<std::size_t>(rank) * planner.packed().size()] = -1;
    planner.give(broken.data());
    run(last);
    EXPECT_EQ(planner.status().bad_counts, 1u);
    EXPECT_EQ(planner.status().last_outcome, plan::kDegraded);
  }
}

// The ranks run one after another. No rank waits for one that is less than a batch behind.
TEST(EmulatedPlan, RanksThatExchangeLateDoNotWaitWithinABatch) {
  const auto placed = [](std::vector<Index> map) { return make_placement(3, 6, map); };
  const Placement first = placed({0, 1, 2, 2, 3, 4, 4, 5, 0});
  const Placement moved = placed({0, 2, 1, 2, 3, 4, 4, 5, 0});  // the same layout
  const Placement other = placed({0, 1, 3, 2, 3, 4, 4, 5, 2});  // another
  for (const int num_blocks : {1, 2}) {
    SplitMix64 random(22);
    EmulatedGroup group(first, num_blocks);
    for (Index g = 0; g < 3; ++g) group.planner(g).be_stale();
    GroupBatch last;
    Placement p = first;
    unsigned solved = 0;
    for (int round = 0; round < 7; ++round) {
      const bool starts = round == 0 || round == 5;
      if (round == 3 || round == 5) {
        p = round == 3 ? moved : other;
        for (Index g = 0; g < 3; ++g) group.planner(g).update(p);
      }
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      solved += starts ? 0 : 1;
      for (Index i = 0; i < 3; ++i) {
        const Index g = (round + i) % 3;
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
        group.run({g});
        ASSERT_EQ(group.planner(g).status().optimal, solved) << "round " << round;
        if (starts) continue;
        ASSERT_EQ(group.planner(g).result(), testing::map_stale(p, last.counts, g, topk))
            << "round " << round << ", rank " << g << ", " << num_blocks << " blocks";
      }
      last = batch;
    }
    EXPECT_EQ(group.planner(0).status().unplanned, 2u);
    EXPECT_EQ(group.planner(0).status().lost, 0u);
  }
}

// There are more peers than a block has warps, and each has more lines than a warp has lanes. With
// staleness, so that the ranks need not run at the same time.
TEST(EmulatedPlan, AWarpGathersFromSeveralPeers) {
  constexpr Index kRanks = 20;
  static_assert(kRanks > plan::kWarps + 1);
  std::vector<Index> map;
  for (Index g = 0; g < kRanks; ++g) {
    for (Index e = 0; e < 5; ++e) map.push_back(g * 5 + e);
    for (Index e = 0; e < 4; ++e) map.push_back((g + 1) % kRanks * 5 + e);
  }
  const Placement p = make_placement(kRanks, 5 * kRanks, map);
  ASSERT_GT(PackedLayout(p).size(), 2 * device::kWarpSize);
  SplitMix64 random(23);
  EmulatedGroup group(p, 1);
  for (Index g = 0; g < kRanks; ++g) group.planner(g).be_stale();
  GroupBatch last;
  for (unsigned round = 0; round < 3; ++round) {
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 100}, random);
    for (Index g = 0; g < kRanks; ++g) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      group.run({g});
      ASSERT_EQ(group.planner(g).status().optimal, round);
      if (round == 0) continue;
      ASSERT_EQ(group.planner(g).result(), testing::map_stale(p, last.counts, g, topk)) << g;
    }
    last = batch;
  }
}

// The rank stays away, so that its counts do not come in time. The next batches of the other rank
// go on without them.
TEST(EmulatedPlan, ARankThatIsLateByABatchIsGivenUp) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  EmulatedGroup group(p, 2);
  const std::vector<std::int64_t> topk = {0, 0, 0, 0, 1, 2, 0, 0};
  const auto run = [&](std::vector<Index> in) {
    for (const Index g : in) group.planner(g).set<std::int32_t>(topk, 1, 8);
    group.run(in);
  };
  for (const Index g : {0, 1}) group.planner(g).be_stale();
  run({0});
  group.set_deadline(std::chrono::milliseconds(20));
  run({0});
  run({0});
  EXPECT_EQ(group.planner(0).status().unplanned, 1u);
  EXPECT_EQ(group.planner(0).status().lost, 2u);
  EXPECT_EQ(group.planner(0).status().degraded, 2u);
  group.set_deadline(std::chrono::minutes(2));
  run({1});  // the first batch of rank 1
  run({1});  // it needs a round that rank 0 has given up and overwritten
  EXPECT_EQ(group.planner(1).status().lost, 1u);
  run({1});
  EXPECT_EQ(group.planner(1).status().solved, 1u);
  run({0, 1});
  EXPECT_EQ(group.planner(0).status().solved, 1u);
  EXPECT_EQ(group.planner(1).status().solved, 2u);
  EXPECT_EQ(group.planner(0).status().last_total, 16);
}

}  // namespace
}  // namespace lplb
