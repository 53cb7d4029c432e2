// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <limits>

#include "lplb/placement.h"

namespace lplb {
namespace {

TEST(EvenImbalance, DividesOverLiveReplicas) {
  const std::vector<Index> map = {0, 1, 0, 2};
  const std::vector<double> load = {4, 1, 3};
  EXPECT_EQ(even_imbalance(make_placement(2, 3, map), load), 5.0 / 4);
  const Placement dead =
      make_placement(2, 3, std::vector<Index>{0, 1, 2, 0, 1, 2, 0, 0}, {.rank_alive = {1, 0}});
  EXPECT_EQ(even_imbalance(dead, load), 1);
  const Placement third =
      make_placement(3, 3, std::vector<Index>{0, 1, 0, 2, 0, 0}, {.rank_alive = {1, 1, 0}});
  EXPECT_EQ(even_imbalance(third, load), 5.0 / 4);
}

TEST(EvenImbalance, ComparesBySpeed) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1}, {.rank_speed = {1, 0.25}});
  EXPECT_EQ(even_imbalance(p, std::vector<double>{4, 1}), 1);
  EXPECT_EQ(even_imbalance(p, std::vector<double>{1, 1}), 1.6);
}

TEST(EvenImbalance, TakesLoadsOfAnySize) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1});
  const double most = std::numeric_limits<double>::max();
  EXPECT_EQ(even_imbalance(p, std::vector<double>{most, most}), 1);
  EXPECT_EQ(even_imbalance(p, std::vector<double>{3e-300, 1e-300}), 1.5);
  EXPECT_EQ(even_imbalance(p, std::vector<double>{0, 0}), 1);
}

TEST(EvenImbalance, RefusesBadLoads) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1});
  EXPECT_THROW(even_imbalance(p, std::vector<double>{1}), ArgumentError);
  EXPECT_THROW(even_imbalance(p, std::vector<double>{1, -1}), ArgumentError);
  EXPECT_THROW(even_imbalance(Placement{}, std::vector<double>{}), ArgumentError);
}

}  // namespace
}  // namespace lplb
