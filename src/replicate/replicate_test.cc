// SPDX-License-Identifier: MIT
#include "lplb/replicate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "support/expect_refused.h"
#include "support/instances.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

/// Experts 0 to num_logical - 1, cut into equal parts, one for each rank.
Placement homes(Index num_ranks, Index num_logical, const PlacementOptions& options = {}) {
  std::vector<Index> map(static_cast<std::size_t>(num_logical));
  std::iota(map.begin(), map.end(), 0);
  return make_placement(num_ranks, num_logical, map, options);
}

/// A result that has passed its check.
Replication checked(const Placement& placement, const std::vector<Load>& load,
                    const ReplicateOptions& options = {}) {
  Replication result = replicate(placement, load, options);
  EXPECT_EQ(verify_replication(placement, load, options, result), "");
  return result;
}

TEST(Replicate, ExampleOfThePage) {
  // Rank 0 has 90 tokens, rank 1 has 30, rank 2 has 0.
  const Replication r = checked(homes(3, 6), {60, 30, 20, 10, 0, 0});
  EXPECT_EQ(r.status, SolveStatus::kOptimal);
  EXPECT_EQ(r.max_level.tokens, 40);
  EXPECT_EQ(r.lower_bound, 40);
  EXPECT_THAT(r.rank_load, ElementsAre(40, 40, 40));
  EXPECT_THAT(r.slot_expert, ElementsAre(-1, 1, 0));
  EXPECT_THAT(r.slot_source, ElementsAre(-1, 0, 0));
  EXPECT_THAT(r.physical_load, ElementsAre(20, 20, 0, 20, 10, 10, 0, 0, 40));
  EXPECT_EQ(r.copies, 2);
  EXPECT_EQ(r.max_sent, 2);
  EXPECT_EQ(r.max_received, 1);
}

TEST(Replicate, AGiverMayTakeLater) {
  // Rank 2 is empty and needs 40 of the expert of 41. Rank 0 then has room again.
  const Replication r = checked(homes(3, 6), {41, 0, 20, 59, 0, 0});
  EXPECT_EQ(r.max_level.tokens, 40);
  EXPECT_EQ(r.status, SolveStatus::kOptimal);
}

TEST(Replicate, NoCopyIfNothingIsWon) {
  EXPECT_EQ(checked(homes(2, 4), {5, 5, 5, 5}).copies, 0);
  EXPECT_EQ(checked(homes(2, 4), {0, 0, 0, 0}).copies, 0);
  EXPECT_EQ(checked(homes(1, 4), {9, 1, 0, 0}).copies, 0);
  EXPECT_EQ(checked(homes(2, 4), {5, 6, 5, 5}).copies, 0);  // 11 and 10: the mean rounded up
}

TEST(Replicate, FewSlotsBoundTheResult) {
  // Rank 1 is empty and can fetch one of eight equal experts: 70 tokens stay on rank 0.
  const std::vector<Load> load = {10, 10, 10, 10, 10, 10, 10, 10, 0, 0, 0, 0, 0, 0, 0, 0};
  const Replication one = checked(homes(2, 16), load);
  EXPECT_EQ(one.status, SolveStatus::kOptimal);
  EXPECT_EQ(one.max_level.tokens, 70);
  EXPECT_THAT(one.bottleneck_ranks, ElementsAre(0));
  const Replication four = checked(homes(2, 16), load, {.dynamic_slots = 4});
  EXPECT_EQ(four.max_level.tokens, 40);
  EXPECT_THAT(four.bottleneck_ranks, ElementsAre(0, 1));
}

TEST(Replicate, ATargetTakesFewerCopies) {
  const auto workload = lplb::testing::make_workload("EP64+64", 10);
  const Placement placement = homes(64, 256);
  for (const auto& load : workload.loads) {
    const Replication exact = checked(placement, load);
    const Replication near = checked(placement, load, {.target = 1.05});
    const Replication far = checked(placement, load, {.target = 1.5});
    EXPECT_LT(near.copies, exact.copies);
    EXPECT_LT(far.copies, near.copies);
    EXPECT_LE(near.max_load, 1.05 * exact.lower_bound);
    EXPECT_LE(far.max_load, 1.5 * exact.lower_bound);
    EXPECT_EQ(checked(placement, load, {.target = 1000}).copies, 0);
  }
}

