// SPDX-License-Identifier: MIT
#include "core/cost.h"

#include <gtest/gtest.h>

#include <vector>

namespace lplb {
namespace {

constexpr Load kHuge = std::numeric_limits<Load>::max();

RankCost cost_of(const std::vector<double>& speed) {
  RankCost cost;
  cost.assign(static_cast<Index>(speed.size()), speed);
  return cost;
}

TEST(RankCost, EqualSpeedsCompareAsTokensDo) {
  for (const double speed : {1.0, 0.3, 7e20}) {
    const RankCost cost = cost_of({speed, speed});
    EXPECT_TRUE(cost.uniform());
    EXPECT_EQ(cost.compare({3, 0}, {4, 1}), -1);
    EXPECT_EQ(cost.compare({4, 0}, {4, 1}), 0);
    EXPECT_EQ(cost.capacity(1, {9, 0}, 100), 9);
    EXPECT_EQ(cost.capacity(1, {9, 0}, 5), 5);
    EXPECT_EQ(cost.below(1, {9, 0}, 100), 8);
    EXPECT_EQ(cost.below(1, {0, 0}, 100), -1);
  }
}

TEST(RankCost, TellsDoublesApartThatDivideToTheSameDouble) {
  // The doubles 0.1 and 0.3 are not exactly 1/10 and 3/10: 100 / 0.1 < 1000 < 300 / 0.3.
  const RankCost cost = cost_of({0.1, 0.3});
  ASSERT_EQ(100 / 0.1, 300 / 0.3);
  EXPECT_EQ(cost.compare({100, 0}, {300, 1}), -1);
  EXPECT_EQ(cost.compare({300, 1}, {100, 0}), 1);
  EXPECT_EQ(cost.capacity(1, {100, 0}, kHuge), 299);
  EXPECT_EQ(cost.capacity(0, {300, 1}, kHuge), 100);
}

TEST(RankCost, AgreesWithIntegerArithmetic) {
  // With small integer speeds, n / s is compared by cross multiplication.
  const std::vector<double> speed = {1, 2, 3, 7, 12};
  const RankCost cost = cost_of(speed);
  for (Index a = 0; a < 5; ++a) {
    for (Index b = 0; b < 5; ++b) {
      for (Load n = 0; n < 60; ++n) {
        const auto sa = static_cast<Load>(speed[a]);
        const auto sb = static_cast<Load>(speed[b]);
        for (Load m = 0; m < 60; ++m) {
          const Load difference = n * sb - m * sa;
          EXPECT_EQ(cost.compare({n, a}, {m, b}), (difference > 0) - (difference < 0));
        }
        EXPECT_EQ(cost.capacity(b, {n, a}, kHuge), n * sb / sa);
        EXPECT_EQ(cost.below(b, {n, a}, kHuge), (n * sb + sa - 1) / sa - 1);
      }
    }
  }
}

TEST(RankCost, ComparesAcrossPowersOfTwo) {
  for (const int power : {1, 12, 13, 40, 61}) {
    const Load ratio = Load{1} << power;
    const RankCost cost = cost_of({static_cast<double>(ratio), 1.0});
    EXPECT_EQ(cost.compare({2 * ratio - 1, 0}, {2, 1}), -1) << power;
    EXPECT_EQ(cost.compare({2 * ratio, 0}, {2, 1}), 0) << power;
    EXPECT_EQ(cost.compare({2, 1}, {2 * ratio + 1, 0}), -1) << power;
    EXPECT_EQ(cost.compare({kHuge, 1}, {kHuge, 0}), 1) << power;
    EXPECT_EQ(cost.compare({1, 0}, {kHuge, 1}), -1) << power;
    EXPECT_EQ(cost.compare({0, 1}, {1, 0}), -1) << power;
    EXPECT_EQ(cost.capacity(0, {1, 1}, kHuge), ratio) << power;
  }
}

TEST(RankCost, HoldsAtTheLimitsOfItsTypes) {
  const RankCost cost = cost_of({1.0, 1e-300, 1e300, 0x1p-1022, 1.0 + 0x1p-52});
  EXPECT_EQ(cost.compare({kHuge, 0}, {1, 1}), -1);
  EXPECT_EQ(cost.compare({1, 0}, {kHuge, 2}), 1);
  EXPECT_EQ(cost.compare({0, 1}, {0, 2}), 0);
  EXPECT_EQ(cost.compare({0, 3}, {1, 2}), -1);
  EXPECT_EQ(cost.capacity(2, {1, 3}, kHuge), kHuge);
  EXPECT_EQ(cost.capacity(3, {kHuge, 2}, kHuge), 0);
  // A unit in the last place of the speed is a token in 2^52.
  EXPECT_EQ(cost.capacity(4, {Load{1} << 52, 0}, kHuge), (Load{1} << 52) + 1);
  EXPECT_EQ(cost.capacity(4, {(Load{1} << 52) - 1, 0}, kHuge), (Load{1} << 52) - 1);
  EXPECT_EQ(cost.capacity(0, {kHuge, 4}, kHuge), kHuge - 2048);
}

}  // namespace
}  // namespace lplb
