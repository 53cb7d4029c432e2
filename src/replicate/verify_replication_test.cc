// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lplb/replicate.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;

/// A check that cannot fail proves nothing, so each test breaks one thing in a good result.
class VerifyReplication : public ::testing::Test {
 protected:
  // Ranks 0 and 1 are a domain, ranks 2 and 3 another one, and rank 3 is dead. Each rank has two
  // main slots and two dynamic ones. Experts 4 and 0 are copied to rank 1.
  const Placement placement = make_placement(4, 5, std::vector<Index>{0, 4, 1, 1, 2, 3, 2, 3},
                                             {.rank_alive = {1, 1, 1, 0}});
  const std::vector<Load> load = {30, 10, 25, 5, 50};
  ReplicateOptions options = {.dynamic_slots = 2, .num_domains = 2};
  Replication result = replicate(placement, load, options);

  std::string verdict() const { return verify_replication(placement, load, options, result); }
  Load& dynamic(Index rank, Index i) { return result.physical_load[rank * 4 + 2 + i]; }
};

TEST_F(VerifyReplication, AcceptsAGoodOne) {
  EXPECT_EQ(verdict(), "");
  EXPECT_EQ(result.slot_expert[2], 4);
  EXPECT_EQ(result.max_level.tokens, 45);
}

TEST_F(VerifyReplication, SeesAnExpertThatTheRankHas) {
  result.slot_expert[2] = 1;
  EXPECT_THAT(verdict(), HasSubstr("dynamic slot 0 of rank 1 has expert 1, as has a main slot"));
}

TEST_F(VerifyReplication, SeesTheSameExpertTwice) {
  result.slot_expert[3] = result.slot_expert[2];
  result.slot_source[3] = result.slot_source[2];
  dynamic(1, 1) = 5;
  EXPECT_THAT(verdict(), HasSubstr("has expert 4 again"));
}

TEST_F(VerifyReplication, SeesUnusedSlotsThatAreUsed) {
  result.slot_expert[2] = -1;
  EXPECT_THAT(verdict(), HasSubstr("is unused, and has source 0"));
  result.slot_source[2] = -1;
  EXPECT_THAT(verdict(), HasSubstr("is unused, and takes"));
}

TEST_F(VerifyReplication, SeesAGapBetweenUsedSlots) {
  std::swap(result.slot_expert[2], result.slot_expert[3]);
  std::swap(result.slot_source[2], result.slot_source[3]);
  std::swap(dynamic(1, 0), dynamic(1, 1));
  EXPECT_THAT(verdict(), HasSubstr("is in use after an unused one"));
}

TEST_F(VerifyReplication, SeesAnExpertThatDoesNotExist) {
  result.slot_expert[2] = 5;
  EXPECT_THAT(verdict(), HasSubstr("has expert 5"));
}

TEST_F(VerifyReplication, SeesACopyOnADeadRank) {
  result.slot_expert[6] = 0;
  EXPECT_THAT(verdict(), HasSubstr("the rank is dead"));
}

TEST_F(VerifyReplication, SeesAWrongSource) {
  result.slot_source[2] = 1;
  EXPECT_THAT(verdict(), HasSubstr("from rank 1, which lacks it"));
  result.slot_source[2] = 9;
  EXPECT_THAT(verdict(), HasSubstr("from rank 9, which lacks it"));
}

TEST_F(VerifyReplication, SeesASourceInAnotherDomain) {
  result.slot_expert[4] = 0;
  result.slot_source[4] = 0;
  dynamic(2, 0) = 1;
  EXPECT_THAT(verdict(), HasSubstr("from rank 0 of another domain"));
}

TEST_F(VerifyReplication, SeesTooFewTokens) {
  options.min_tokens = dynamic(1, 0) + 1;
  EXPECT_THAT(verdict(), HasSubstr("min_tokens is"));
}

TEST_F(VerifyReplication, SeesWrongCounts) {
  for (Index* count : {&result.copies, &result.max_sent, &result.max_received}) {
    ++*count;
    EXPECT_THAT(verdict(), HasSubstr("the slots say"));
    --*count;
  }
}

TEST_F(VerifyReplication, SeesLostTokensAndWrongRankLoads) {
  --result.physical_load[0];
  EXPECT_THAT(verdict(), HasSubstr("expert 0 has load 30, its slots take 29"));
  ++result.physical_load[0];
  ++result.rank_load[1];
  EXPECT_THAT(verdict(), HasSubstr("rank_load says"));
}

TEST_F(VerifyReplication, SeesTokensOnADeadRank) {
  result.physical_load[12] = 1;
  EXPECT_THAT(verdict(), HasSubstr("dead rank 3"));
}

TEST_F(VerifyReplication, SeesAProofThatDoesNotHold) {
  result.bottleneck_ranks = {0};  // a dynamic slot of rank 1 could relieve it
  EXPECT_THAT(verdict(), HasSubstr("tokens below the bound"));
  result.bottleneck_ranks = {3};
  EXPECT_THAT(verdict(), HasSubstr("no live rank"));
  result.bottleneck_ranks = {0, 0};
  EXPECT_THAT(verdict(), HasSubstr("stands twice"));
}

TEST_F(VerifyReplication, SeesWrongLevels) {
  ++result.bound_level.tokens;
  EXPECT_NE(verdict(), "");
  --result.bound_level.tokens;
  ++result.max_level.tokens;
  EXPECT_THAT(verdict(), HasSubstr("no rank costs max_load"));
  result.max_level.tokens -= 2;
  EXPECT_THAT(verdict(), HasSubstr("costs more than max_load"));
  result.max_level = {1, 7};
  EXPECT_THAT(verdict(), HasSubstr("level of 1 tokens on rank 7"));
}

TEST_F(VerifyReplication, SeesAWrongStatus) {
  result.status = SolveStatus::kBounded;
  EXPECT_THAT(verdict(), HasSubstr("status"));
}

TEST_F(VerifyReplication, SeesSizesThatDoNotFit) {
  result.slot_expert.pop_back();
  EXPECT_THAT(verdict(), HasSubstr("not of the placement's size"));
}

/// The bound that few slots give, which no set of ranks has without them.
TEST(VerifySlotBound, CountsTheHeaviestExpertsThatSlotsCanFetch) {
  std::vector<Index> map(16);
  for (Index e = 0; e < 16; ++e) map[e] = e;
  const Placement placement = make_placement(2, 16, map);
  const std::vector<Load> load = {10, 10, 10, 10, 10, 10, 10, 11, 0, 0, 0, 0, 0, 0, 0, 0};
  Replication r = replicate(placement, load);
  EXPECT_EQ(r.bound_level.tokens, 70);
  EXPECT_EQ(verify_replication(placement, load, {}, r), "");
  // With two slots the same proof would be wrong.
  r.slot_expert = {-1, -1, 7, -1};
  r.slot_source = {-1, -1, 0, -1};
  r.physical_load.insert(r.physical_load.begin() + 8, 0);
  r.physical_load.push_back(0);
  EXPECT_THAT(verify_replication(placement, load, {.dynamic_slots = 2}, r),
              HasSubstr("bottleneck_ranks can take 69 tokens below the bound, 60 are left"));
}

}  // namespace
}  // namespace lplb
