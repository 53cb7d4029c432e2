// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <limits>

#include "core/cost_curve.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using testing::expect_refused;

const CostTable kTable{32.1, {128, 256, 384, 512}, {31.0, 42.1, 65.3, 76.4}, 256, 34.3};

TEST(CostModel, ReadsItsTable) {
  const CostModel model("us", kTable);
  EXPECT_EQ(model.rank_cost(0), 32100);
  const std::vector<std::pair<Load, Cost>> expected = {
      {0, 0},       {1, 31000},    {128, 31000},  {129, 42100},  {256, 42100},  {257, 65300},
      {512, 76400}, {513, 110700}, {768, 110700}, {769, 145000}, {1024, 145000}};
  for (const auto& [tokens, cost] : expected) {
    EXPECT_EQ(model.expert_cost(0, tokens), cost) << tokens;
    EXPECT_EQ(model.expert_cost(7, tokens), cost) << "one table serves every rank";
  }
}

TEST(CostModel, ASpeedDividesEveryNumberAndRoundsUp) {
  const CostModel model("us", kTable);
  EXPECT_EQ(model.rank_cost(0, 2.0), 16050);
  EXPECT_EQ(model.expert_cost(0, 1, 2.0), 15500);
  EXPECT_EQ(model.expert_cost(0, 1, 3.0), 10334);  // 31000 / 3 = 10333.3
  EXPECT_EQ(model.expert_cost(0, 513, 0.5), 221400);
  // The double 0.1 is above 1/10, so 31000 / 0.1 is below 310000.
  EXPECT_EQ(model.expert_cost(0, 1, 0.1), 310000);
  EXPECT_EQ(model.expert_cost(0, 1, 1e300), 1);
}

TEST(CostModel, DivisionByASpeedIsExactAtTheLimits) {
  EXPECT_EQ(divide_by_speed(0, 1e-300), 0);
  EXPECT_EQ(divide_by_speed(1, 0x1p-53), kMaxCost);
  EXPECT_EQ(divide_by_speed(1, 0x1p-54), -1);
  EXPECT_EQ(divide_by_speed(kMaxCost, 1), kMaxCost);
  EXPECT_EQ(divide_by_speed(kMaxCost, 1 - 0x1p-53), -1);
  EXPECT_EQ(divide_by_speed(kMaxCost, 1e300), 1);
  for (const double speed : {0.3, 1.0, 2.5, 1e-9, 7e9}) {
    for (const Cost cost : {Cost{1}, Cost{12345}, Cost{1} << 40}) {
      // The quotient is the least cost that holds `cost` after a multiplication.
      const Cost quotient = divide_by_speed(cost, speed);
      if (quotient < 0) continue;
      EXPECT_GE(multiply_by_speed(quotient, speed), cost) << cost << " / " << speed;
      EXPECT_LT(multiply_by_speed(quotient - 1, speed), cost) << cost << " / " << speed;
    }
  }
  EXPECT_EQ(multiply_by_speed(kCostLimit, 2), kCostLimit);
  EXPECT_EQ(multiply_by_speed(kCostLimit, 1e-300), 0);
  EXPECT_EQ(multiply_by_speed(1, 1e300), kCostLimit);
}

TEST(CostModel, RoundsToThousandthsAndNeverToNothing) {
  const CostModel model("us", CostTable{0.0004, {1, 2}, {0.0001, 0.0016}, 1, 0.0004});
  EXPECT_EQ(model.rank_cost(0), 0);
  EXPECT_EQ(model.expert_cost(0, 1), 1);
  EXPECT_EQ(model.expert_cost(0, 2), 2);
  EXPECT_EQ(model.expert_cost(0, 1000), 2);
}

TEST(CostModel, HoldsAtTheLimitsOfItsTypes) {
  constexpr Load kHuge = std::numeric_limits<Load>::max();
  const CostModel model("us", CostTable{0, {1}, {1}, 1, 1e12});
  EXPECT_EQ(model.expert_cost(0, kHuge), kCostLimit);
  CostCurve curve;
  curve.assign(CostTable{0, {5}, {1}, kMaxCostTokens, 1}, 1.0);
  EXPECT_EQ(curve.capacity(kCostLimit, kHuge), kHuge);
  EXPECT_EQ(curve.capacity(999, kHuge), 0);
  EXPECT_EQ(curve.capacity(1000, kHuge), 5);
  EXPECT_EQ(curve.capacity(2000, kHuge), 5 + kMaxCostTokens);
}

TEST(CostCurve, CapacityIsTheMostThatABudgetPaysFor) {
  for (const double speed : {1.0, 0.7, 3.0}) {
    CostCurve curve;
    curve.assign(CostTable{0, {3, 4, 9}, {0.002, 0.002, 0.008}, 4, 0.003}, speed);
    for (Cost budget = -1; budget < 40; ++budget) {
      Load most = 0;
      while (most < 30 && curve.of(most + 1) <= budget) ++most;
      EXPECT_EQ(curve.capacity(budget, 30), most) << budget << " at speed " << speed;
    }
  }
}

TEST(CostModel, TablesMayDifferByRank) {
  const CostModel model("us", {kTable, CostTable{0, {1}, {2}, 1, 3}});
  EXPECT_EQ(model.expert_cost(0, 2), 31000);
  EXPECT_EQ(model.expert_cost(1, 2), 5000);
  expect_refused([&] { model.expert_cost(2, 1); }, "rank: is 2");
}

TEST(CostModel, WeightsOnlyCountsExperts) {
  const CostModel model = weights_only_model();
  EXPECT_EQ(model.unit(), "experts");
  EXPECT_EQ(model.rank_cost(0), 0);
  EXPECT_EQ(model.expert_cost(0, 0), 0);
  EXPECT_EQ(model.expert_cost(0, 1), kCostsPerUnit);
  EXPECT_EQ(model.expert_cost(0, 1 << 20), kCostsPerUnit);
}

TEST(CostModel, RefusesBadTablesAndNamesTheField) {
  const auto refused = [](const std::string& field, CostTable table) {
    expect_refused([&] { CostModel("us", table); }, (field + ": ").c_str());
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  refused("tokens", {0, {}, {}, 1, 0});
  refused("cost", {0, {1, 2}, {1}, 1, 0});
  refused("cost", {0, {1}, {1, 2}, 1, 0});
  refused("tokens[0]", {0, {0}, {1}, 1, 0});
  refused("tokens[1]", {0, {2, 2}, {1, 2}, 1, 0});
  refused("tokens[0]", {0, {kMaxCostTokens + 1}, {1}, 1, 0});
  refused("cost[1]", {0, {1, 2}, {2, 1}, 1, 0});
  refused("cost[0]", {0, {1}, {0}, 1, 0});
  refused("cost[0]", {0, {1}, {-1}, 1, 0});
  refused("cost[0]", {0, {1}, {nan}, 1, 0});
  refused("cost[0]", {0, {1}, {infinity}, 1, 0});
  refused("cost[0]", {0, {1}, {1e13}, 1, 0});
  refused("rank", {-1, {1}, {1}, 1, 0});
  refused("then_every", {0, {1}, {1}, 0, 0});
  refused("then_cost", {0, {1}, {1}, 1, -0.5});
  expect_refused([] { CostModel("us", std::vector<CostTable>{}); }, "ranks: is empty");
  const CostTable good{0, {1}, {1}, 1, 0};
  const CostTable bad{0, {1}, {}, 1, 0};
  expect_refused([&] { CostModel("us", {good, bad}); }, "ranks[1].cost: has 0 entries");
}

}  // namespace
}  // namespace lplb