TEST(Replicate, CopiesCarryAtLeastMinTokens) {
  const auto workload = lplb::testing::make_workload("EP32+32", 10);
  for (const auto& load : workload.loads) {
    for (const double target : {1.0, 1.1}) {
      for (const Load least : {100, 1024, 8000}) {
        checked(homes(32, 256), load, {.dynamic_slots = 2, .target = target, .min_tokens = least});
      }
    }
  }
  EXPECT_EQ(checked(homes(2, 4), {50, 50, 0, 0}, {.min_tokens = 51}).copies, 0);
  EXPECT_EQ(checked(homes(2, 4), {50, 50, 0, 0}, {.min_tokens = 50}).max_level.tokens, 50);
}

TEST(Replicate, DeadRanksTakeNothing) {
  const Placement placement =
      make_placement(3, 4, std::vector<Index>{0, 1, 2, 3, 0, 3}, {.rank_alive = {1, 1, 0}});
  const Replication r = checked(placement, {80, 0, 20, 0});
  EXPECT_EQ(r.max_level.tokens, 50);
  EXPECT_THAT(r.slot_expert, ElementsAre(-1, 0, -1));
  EXPECT_THAT(r.rank_load, ElementsAre(50, 50, 0));
}

TEST(Replicate, SpeedsCount) {
  const Replication r = checked(homes(2, 4, {.rank_speed = {1, 3}}), {100, 100, 0, 0});
  EXPECT_THAT(r.rank_load, ElementsAre(100, 100));  // one slot: one of the two experts
  const Replication two =
      checked(homes(2, 4, {.rank_speed = {1, 3}}), {100, 100, 0, 0}, {.dynamic_slots = 2});
  EXPECT_THAT(two.rank_load, ElementsAre(50, 150));
  EXPECT_EQ(two.max_load, 50);
}

TEST(Replicate, StaticReplicasComeFirst) {
  // Expert 0 is on both ranks, so no copy is needed.
  const Placement placement = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  const Replication r = checked(placement, {100, 20, 0});
  EXPECT_EQ(r.max_level.tokens, 60);
  EXPECT_EQ(r.copies, 0);
}

TEST(Replicate, CopiesStayInTheirDomain) {
  // Domain 0 has all the load. Nothing can leave it, but its two ranks share.
  const Replication r = checked(homes(4, 4), {100, 0, 0, 0}, {.num_domains = 2});
  EXPECT_EQ(r.status, SolveStatus::kOptimal);
  EXPECT_THAT(r.rank_load, ElementsAre(50, 50, 0, 0));
  EXPECT_THAT(r.bottleneck_ranks, ElementsAre(0, 1));
  // With a static replica in domain 1, the exact split between the domains comes first.
  const Placement across = make_placement(4, 4, std::vector<Index>{0, 1, 1, 2, 0, 3, 3, 2});
  const Replication two = checked(across, {100, 0, 0, 0}, {.num_domains = 2});
  EXPECT_THAT(two.rank_load, ElementsAre(25, 25, 25, 25));
}

TEST(Replicate, AnyPlacementPassesItsCheck) {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    const auto instance = lplb::testing::random_instance(seed);
    lplb::testing::SplitMix64 random(seed);
    ReplicateOptions options;
    options.dynamic_slots = 1 + random.below(3);
    options.target = random.below(2) == 0 ? 1 : 1.1;
    options.min_tokens = random.below(3) == 0 ? 20 : 1;
    for (Index d = 1; d <= instance.placement.num_ranks; ++d) {
      if (instance.placement.num_ranks % d != 0) continue;
      options.num_domains = d;
      const Replication r = replicate(instance.placement, instance.load, options);
      ASSERT_EQ(verify_replication(instance.placement, instance.load, options, r), "")
          << instance.name << ", " << d << " domains";
      // Never worse than the best split without copies.
      EXPECT_LE(r.max_load, solve(instance.placement, instance.load).max_load * (1 + 1e-15))
          << instance.name << ", " << d << " domains";
    }
  }
}

