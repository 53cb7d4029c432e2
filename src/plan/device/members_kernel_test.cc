// SPDX-License-Identifier: MIT
#include "plan/device/kernel_test_support.h"

// The plan's kernel on the CPU, in groups that have only the live ranks of a placement.
namespace lplb {
namespace {

using testing::EmulatedGroup;
using testing::EmulatedPlanner;
using testing::GroupBatch;
using testing::map_on_cpu;
using testing::SplitMix64;

// The group has only the live ranks. Each of them plans as if the dead ranks had called with no
// tokens.
TEST(EmulatedPlan, SurvivorsPlanAsTheWholeGroup) {
  SplitMix64 random(8);
  for (int repeat = 0; repeat < 4; ++repeat) {
    Placement p = testing::random_with_dead(random, repeat == 3 ? 5 : 4);
    while (testing::live_ranks(p).size() < 2 || PackedLayout(p).replicated.empty()) {
      p = testing::random_with_dead(random, repeat == 3 ? 5 : 4);
    }
    const std::vector<Index> live = testing::live_ranks(p);
    std::vector<Index> members(live.size());
    std::iota(members.begin(), members.end(), 0);
    EmulatedGroup group(p, 1 + repeat % 2, live);
    for (unsigned round = 0; round < 2; ++round) {
      const GroupBatch batch =
          testing::draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      const auto topk = [&](Index member) -> const std::vector<std::int64_t>& {
        return batch.topk[static_cast<std::size_t>(live[static_cast<std::size_t>(member)])];
      };
      for (const Index m : members) {
        group.planner(m).set<std::int32_t>(topk(m), 2, static_cast<int>(topk(m).size() / 2));
      }
      group.run(members);
      for (const Index m : members) {
        const Index g = live[static_cast<std::size_t>(m)];
        ASSERT_EQ(group.planner(m).result(),
                  map_on_cpu(p, g, batch.counts, topk(m), topk(m).size()))
            << "repeat " << repeat << ", rank " << g;
        ASSERT_EQ(group.planner(m).status().optimal, round + 1);
      }
    }
  }
}

// The same with given rows, for more ranks; also with staleness, and with a bad count.
TEST(EmulatedPlan, TakesRowsOfTheSurvivors) {
  SplitMix64 random(9);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const Placement p = testing::random_with_dead(random, repeat % 2 == 0 ? 8 : 20);
    const std::vector<Index> live = testing::live_ranks(p);
    const auto num_members = static_cast<Index>(live.size());
    const Index rank = live[static_cast<std::size_t>(random.below(num_members))];
    for (const bool is_stale : {false, true}) {
      EmulatedPlanner planner(p, rank, 1 + repeat % 2, 4, num_members);
      if (is_stale) planner.be_stale();
      const auto run = [&](const std::vector<std::int64_t>& topk) {
        planner.set<std::int64_t>(topk, 2, static_cast<int>(topk.size() / 2));
        return planner.run_alone();
      };
      const GroupBatch first =
          testing::draw_live_batch(p, {.num_topk = 2, .max_tokens = 200}, random);
      const auto& topk = first.topk[static_cast<std::size_t>(rank)];
      std::vector<std::int32_t> rows = testing::live_rows(p, first.packed);
      if (is_stale) run(topk);
      planner.give(rows.data());
      ASSERT_EQ(run(topk), is_stale ? testing::map_stale(p, first.counts, rank, topk)
                                    : map_on_cpu(p, rank, first.counts, topk, topk.size()))
          << "repeat " << repeat << ", rank " << rank;
      EXPECT_EQ(planner.status().optimal, 1u);
      if (num_members < 2) continue;
      rows[rank == live[0] ? rows.size() - 1 : 0] = -1;
      run(topk);
      EXPECT_EQ(planner.status().bad_counts, 1u);
      // An exchange along a rail that lacks a count gives -1 in place of all counts.
      std::fill(rows.begin(), rows.end(), -1);
      run(topk);
      EXPECT_EQ(planner.status().bad_counts, 2u);
      EXPECT_EQ(planner.status().lost, 0u);
    }
  }
}

}  // namespace
}  // namespace lplb
