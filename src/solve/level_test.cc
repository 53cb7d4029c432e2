// SPDX-License-Identifier: MIT
#include "solve/level.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "solve/solvers.h"
#include "solve/tables.h"
#include "solve/workspace.h"

namespace lplb::solvers {
namespace {

using ::testing::ElementsAre;
using Loads = std::vector<Load>;

Loads speeds(Load w, const Loads& other, const std::vector<double>& speed) {
  Loads x(other.size(), -1);
  std::vector<Index> order(other.size());
  level_speeds(w, static_cast<Index>(other.size()), other.data(), speed.data(), x.data(),
               order.data());
  return x;
}

Loads uniform(Load w, const Loads& other) {
  Loads x(other.size(), -1);
  level_uniform(w, static_cast<Index>(other.size()), other.data(), x.data());
  return x;
}

TEST(Level, TwoRanks) {
  EXPECT_EQ(level_two(10, 0, 0), 5);
  EXPECT_EQ(level_two(11, 0, 0), 6);  // the odd token goes to the first
  EXPECT_EQ(level_two(10, 4, 0), 3);
  EXPECT_EQ(level_two(10, 0, 3), 7);
  EXPECT_EQ(level_two(10, 10, 0), 0);
  EXPECT_EQ(level_two(10, 12, 0), 0);
  EXPECT_EQ(level_two(10, 0, 12), 10);
  EXPECT_EQ(level_two(0, 3, 3), 0);
}

TEST(Level, UniformRanksAboveTheLevelTakeNothing) {
  EXPECT_THAT(uniform(10, {0, 0, 0}), ElementsAre(4, 3, 3));
  EXPECT_THAT(uniform(10, {9, 0, 1}), ElementsAre(0, 6, 4));  // the odd token: level 5
  EXPECT_THAT(uniform(10, {100, 3, 50, 0}), ElementsAre(0, 4, 0, 6));
  EXPECT_THAT(uniform(4, {2, 0, 4}), ElementsAre(1, 3, 0));
  EXPECT_THAT(uniform(7, {5}), ElementsAre(7));
  EXPECT_THAT(uniform(0, {5, 6}), ElementsAre(0, 0));
}

TEST(Level, SpeedsDivideInProportion) {
  EXPECT_THAT(speeds(70, {0, 0, 0}, {1, 2, 4}), ElementsAre(10, 20, 40));
  EXPECT_THAT(speeds(70, {10, 0, 0}, {1, 2, 4}), ElementsAre(1, 23, 46));  // level 11.43
  EXPECT_THAT(speeds(60, {10, 0, 0}, {1, 2, 4}), ElementsAre(0, 20, 40));  // the level is at rank 0
  EXPECT_THAT(speeds(60, {90, 0, 0}, {1, 2, 4}), ElementsAre(0, 20, 40));
  EXPECT_THAT(speeds(30, {0, 60, 0}, {1, 2, 4}), ElementsAre(6, 0, 24));
  EXPECT_THAT(speeds(9, {3, 0}, {0.5, 1}), ElementsAre(1, 8));
  EXPECT_THAT(speeds(0, {5, 6}, {1, 2}), ElementsAre(0, 0));
  EXPECT_THAT(speeds(5, {7}, {3}), ElementsAre(5));
}

TEST(Level, SpeedsWithTokensLeftOver) {
  // Level 10 / 3: each takes 3, and the token that is left goes to the first.
  EXPECT_THAT(speeds(10, {0, 0, 0}, {1, 1, 1}), ElementsAre(4, 3, 3));
  EXPECT_THAT(speeds(11, {0, 0, 0}, {1, 1, 1}), ElementsAre(4, 4, 3));
}

TEST(Level, SpeedsEndAtTheLevelOfFractions) {
  // If tokens could be divided, the ranks that take some would end level. Whole tokens differ from
  // that by one at most.
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const auto k = 1 + random() % 6;
    Loads other(k);
    std::vector<double> speed(k);
    for (Load& load : other) load = random() % 40;
    for (double& s : speed) s = static_cast<double>(1 + random() % 8) / 4;
    const Load w = random() % 60;
    const Loads x = speeds(w, other, speed);
    ASSERT_EQ(std::accumulate(x.begin(), x.end(), Load{0}), w);

    // The level of fractions, by bisection.
    double low = 0;
    double high = 1e4;
    for (int i = 0; i < 60; ++i) {
      const double level = (low + high) / 2;
      double room = 0;
      for (std::size_t r = 0; r < k; ++r) {
        room += std::max(0.0, level * speed[r] - static_cast<double>(other[r]));
      }
      (room >= static_cast<double>(w) ? high : low) = level;
    }
    for (std::size_t r = 0; r < k; ++r) {
      ASSERT_GE(x[r], 0);
      const double exact = std::max(0.0, high * speed[r] - static_cast<double>(other[r]));
      ASSERT_NEAR(static_cast<double>(x[r]), exact, 1.0 + 1e-9) << "round " << round;
    }
  }
}

TEST(Level, SpeedsOfHugeLoads) {
  // The level is about 2^62 / 3, where doubles are 256 tokens apart.
  const Load w = (Load{1} << 62) - 1;
  const Loads x = speeds(w, {0, 0}, {1, 2});
  EXPECT_EQ(x[0] + x[1], w);
  EXPECT_NEAR(static_cast<double>(x[1]) / static_cast<double>(x[0]), 2.0, 1e-12);
}

/// The sweeps end when no expert changes.
TEST(LevelExpert, SaysWhetherItChangesAnything) {
  const Index map[] = {0, 1, 0, 2};  // expert 0 on both ranks
  const SplitProblem problem(make_placement(2, 3, map));
  Buffers buffers;
  buffers.resize(problem.tables());
  buffers.want = {10};
  buffers.take = {2, 8};
  buffers.rank_load = {2, 14};  // 6 tokens of expert 2
  EXPECT_TRUE(level_expert(problem.tables(), 0, buffers));
  EXPECT_THAT(buffers.take, ElementsAre(8, 2));
  EXPECT_THAT(buffers.rank_load, ElementsAre(8, 8));
  EXPECT_FALSE(level_expert(problem.tables(), 0, buffers));
}

TEST(Tables, ColoursAreAsFewAsTheGreedyOrderNeeds) {
  const auto colours = [](Index ranks, const std::vector<Index>& map) {
    const Index experts = *std::max_element(map.begin(), map.end()) + 1;
    return SplitProblem(make_placement(ranks, experts, map)).tables().colour;
  };
  EXPECT_THAT(colours(4, {0, 1, 0, 2, 3, 4, 3, 5}), ElementsAre(0, 0));
  EXPECT_THAT(colours(3, {0, 1, 1, 2, 0, 2}), ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace lplb::solvers