TEST(Replicate, LargeLoadsDoNotOverflow) {
  constexpr Load kMax = std::numeric_limits<Load>::max();
  const Replication r = checked(homes(4, 4), {kMax - 3, 1, 1, 1});
  EXPECT_EQ(r.max_level.tokens, kMax / 4 + 1);
  EXPECT_EQ(checked(homes(4, 4), {kMax, 0, 0, 0}, {.target = 1.4}).max_level.tokens, kMax / 3 + 1);
}

TEST(Replicate, EqualInputGivesEqualOutput) {
  const auto workload = lplb::testing::make_workload("EP32+32", 4);
  Replicator used(workload.placement);
  Replication r;
  for (const auto& load : workload.loads) {
    used.run(load, r);
    const Replication fresh = replicate(workload.placement, load);
    EXPECT_EQ(r.slot_expert, fresh.slot_expert);
    EXPECT_EQ(r.physical_load, fresh.physical_load);
  }
}

TEST(Replicate, CopiesThatCostMoreThanTheyWinAreNotMade) {
  const Placement placement = homes(2, 4);
  const std::vector<Load> load = {1000, 1000, 0, 0};
  // 1000 tokens fewer on the slowest rank, at 0.1 us each, against 44 MB at 400 GB/s: 110 us.
  ReplicateOptions options;
  options.cost = {.us_per_token = 0.1, .expert_bytes = 44e6, .gigabytes_per_s = 400};
  EXPECT_EQ(checked(placement, load, options).copies, 0);
  options.cost.hidden_us = 20;
  const Replication hidden = checked(placement, load, options);
  EXPECT_EQ(hidden.copies, 1);
  EXPECT_DOUBLE_EQ(hidden.saved_us, 100);
  EXPECT_DOUBLE_EQ(hidden.exposed_us, 90);
  options.cost.hidden_us = 0;
  options.cost.us_per_token = 0.2;
  EXPECT_EQ(checked(placement, load, options).copies, 1);
}

TEST(Replicate, TheCheapestOfSeveralTargetsIsTaken) {
  const auto workload = lplb::testing::make_workload("EP32+32", 5);
  const Placement placement = homes(32, 256);
  for (const auto& load : workload.loads) {
    ReplicateOptions options;
    options.cost = {.us_per_token = 0.05, .expert_bytes = 44e6, .gigabytes_per_s = 400};
    const Replication r = checked(placement, load, options);
    EXPECT_GE(r.saved_us, r.exposed_us);
    EXPECT_GT(r.copies, 0);
    EXPECT_LT(r.copies, checked(placement, load).copies);
  }
}

TEST(Replicate, RefusesBadArguments) {
  using lplb::testing::expect_refused;
  const Placement p = homes(4, 8);
  const std::vector<Load> load(8, 1);
  const auto with = [&](const ReplicateOptions& options) {
    return [&p, &load, options] { replicate(p, load, options); };
  };
  expect_refused(with({.dynamic_slots = 0}), "dynamic_slots: 0 is not between 1 and 8");
  expect_refused(with({.dynamic_slots = 9}), "dynamic_slots: 9 is not between 1 and 8");
  expect_refused(with({.target = 0.99}), "target: 0.99 is not between 1 and 1000");
  expect_refused(with({.target = std::numeric_limits<double>::quiet_NaN()}), "target: nan");
  expect_refused(with({.min_tokens = 0}), "min_tokens: 0 is not >= 1");
  expect_refused(with({.num_domains = 3}), "num_domains: 3 does not divide num_ranks (4)");
  expect_refused(with({.cost = {.us_per_token = -1}}), "cost.us_per_token: -1");
  expect_refused(with({.cost = {.us_per_token = 1}}), "cost.expert_bytes: 0");
  expect_refused([&] { replicate(p, std::vector<Load>(7, 1)); }, "load: has 7 entries");
  expect_refused(
      [&] {
        replicate(p, std::vector<Load>{1, 1, 1, -1, 1, 1, 1, 1});
      },
      "load: expert 3 has load -1");
  expect_refused([&] { replicate(Placement{}, load); }, "placement:");
  expect_refused([&] { replicate(homes(1024, 4096), std::vector<Load>(4096, 1)); },
                 "dynamic_slots: 1 on each of 1024 ranks make 5120 slots");
}

}  // namespace
}  // namespace lplb
