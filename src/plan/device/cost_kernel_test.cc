// SPDX-License-Identifier: MIT
#include "plan/device/kernel_test_support.h"
#include "solve/time/test_models.h"

// The plan's kernel with costs on the CPU, compared with solve() and map_tokens().
namespace lplb {
namespace {

using testing::draw_batch;
using testing::EmulatedGroup;
using testing::EmulatedPlanner;
using testing::GroupBatch;
using testing::map_on_cpu;
using testing::packed_rows;
using testing::SplitMix64;

Split split_of(const Placement& p, const std::vector<Load>& counts, const SolveOptions& how) {
  const auto experts = static_cast<std::size_t>(p.num_logical_experts);
  std::vector<Load> sum(experts, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % experts] += counts[i];
  return solve(p, sum, how);
}

/// The planner's figures are those of the CPU's split.
void expect_equal(const plan::Status& status, const Split& split) {
  EXPECT_EQ(status.last_max_cost, split.cost.max);
  EXPECT_EQ(status.last_cost_bound, split.cost.bound);
  EXPECT_EQ(status.last_optimal != 0, split.status == SolveStatus::kOptimal);
  EXPECT_EQ(status.last_max_load, split.max_load);
  EXPECT_EQ(status.last_bound, split.bound_level.tokens);
  EXPECT_EQ(status.last_steps, split.steps);
}

TEST(EmulatedCostPlan, EqualsCpuOnRandomGroups) {
  SplitMix64 random(5);
  int num_optimal = 0;
  int num_moves = 0;
  for (int i = 0; i < 200; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 40);
    const Index rank = random.below(p.num_ranks);
    // Some models have one step that no expert passes, so that batches are decode batches.
    const CostModel model = i % 4 == 0
                                ? CostModel("us", CostTable{9, {100000, 200000}, {5, 7}, 1, 1})
                            : i % 4 == 1 ? testing::staircase_model(testing::kDear)
                                         : testing::random_model(random.next(), p.num_ranks, 200);
    const SolveOptions how{.solver = Solver::kFastTime, .cost = &model};
    const GroupBatch batch =
        draw_batch(p, {.num_topk = 2, .max_tokens = i % 3 == 0 ? 1000 : 60}, random);
    const std::vector<std::int32_t> packed = packed_rows(p, batch.counts, Singles::kEach);
    const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
    EmulatedPlanner planner(p, rank, i % 5 == 0 ? 2 : 1, 4, 0, &model);
    planner.give(packed.data());
    planner.set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
    ASSERT_EQ(planner.run_alone(), map_on_cpu(p, rank, batch.counts, topk, topk.size(), how)) << i;
    const Split split = split_of(p, batch.counts, how);
    expect_equal(planner.status(), split);
    num_optimal += split.status == SolveStatus::kOptimal ? 1 : 0;
    num_moves += static_cast<int>(split.steps);
    ASSERT_FALSE(HasFailure()) << i;
  }
  EXPECT_GT(num_optimal, 40);
  EXPECT_GT(num_moves, 0);
}

/// `num_entries` ids, drawn in proportion to `load`.
std::vector<std::int64_t> draw_like(const std::vector<Load>& load, std::int64_t num_entries,
                                    SplitMix64& random) {
  std::vector<Load> until(load.size());
  std::partial_sum(load.begin(), load.end(), until.begin());
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < num_entries; ++i) {
    const Load at = random.between(1, until.back());
    ids.push_back(std::lower_bound(until.begin(), until.end(), at) - until.begin());
  }
  return ids;
}

// In some batches several ranks are the worst at once, and moves do not help.
TEST(EmulatedCostPlan, EqualsCpuOnTheWorkloads) {
  const CostModel narrow(
      "us", CostTable{32.2, {128, 256, 384, 512}, {30.6, 43.2, 68.1, 68.1}, 256, 35.2});
  const CostModel wide = testing::staircase_model(testing::kDear);
  for (const char* name : {"cube8x2", "EP64+64"}) {
    const testing::Workload workload = testing::make_workload(name, 20);
    const Placement& p = workload.placement;
    const auto experts = static_cast<std::size_t>(p.num_logical_experts);
    for (std::size_t i = 0; i < workload.loads.size(); ++i) {
      const CostModel& model = i % 4 == 3 ? wide : narrow;
      const SolveOptions how{.solver = Solver::kFastTime, .cost = &model};
      const int tokens = i % 6 == 0 ? 8 : i % 6 == 1 ? 500 : 128;
      SplitMix64 random(i);
      std::vector<std::int64_t> topk;
      std::vector<Load> counts;
      for (Index g = 0; g < p.num_ranks; ++g) {
        const auto ids = draw_like(workload.loads[i], 8 * tokens, random);
        if (g == 0) topk = ids;
        counts.resize(counts.size() + experts, 0);
        count_tokens(ids, std::span(counts).last(experts));
      }
      const std::vector<std::int32_t> packed = packed_rows(p, counts, Singles::kEach);
      EmulatedPlanner planner(p, 0, 1, 8, 0, &model);
      planner.give(packed.data());
      planner.set<std::int64_t>(topk, 8, tokens);
      ASSERT_EQ(planner.run_alone(), map_on_cpu(p, 0, counts, topk, topk.size(), how))
          << name << " " << i;
      expect_equal(planner.status(), split_of(p, counts, how));
      ASSERT_FALSE(HasFailure()) << name << " " << i;
    }
  }
}

TEST(EmulatedCostPlan, RanksThatExchangePlanAsOne) {
  const CostModel model("us", CostTable{3, {8, 20}, {4, 7}, 16, 5});
  const SolveOptions how{.solver = Solver::kFastTime, .cost = &model};
  SplitMix64 random(7);
  Placement p = testing::random_placement(random, 4);
  while (p.num_ranks < 3 || PackedLayout(p).replicated.empty()) {
    p = testing::random_placement(random, 4);
  }
  std::vector<Index> all(static_cast<std::size_t>(p.num_ranks));
  std::iota(all.begin(), all.end(), 0);
  EmulatedGroup group(p, 1, all, &model);
  for (int round = 0; round < 4; ++round) {
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 90}, random);
    for (const Index g : all) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
    }
    group.run(all);
    for (const Index g : all) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      ASSERT_EQ(group.planner(g).result(), map_on_cpu(p, g, batch.counts, topk, topk.size(), how))
          << "round " << round << ", rank " << g;
      expect_equal(group.planner(g).status(), split_of(p, batch.counts, how));
    }
  }
}

}  // namespace
}  // namespace lplb
