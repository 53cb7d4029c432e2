// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "lplb/solver.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;

/// A check that cannot fail proves nothing, so each test breaks one thing in a good split.
class VerifySplit : public ::testing::Test {
 protected:
  const Placement placement =
      make_placement(3, 4, std::vector<Index>{0, 1, 1, 2, 2, 3}, {.rank_speed = {1, 2, 4}});
  const std::vector<Load> load = {7, 20, 9, 11};
  Split split = solve(placement, load);

  std::string verdict() const { return verify_split(placement, load, split); }
};

TEST_F(VerifySplit, AcceptsAGoodOne) { EXPECT_EQ(verdict(), ""); }

TEST_F(VerifySplit, SeesALostToken) {
  --split.physical_load[1];
  EXPECT_THAT(verdict(), HasSubstr("expert 1 has load 20, its replicas take 19"));
}

TEST_F(VerifySplit, SeesATokenOnAnotherExpertsReplica) {
  --split.physical_load[0];
  ++split.physical_load[1];
  EXPECT_THAT(verdict(), HasSubstr("expert 0"));
}

TEST_F(VerifySplit, SeesNegativeLoads) {
  split.physical_load[1] = -1;
  split.physical_load[2] = 21;
  EXPECT_THAT(verdict(), HasSubstr("slot 1 takes -1 tokens"));
}

TEST_F(VerifySplit, SeesWrongRankLoads) {
  ++split.rank_load[2];
  EXPECT_THAT(verdict(), HasSubstr("rank_load says"));
}

TEST_F(VerifySplit, SeesAProofThatDoesNotHold) {
  split.bottleneck_ranks.clear();
  EXPECT_THAT(verdict(), HasSubstr("bottleneck_ranks can take"));
  split.bottleneck_ranks = {3};
  EXPECT_THAT(verdict(), HasSubstr("no live rank"));
  split.bottleneck_ranks = {0, 0};
  EXPECT_THAT(verdict(), HasSubstr("stands twice"));
}

TEST_F(VerifySplit, SeesABoundThatIsTooHigh) {
  ++split.bound_level.tokens;
  EXPECT_NE(verdict(), "");
}

TEST_F(VerifySplit, SeesASplitThatIsOnlyFeasible) {
  // All of expert 2 is on its slower rank: feasible and consistent, but not optimal.
  split.physical_load = {7, 0, 20, 9, 0, 11};
  split.rank_load = {7, 29, 11};
  split.max_level = {29, 1};
  split.max_load = 14.5;
  split.lower_bound = 14.5;
  EXPECT_THAT(verdict(), HasSubstr("lower_bound is below max_load"));
  split.status = SolveStatus::kBounded;
  EXPECT_THAT(verdict(), HasSubstr("lower_bound is not the price"));
  split.lower_bound =
      static_cast<double>(split.bound_level.tokens) / placement.speed(split.bound_level.rank);
  EXPECT_EQ(verdict(), "");
}

TEST_F(VerifySplit, SeesAMaxThatIsNotTheMax) {
  split.max_level.tokens -= 1;
  EXPECT_THAT(verdict(), HasSubstr("costs more than max_load"));
  split.max_level.tokens += 2;
  EXPECT_NE(verdict(), "");
}

TEST_F(VerifySplit, SeesTokensOnADeadRank) {
  const Placement dead = make_placement(2, 1, std::vector<Index>{0, 0}, {.rank_alive = {1, 0}});
  Split s = solve(dead, std::vector<Load>{5});
  EXPECT_EQ(verify_split(dead, std::vector<Load>{5}, s), "");
  s.physical_load = {4, 1};
  s.rank_load = {4, 1};
  EXPECT_THAT(verify_split(dead, std::vector<Load>{5}, s), HasSubstr("slot 1 on dead rank 1"));
}

TEST_F(VerifySplit, SeesLevelsOutOfRange) {
  const Split good = split;
  for (Level Split::*level : {&Split::max_level, &Split::bound_level}) {
    for (const Level bad : {Level{-1, 0}, Level{1, -1}, Level{1, 3}, Level{1, 4}}) {
      split = good;
      split.*level = bad;
      EXPECT_EQ(verdict(), "level of " + std::to_string(bad.tokens) + " tokens on rank " +
                               std::to_string(bad.rank));
    }
  }
}

TEST_F(VerifySplit, AcceptsNoTokens) {
  const std::vector<Load> none(4, 0);
  Split empty = solve(placement, none);
  EXPECT_EQ(empty.max_level.tokens, 0);
  EXPECT_EQ(verify_split(placement, none, empty), "");
}

TEST_F(VerifySplit, SeesArraysOfAnotherSize) {
  const std::string problem = "load and split are not of the placement's size";
  EXPECT_EQ(verify_split(placement, std::vector<Load>{7, 20, 9}, split), problem);
  const Split good = split;
  split.physical_load.push_back(0);
  EXPECT_EQ(verdict(), problem);
  split = good;
  split.rank_load.push_back(0);
  EXPECT_EQ(verdict(), problem);
}

TEST_F(VerifySplit, SeesPricesThatAreNotThoseOfTheLevels) {
  const Split good = split;
  split.max_load += 1;
  EXPECT_EQ(verdict(), "max_load is not the price of its level");
  split = good;
  split.lower_bound += 1;
  EXPECT_EQ(verdict(), "lower_bound is not the price of its level");
}

TEST_F(VerifySplit, SeesDeadRanksInTheProof) {
  const Placement dead = make_placement(2, 1, std::vector<Index>{0, 0}, {.rank_alive = {1, 0}});
  Split s = solve(dead, std::vector<Load>{5});
  s.bottleneck_ranks = {0, 1};
  EXPECT_EQ(verify_split(dead, std::vector<Load>{5}, s),
            "bottleneck_ranks: 1 is no live rank or stands twice");
}

/// Leaves zeros in the memory that short arrays of characters get next. Otherwise a check that
/// reads past the end of a set of ranks could find what looks like a rank that stands twice.
void leave_zeros() {
  std::vector<std::vector<char>> arrays;
  for (std::size_t size = 24; size <= 88; size += 16) arrays.emplace_back(size, 0);
}

TEST(VerifySplitBounds, SeesARankPastTheLast) {
  for (Index ranks = 1; ranks <= 64; ++ranks) {
    std::vector<Index> slots(static_cast<std::size_t>(ranks));
    std::iota(slots.begin(), slots.end(), 0);
    const Placement placement = make_placement(ranks, ranks, slots);
    const std::vector<Load> load(slots.size(), 3);
    Split split = solve(placement, load);
    ASSERT_EQ(verify_split(placement, load, split), "");
    for (const Index bad : {-1, ranks, ranks + 1}) {
      split.bottleneck_ranks = {0, bad};
      leave_zeros();
      EXPECT_EQ(verify_split(placement, load, split),
                "bottleneck_ranks: " + std::to_string(bad) + " is no live rank or stands twice");
    }
  }
}

}  // namespace
}  // namespace lplb
