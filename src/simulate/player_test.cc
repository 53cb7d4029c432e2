// SPDX-License-Identifier: MIT
#include "simulate/player.h"

#include <gmock/gmock.h>

#include "simulate/judge.h"

namespace lplb::replay {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

TEST(RunLength, EndsBeforeTheNextPlacementAndAtTheEndOfTheBlock) {
  EXPECT_EQ(run_length(0, 10, 100), 10U);
  EXPECT_EQ(run_length(7, 10, 100), 3U);
  EXPECT_EQ(run_length(9, 10, 100), 1U);
  EXPECT_EQ(run_length(20, 10, 100), 10U);
  // A block that ends before the next placement.
  EXPECT_EQ(run_length(7, 10, 2), 2U);
  EXPECT_EQ(run_length(0, 1'000'000, 50), 50U);
}

/// Rank 2 is dead and rank 1 has half the speed: loads 40, 20 and 0 are perfect.
TEST(Judge, DividesBySpeedsAndLeavesDeadRanksOut) {
  const Placement placement = make_placement(3, 2, std::vector<Index>{0, 1, 1},
                                             {.rank_speed = {1, 0.5, 1}, .rank_alive = {1, 1, 0}});
  std::vector<Load> scratch;
  std::vector<double> heat(3);
  PolicyOutcome outcome = judge(placement, std::vector<Load>{40, 20, 0}, 40, {}, scratch, heat);
  EXPECT_EQ(outcome.imbalance, 1);
  EXPECT_EQ(outcome.gap, 0);
  EXPECT_THAT(heat, ElementsAre(1, 1, 0));
  // Times 30 and 60: the mean is 45.
  outcome = judge(placement, std::vector<Load>{30, 30, 0}, 40, {}, scratch, heat);
  EXPECT_THAT(outcome.imbalance, DoubleEq(60.0 / 45));
  EXPECT_EQ(outcome.gap, 0.5);
  EXPECT_THAT(heat, ElementsAre(DoubleEq(30.0 / 45), DoubleEq(60.0 / 45), 0));
}

}  // namespace
}  // namespace lplb::replay
