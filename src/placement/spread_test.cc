// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lplb/placement.h"
#include "lplb/solver.h"
#include "placement/rebalance_test_support.h"

namespace lplb {
namespace {

using testing::random_load;
using testing::rebalance;
using testing::RebalanceCase;

/// How many slots hold an expert that is in an earlier slot of the same rank.
Index repeats(const Placement& placement) {
  Index found = 0;
  for (Index p = 0; p < placement.num_physical(); ++p) {
    for (Index q = p - p % placement.slots_per_rank(); q < p; ++q) {
      if (placement.physical_to_logical[q] == placement.physical_to_logical[p]) {
        ++found;
        break;
      }
    }
  }
  return found;
}

TEST(Spread, GivesNoRankAnExpertTwice) {
  const RebalanceCase cases[] = {
      {2, 8, 16, 1, 1, 8}, {2, 256, 288, 16, 2, 8}, {2, 4, 16, 1, 1, 4},      {2, 5, 8, 1, 1, 8},
      {2, 5, 20, 1, 1, 4}, {2, 12, 36, 4, 2, 6},    {1, 96, 1024, 4, 4, 512}, {2, 6, 30, 1, 1, 6},
      {2, 3, 3, 1, 1, 1},  {20, 7, 12, 1, 1, 2},    {20, 9, 24, 3, 3, 12}};
  Index kept = 0;
  for (const RebalanceCase& c : cases) {
    for (const std::uint32_t distinct : {1U, 2U, 7U, 30000U}) {
      const auto load = random_load(c, distinct, distinct);
      const ExpertMaps plain = rebalance(load, c);
      const ExpertMaps maps = rebalance(load, c, {.spread = true});
      for (Index layer = 0; layer < c.layers; ++layer) {
        ASSERT_EQ(repeats(make_placement(c.ranks, c.logical, maps.layer(layer))), 0)
            << c.logical << " -> " << c.replicas << " on " << c.ranks;
        if (repeats(make_placement(c.ranks, c.logical, plain.layer(layer))) > 0) continue;
        ++kept;
        ASSERT_THAT(maps.layer(layer), ::testing::ElementsAreArray(plain.layer(layer)));
      }
    }
  }
  EXPECT_GT(kept, 20);
}

TEST(Spread, LetsAnExactSplitUseEveryReplica) {
  const std::vector<double> uniform(8, 1.0);
  const ExpertMaps maps = rebalance_experts(uniform, 1, 8, 16, 1, 1, 8, {.spread = true});
  const Placement placement = make_placement(8, 8, maps.layer(0));
  for (Index hot = 0; hot < 8; ++hot) {
    std::vector<Load> load(8, 100);
    load[hot] = 800;
    EXPECT_EQ(solve(placement, load).max_load, 400);  // two ranks with nothing but the hot expert
  }
}

TEST(Spread, CostsLittleBalance) {
  const RebalanceCase c{40, 64, 96, 1, 1, 8};
  std::mt19937 random(11);
  std::vector<double> load(std::size_t{1} * c.layers * c.logical);
  for (double& x : load) x = std::pow(2.0, random() % 10);
  const ExpertMaps maps = rebalance(load, c, {.spread = true});
  const ExpertMaps plain = rebalance(load, c);
  double sum = 0;
  double plain_sum = 0;
  for (Index layer = 0; layer < c.layers; ++layer) {
    const auto row = std::span(load).subspan(std::size_t{1} * layer * c.logical, c.logical);
    sum += even_imbalance(make_placement(c.ranks, c.logical, maps.layer(layer)), row);
    plain_sum += even_imbalance(make_placement(c.ranks, c.logical, plain.layer(layer)), row);
  }
  EXPECT_LT(sum, 1.01 * plain_sum);
}

TEST(Spread, NeedsAnExpertForEachSlotOfARank) {
  const std::vector<double> load(4, 1.0);
  const auto refusal = [&](Index slots, Index groups, Index nodes, Index ranks) {
    try {
      rebalance_experts(load, 1, 4, slots, groups, nodes, ranks, {.spread = true});
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal(8, 1, 1, 2), "");
  EXPECT_EQ(refusal(10, 1, 1, 2),
            "spread: a rank has 5 slots for 4 experts, so some must be on it twice");
  EXPECT_EQ(refusal(12, 2, 2, 4),
            "spread: a rank has 3 slots for 2 experts, so some must be on it twice");
}

}  // namespace
}  // namespace lplb
