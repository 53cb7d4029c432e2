// SPDX-License-Identifier: MIT
#include "lplb/types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MakePlacement, DerivesTheOtherMaps) {
  const std::vector<Index> map = {0, 1, 2, 0, 3, 0};  // two slots a rank, expert 0 three times
  const Placement p = make_placement(3, 4, map);
  EXPECT_EQ(p.num_physical(), 6);
  EXPECT_EQ(p.slots_per_rank(), 2);
  EXPECT_EQ(p.rank_of(3), 1);
  EXPECT_EQ(p.max_replicas, 3);
  EXPECT_THAT(p.replica_count, ElementsAre(3, 1, 1, 1));
  EXPECT_THAT(p.logical_to_physical, ElementsAre(0, 3, 5, 1, -1, -1, 2, -1, -1, 4, -1, -1));
  EXPECT_THAT(p.replicas(0), ElementsAre(0, 3, 5));
  EXPECT_EQ(p.speed(2), 1.0);
  EXPECT_TRUE(p.alive(2));
}

TEST(MakePlacement, KnowsNodes) {
  const std::vector<Index> map = {0, 1, 2, 3, 4, 5, 6, 7};
  const Placement p = make_placement(8, 8, map, {.num_nodes = 2});
  EXPECT_EQ(p.node_of(3), 0);
  EXPECT_EQ(p.node_of(4), 1);
}

/// Expects an ArgumentError that names `argument` and whose message contains `part`.
void expect_refused(Index ranks, Index experts, std::vector<Index> map, PlacementOptions options,
                    const char* argument, const char* part) {
  try {
    make_placement(ranks, experts, map, options);
    ADD_FAILURE() << "accepted: expected " << argument << ": " << part;
  } catch (const ArgumentError& e) {
    EXPECT_EQ(e.argument(), argument);
    EXPECT_THAT(e.what(), HasSubstr(part));
  }
}

TEST(MakePlacement, RefusesWhatDoesNotFit) {
  const double inf = std::numeric_limits<double>::infinity();
  expect_refused(0, 1, {0}, {}, "num_ranks", "0 is not between");
  expect_refused(2000, 1, {0}, {}, "num_ranks", "2000 is not between");
  expect_refused(2, 1, {}, {}, "physical_to_logical", "has 0 entries");
  expect_refused(2, 1, {0, 0, 0}, {}, "physical_to_logical", "multiple of num_ranks (2)");
  expect_refused(1, 0, {0}, {}, "num_logical_experts", "0 is not >= 1");
  expect_refused(1, 2, {0}, {}, "num_logical_experts", "do not fit");
  expect_refused(1, 1, {1}, {}, "physical_to_logical", "slot 0 holds expert 1");
  expect_refused(1, 1, {-1}, {}, "physical_to_logical", "slot 0 holds expert -1");
  expect_refused(1, 2, {0, 0}, {}, "physical_to_logical", "expert 1 is in no slot");
  expect_refused(3, 3, {0, 1, 2}, {.num_nodes = 2}, "num_nodes", "2 does not divide");
  for (const double speed : {0.0, -1.0, inf, std::numeric_limits<double>::quiet_NaN(), 5e-324}) {
    expect_refused(2, 2, {0, 1}, {.rank_speed = {1, speed}}, "rank_speed", "rank 1 has speed");
  }
  expect_refused(2, 2, {0, 1}, {.rank_speed = {1}}, "rank_speed", "has 1 entries");
  expect_refused(2, 2, {0, 1}, {.rank_alive = {1, 0}}, "rank_alive",
                 "expert 1 has no replica on a live rank");
}

TEST(Imbalance, IsMaxOverMean) {
  EXPECT_EQ(imbalance(std::vector<Load>{1, 2, 3}), 1.5);
  EXPECT_EQ(imbalance(std::vector<Load>{4, 4}), 1.0);
  EXPECT_EQ(imbalance(std::vector<Load>{0, 0}), 1.0);
}

TEST(Imbalance, CountsLiveRanksByTheirSpeeds) {
  const std::vector<Index> map = {0, 0, 0, 0};
  const auto of = [&](std::vector<double> speed, std::vector<char> alive, std::vector<Load> load) {
    const Placement p =
        make_placement(4, 1, map, {.rank_speed = std::move(speed), .rank_alive = std::move(alive)});
    return imbalance(p, load);
  };
  EXPECT_EQ(of({}, {}, {1, 2, 3, 2}), 1.5);
  EXPECT_EQ(of({}, {1, 0, 1, 1}, {110, 0, 110, 110}), 1.0);
  EXPECT_EQ(of({}, {1, 0, 1, 1}, {100, 999, 100, 400}), 2.0);  // a dead rank's load is ignored
  EXPECT_DOUBLE_EQ(of({1, 1, 1, 0.25}, {}, {20, 20, 20, 20}), 80 * 4 / 140.0);
  EXPECT_DOUBLE_EQ(of({1, 1, 1, 0.25}, {}, {80, 80, 80, 20}), 1.0);
  EXPECT_DOUBLE_EQ(of({4, 2, 9, 1}, {1, 1, 0, 1}, {40, 20, 0, 20}), 20 * 3 / 40.0);
  EXPECT_EQ(of({2, 2, 2, 2}, {}, {1, 2, 3, 2}), 1.5);
  EXPECT_EQ(of({3, 1, 1, 1}, {}, {0, 0, 0, 0}), 1.0);
  EXPECT_EQ(of({}, {1, 0, 1, 1}, {0, 7, 0, 0}), 1.0);
  // Speeds at the ends of the range, and loads whose sum is above 2^63.
  EXPECT_DOUBLE_EQ(of({1e308, 1e308, 1e308, 1e308}, {}, {1, 2, 3, 2}), 1.5);
  EXPECT_DOUBLE_EQ(of({1e308, 1e308, 1e308, 2.3e-308}, {}, {2, 2, 2, 0}), 4 / 3.0);
  EXPECT_DOUBLE_EQ(of({1e308, 1e308, 1e308, 2.3e-308}, {}, {2, 2, 2, 1}), 4.0);
  const Load most = std::numeric_limits<Load>::max();
  EXPECT_DOUBLE_EQ(of({}, {}, {most, most, 0, 0}), 2.0);

  const Placement p = make_placement(4, 1, map);
  EXPECT_THROW(imbalance(p, std::vector<Load>{1, 2, 3}), ArgumentError);
}

}  // namespace
}  // namespace lplb
