// SPDX-License-Identifier: MIT
#include "core/extended.h"
#include "plan/device/kernel_test_support.h"

// The plan's kernel with dynamic slots on the CPU, compared with Replicator and map_tokens().
namespace lplb {
namespace {

using testing::BatchShape;
using testing::draw_batch;
using testing::EmulatedPlanner;
using testing::GroupBatch;
using testing::packed_rows;
using testing::SplitMix64;

/// What the batch of a group leads to on the CPU.
struct OnCpu {
  OnCpu(const Placement& p, const std::vector<Load>& counts, const ReplicateOptions& options)
      : whole(extend_placement(p, options.dynamic_slots)), all_counts(counts) {
    const auto experts = static_cast<std::size_t>(p.num_logical_experts);
    std::vector<Load> sum(experts, 0);
    for (std::size_t i = 0; i < counts.size(); ++i) sum[i % experts] += counts[i];
    plan = replicate(p, sum, options);
    fill_dynamic_slots(whole, options.dynamic_slots, plan.slot_expert);
  }

  std::vector<std::int64_t> map(Index rank, std::span<const std::int64_t> topk) const {
    std::vector<std::int64_t> out(topk.size(), -1);
    map_tokens(whole, all_counts, plan.physical_load, rank, topk, std::span(out));
    return out;
  }

  Placement whole;
  std::vector<Load> all_counts;
  Replication plan;
};

/// The tables of write_quotas().
struct Tables {
  Tables(const Placement& p, Index dynamic_slots)
      : columns(plan::most_replicas(p, dynamic_slots)),
        quota_end(static_cast<std::size_t>(p.num_logical_experts * columns), -9),
        source_prefix(static_cast<std::size_t>(p.num_logical_experts), -9),
        alloc(static_cast<std::size_t>(p.num_logical_experts * p.num_ranks), -9),
        replicas(quota_end.size(), -9),
        shares(quota_end.size(), -9) {}
  QuotaOutputs outputs() {
    return {columns,       quota_end.data(), source_prefix.data(), alloc.data(),
            shares.data(), &solved,          replicas.data()};
  }
  bool operator==(const Tables&) const = default;

  Index columns;
  std::vector<std::int32_t> quota_end, source_prefix, alloc, replicas;
  std::vector<float> shares;
  std::int32_t solved = -9;
};

void expect_equal(const EmulatedPlanner& planner, const Replication& plan) {
  EXPECT_EQ(planner.copies(0), plan.slot_expert);
  EXPECT_EQ(planner.copies(1), plan.slot_source);
  EXPECT_EQ(planner.status().last_optimal != 0, plan.status == SolveStatus::kOptimal);
  EXPECT_EQ(planner.status().last_max_load, plan.max_level.tokens);
  EXPECT_EQ(planner.status().last_bound, std::min(plan.max_level.tokens, plan.bound_level.tokens));
}

TEST(EmulatedPlanWithCopies, EqualsCpuOnRandomGroups) {
  SplitMix64 random(3);
  Index copies = 0;
  Index copies_in_domains = 0;
  for (int i = 0; i < 150; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : i % 7 == 1 ? 70 : 20);
    const Index rank = random.below(p.num_ranks);
    ReplicateOptions options{.dynamic_slots = 1 + random.below(i % 3 == 0 ? 3 : 1),
                             .target = i % 5 == 0 ? 1.1 : 1};
    if (i % 4 == 3) options.num_domains = testing::draw_divisor(p.num_ranks, 4, random);
    if (i % 5 == 1) {  // a copy costs as much as 15 tokens
      options.cost = {.us_per_token = 1, .expert_bytes = 15e3, .gigabytes_per_s = 1};
    }
    const GroupBatch batch =
        draw_batch(p, {.num_topk = 2, .max_tokens = i % 3 == 0 ? 1000 : 60}, random);
    const std::vector<std::int32_t> packed = packed_rows(p, batch.counts, Singles::kEach);
    const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
    EmulatedPlanner planner(p, rank, i % 4 == 0 ? 2 : 1, 4, 0, nullptr, &options);
    planner.give(packed.data());
    if (i % 3 != 0) planner.keep_split();
    planner.set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
    const OnCpu cpu(p, batch.counts, options);
    ASSERT_EQ(planner.run_alone(), cpu.map(rank, topk)) << i;
    if (i % 3 != 0) {
      const std::vector<Load> rows(packed.begin(), packed.end());
      Tables got(p, options.dynamic_slots), want(p, options.dynamic_slots);
      planner.write_quotas(got.outputs());
      write_quotas(p, PackedLayout(p, Singles::kEach), rows, cpu.plan, rank, want.outputs());
      EXPECT_TRUE(got == want) << i;
    }
    expect_equal(planner, cpu.plan);
    EXPECT_EQ(planner.status().copies, static_cast<unsigned long long>(cpu.plan.copies));
    copies += cpu.plan.copies;
    copies_in_domains += options.num_domains > 1 ? cpu.plan.copies : 0;
    ASSERT_FALSE(HasFailure()) << i;
  }
  EXPECT_GT(copies, 100);
  EXPECT_GT(copies_in_domains, 10);
}

TEST(EmulatedPlanWithCopies, SaysWhichSlotsAreNew) {
  SplitMix64 random(4);
  std::vector<Index> map(16);
  std::iota(map.begin(), map.end(), 0);
  const Placement p = make_placement(4, 16, map);
  const ReplicateOptions options;
  EmulatedPlanner planner(p, 1, 1, 4, 0, nullptr, &options);
  std::vector<std::int32_t> held(4, -1);
  int num_kept = 0;
  for (int i = 0; i < 12; ++i) {
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 200}, random);
    std::vector<std::int32_t> packed = packed_rows(p, batch.counts, Singles::kEach);
    if (i == 7) packed[2] = -1;  // which no rank can have counted: the batch is degraded
    planner.give(packed.data());
    planner.set<std::int64_t>(batch.topk[1], 2, static_cast<int>(batch.topk[1].size() / 2));
    planner.run_alone();
    if (i == 7) {
      EXPECT_EQ(planner.status().degraded, 1u);
      held.assign(4, -1);
      for (int which = 0; which < 2; ++which) EXPECT_EQ(planner.copies(which), held);
      EXPECT_EQ(planner.copies(2), std::vector<std::int32_t>(4, 0));
      continue;
    }
    const OnCpu cpu(p, batch.counts, options);
    expect_equal(planner, cpu.plan);
    for (std::size_t slot = 0; slot < 4; ++slot) {
      const std::int32_t e = cpu.plan.slot_expert[slot];
      EXPECT_EQ(planner.copies(2)[slot], e >= 0 && e != held[slot] ? 1 : 0);
      num_kept += e >= 0 && e == held[slot] ? 1 : 0;
      if (e >= 0) held[slot] = e;
    }
  }
  EXPECT_GT(num_kept, 0);
}

