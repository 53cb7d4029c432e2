// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lplb/planner.h"
#include "solve/time/test_models.h"
#include "support/allocations.h"
#include "support/expect_refused.h"
#include "support/plan_batches.h"

// Planner with costs.
namespace lplb {
namespace {

using testing::draw_batch;
using ::testing::Each;
using testing::expect_refused;
using testing::GroupBatch;
using testing::num_allocations;
using testing::SplitMix64;

PlannerOptions options_of(const CostModel& model, std::int64_t max_tokens, Index num_topk) {
  PlannerOptions options;
  options.max_tokens = max_tokens;
  options.num_topk = num_topk;
  options.cost = model;
  return options;
}

TEST(CostPlanner, SplitsAsSolveDoes) {
  SplitMix64 random(3);
  for (int i = 0; i < 200; ++i) {
    SCOPED_TRACE(i);
    const testing::Instance instance = testing::random_instance(random.next());
    const Placement& p = instance.placement;
    const CostModel model = testing::random_model(random.next(), p.num_ranks, 200);
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 100}, random);
    const Index rank = random.below(p.num_ranks);
    auto given = std::make_shared<GivenCounts>(p.num_ranks, rank);
    given->set(batch.counts, p.num_logical_experts);
    PlannerOptions options = options_of(model, 100, 2);
    if (i % 3 == 0) options.solve.solver = Solver::kTime;
    Planner planner(p, rank, options, given);
    const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
    std::vector<std::int64_t> out(topk.size()), want(topk.size());
    const BatchStatus status = planner.run(topk, out);

    std::vector<Load> load(static_cast<std::size_t>(p.num_logical_experts), 0);
    for (std::size_t j = 0; j < batch.counts.size(); ++j) load[j % load.size()] += batch.counts[j];
    const Solver solver = i % 3 == 0 ? Solver::kTime : Solver::kFastTime;
    const Split split = solve(p, load, {.solver = solver, .cost = &model});
    map_tokens(p, batch.counts, split.physical_load, rank, topk, want);
    ASSERT_EQ(out, want);
    EXPECT_EQ(planner.last_split().solver, solver);
    EXPECT_EQ(planner.stats().last_max_cost, split.cost.max_cost);
    EXPECT_EQ(planner.stats().last_cost_lower_bound, split.cost.lower_bound);
    EXPECT_EQ(status == BatchStatus::kOptimal, split.status == SolveStatus::kOptimal);
  }
}

TEST(CostPlanner, ServesDecodeAndPrefill) {
  // Expert 0 is on both ranks. Each begun tile of 128 tokens of an expert takes 10 us.
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  auto given = std::make_shared<GivenCounts>(2, 0);
  given->set(std::vector<Load>(6, 0), 3);
  Planner planner(p, 0, options_of(CostModel("us", CostTable{0, {128}, {10}, 128, 10}), 4096, 1),
                  given);
  // Decode: dividing the expert would make both ranks read its weights.
  std::vector<std::int32_t> ids(40, 0);
  EXPECT_EQ(planner.run(ids, ids), BatchStatus::kOptimal);
  EXPECT_THAT(ids, Each(ids[0]));
  EXPECT_EQ(planner.stats().last_max_cost, 10);
  // Prefill: ten tiles on each rank.
  ids.assign(20 * 128, 0);
  planner.run(ids, ids);
  EXPECT_EQ(planner.stats().last_max_cost, 100);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 10 * 128);
}

TEST(CostPlanner, RunDoesNotAllocate) {
  const testing::Workload workload = testing::make_workload("cube8x2", 3);
  const Placement& p = workload.placement;
  auto given = std::make_shared<GivenCounts>(p.num_ranks, 0);
  given->set(std::vector<Load>(static_cast<std::size_t>(p.num_ranks * p.num_logical_experts), 2),
             p.num_logical_experts);
  Planner planner(p, 0, options_of(testing::staircase_model(), 4096, 8), given);
  planner.run(std::span<const std::int32_t>(), {});  // GivenCounts allocates once
  SplitMix64 random(1);
  for (const std::size_t tokens : {16, 4096, 64, 2048}) {
    std::vector<std::int32_t> ids(tokens * 8);
    for (std::int32_t& id : ids) {
      id = random.below(1 + random.below(p.num_logical_experts));
    }
    const std::int64_t before = num_allocations();
    planner.run(ids, ids);
    EXPECT_EQ(num_allocations() - before, 0) << tokens << " tokens";
  }
  EXPECT_EQ(planner.stats().solved, 5);
}

TEST(CostPlanner, RefusesWhatDoesNotFit) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  const CostModel model = weights_only_model();
  const auto make = [&](const PlannerOptions& options) {
    Planner(p, 0, options, std::make_shared<GivenCounts>(2, 0));
  };
  PlannerOptions options = options_of(model, 10, 1);
  options.solve.solver = Solver::kFlow;
  expect_refused([&] { make(options); }, "\"flow\" takes no cost model");
  options = options_of(CostModel("us", std::vector<CostTable>(3, model.tables()[0])), 10, 1);
  expect_refused([&] { make(options); }, "has tables for 3 ranks");
  options = PlannerOptions{.max_tokens = 10, .solve = {.cost = &model}};
  expect_refused([&] { make(options); }, "solve.cost");
  options = PlannerOptions{.max_tokens = 10, .solve = {.solver = Solver::kFastTime}};
  expect_refused([&] { make(options); }, "needs a cost model");
}

}  // namespace
}  // namespace lplb
