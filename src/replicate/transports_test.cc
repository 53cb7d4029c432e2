// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lplb/replicate.h"
#include "support/expect_refused.h"
#include "support/instances.h"

// Copies in the forms that others' transports take.
namespace lplb {
namespace {

using ::testing::ElementsAre;
using testing::expect_refused;

/// Ranks 0 and 1 with experts 3 2 1 0, ranks 2 and 3 with 7 6 5 4: two domains, two slots a rank.
Placement four_ranks() { return make_placement(4, 8, std::vector<Index>{3, 2, 1, 0, 7, 6, 5, 4}); }

TEST(CopyTransports, NumberSlotsWithinADomain) {
  const std::vector<Load> load = {10, 0, 60, 30, 0, 0, 0, 0};
  const Replication one = replicate(four_ranks(), load, {.dynamic_slots = 2});
  ASSERT_THAT(one.slot_expert, ElementsAre(-1, -1, 3, -1, 2, -1, 2, -1));
  // Expert 2 is in main slot 1 of rank 0, expert 3 in main slot 0.
  EXPECT_THAT(redundancy_mapping(four_ranks(), one), ElementsAre(-1, -1, 0, -1, 1, -1, 1, -1));
  EXPECT_THAT(experts_to_copy(one, 4, 2), ElementsAre(-1, -1, 3, -1, 2, -1, 2, -1));
  EXPECT_THAT(experts_to_copy(one, 4, 3), ElementsAre(-1, -1, -1, 3, -1, -1, 2, -1, -1, 2, -1, -1));

  // The same load on the experts of the second domain: its ranks are numbered from 0.
  const std::vector<Load> other = {0, 0, 0, 0, 10, 0, 60, 30};
  const Replication two = replicate(four_ranks(), other, {.num_domains = 2});
  ASSERT_THAT(two.slot_expert, ElementsAre(-1, -1, -1, 6));
  EXPECT_THAT(two.slot_source, ElementsAre(-1, -1, -1, 2));
  EXPECT_THAT(redundancy_mapping(four_ranks(), two, 2), ElementsAre(-1, -1, -1, 1));
  EXPECT_THAT(redundancy_mapping(four_ranks(), two), ElementsAre(-1, -1, -1, 2 * 2 + 1));
}

/// An entry leads back to a main slot of another rank of the domain, which has the expert.
TEST(CopyTransports, EntriesLeadToTheExpert) {
  testing::SplitMix64 random(7);
  int copies = 0;
  for (int repeat = 0; repeat < 100; ++repeat) {
    testing::RandomLimits limits;
    limits.max_ranks = 12;
    const testing::Instance instance = testing::random_instance(random.next(), limits);
    const Placement& p = instance.placement;
    const Index domains = p.num_ranks % 2 == 0 ? 1 + random.below(2) : 1;
    const ReplicateOptions how{.dynamic_slots = 1 + random.below(3), .num_domains = domains};
    const Replication plan = replicate(p, instance.load, how);
    const auto mapping = redundancy_mapping(p, plan, domains);
    ASSERT_EQ(mapping.size(), plan.slot_expert.size());
    for (std::size_t i = 0; i < mapping.size(); ++i) {
      ASSERT_EQ(mapping[i] < 0, plan.slot_expert[i] < 0);
      if (mapping[i] < 0) continue;
      ++copies;
      const Index rank = static_cast<Index>(i) / how.dynamic_slots;
      const Index domain_slots = p.num_physical() / domains;
      const Index slot = rank / (p.num_ranks / domains) * domain_slots + mapping[i];
      ASSERT_LT(mapping[i], domain_slots);
      EXPECT_EQ(p.physical_to_logical[slot], plan.slot_expert[i]);
      EXPECT_EQ(p.rank_of(slot), plan.slot_source[i]);
      EXPECT_NE(p.rank_of(slot), rank);
    }
  }
  EXPECT_GT(copies, 50);
}

TEST(CopyTransports, SayWhatIsWrong) {
  const Placement p = four_ranks();
  const Replication plan = replicate(p, std::vector<Load>{10, 0, 60, 30, 0, 0, 0, 0});
  expect_refused([&] { redundancy_mapping(p, plan, 3); }, "3 does not divide");
  expect_refused([&] { redundancy_mapping(p, plan, 2); }, "expected a rank of its domain");
  expect_refused([&] { redundancy_mapping(p, {}); }, "0 dynamic slots");
  const Placement other = make_placement(4, 8, std::vector<Index>{4, 5, 6, 7, 0, 1, 2, 3});
  expect_refused([&] { redundancy_mapping(other, plan); }, "which it does not have");
  expect_refused([&] { experts_to_copy(plan, 4, 0); }, "0 is less");
  expect_refused([&] { experts_to_copy(plan, 3, 1); }, "3 does not divide");
  expect_refused([&] { experts_to_copy({}, 4, 1); }, "does not divide");
}

}  // namespace
}  // namespace lplb