void expect_that_ranks_plan_as_one(Index num_domains) {
  std::vector<Index> map(16);
  std::iota(map.begin(), map.end(), 0);
  const Placement p = make_placement(4, 16, map);
  const ReplicateOptions options{.dynamic_slots = 2, .num_domains = num_domains};
  const std::vector<Index> all = {0, 1, 2, 3};
  testing::EmulatedGroup group(p, 2, all, nullptr, &options);
  SplitMix64 random(8);
  for (int round = 0; round < 4; ++round) {
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 90}, random);
    for (const Index g : all) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
    }
    const OnCpu cpu(p, batch.counts, options);
    if (round < 3) {
      group.run(all);
      for (const Index g : all) {
        ASSERT_EQ(group.planner(g).result(), cpu.map(g, batch.topk[static_cast<std::size_t>(g)]))
            << "round " << round << ", rank " << g;
        expect_equal(group.planner(g), cpu.plan);
      }
      continue;
    }
    // Rank 3 does not come: the others lose the round, and use no dynamic slot.
    group.set_deadline(std::chrono::milliseconds(50));
    group.run({0, 1, 2});
    for (const Index g : {0, 1, 2}) {
      EXPECT_EQ(group.planner(g).status().lost, 1u);
      EXPECT_EQ(group.planner(g).copies(0), std::vector<std::int32_t>(8, -1));
      for (const std::int64_t physical : group.planner(g).result()) EXPECT_LT(physical % 6, 4);
    }
  }
}

TEST(EmulatedPlanWithCopies, RanksThatExchangePlanAsOne) { expect_that_ranks_plan_as_one(1); }
TEST(EmulatedPlanWithCopies, RanksOfTwoDomainsPlanAsOne) { expect_that_ranks_plan_as_one(2); }

TEST(EmulatedPlanWithCopies, DegradedBatchesUseNoDynamicSlot) {
  std::vector<Index> map(16);
  std::iota(map.begin(), map.end(), 0);
  const Placement p = make_placement(4, 16, map);
  const ReplicateOptions options{.dynamic_slots = 2};
  EmulatedPlanner planner(p, 0, 1, 4, 0, nullptr, &options);
  std::vector<std::int32_t> packed(64, 0);
  packed[16] = -1;
  planner.give(packed.data());
  const std::vector<std::int64_t> topk = {3, 3, 15, 4};
  planner.set<std::int64_t>(topk, 2, 2);
  // Rank g has main slots 6 g to 6 g + 3.
  planner.keep_split();
  EXPECT_EQ(planner.run_alone(), (std::vector<std::int64_t>{3, 3, 21, 6}));
  EXPECT_EQ(planner.status().degraded, 1u);
  Tables got(p, 2), want(p, 2);
  planner.write_quotas(got.outputs());
  std::vector<Load> own(16, 0);
  own[3] = 2;
  own[15] = own[4] = 1;
  Replication none;
  none.slot_expert.assign(8, -1);
  none.physical_load.assign(24, 0);
  write_even_quotas(p, PackedLayout(p, Singles::kEach), own, none, 0, want.outputs());
  EXPECT_TRUE(got == want);
}

}  // namespace
}  // namespace lplb
