// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "lplb/placement.h"

namespace lplb {
namespace {

using ::testing::ElementsAreArray;

/// The largest load / speed of a live rank, if each expert is split evenly over its live replicas.
double slowest(const Placement& p, const std::vector<double>& load) {
  std::vector<double> ranks(static_cast<std::size_t>(p.num_ranks), 0.0);
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    std::vector<Index> live;
    for (const Index slot : p.replicas(e)) {
      if (p.alive(p.rank_of(slot))) live.push_back(p.rank_of(slot));
    }
    for (const Index g : live) ranks[g] += load[e] / static_cast<double>(live.size()) / p.speed(g);
  }
  return *std::max_element(ranks.begin(), ranks.end());
}

/// The least slowest() of all ways to fill the live slots of a placement like `like`.
double least_slowest(const Placement& like, const std::vector<double>& load) {
  double best = 1e300;
  std::vector<Index> slots = like.physical_to_logical;
  const std::function<void(Index)> fill = [&](Index p) {
    while (p < like.num_physical() && !like.alive(like.rank_of(p))) ++p;
    if (p == like.num_physical()) {
      try {
        best = std::min(
            best,
            slowest(make_placement(like.num_ranks, like.num_logical_experts, slots,
                                   {.rank_speed = like.rank_speed, .rank_alive = like.rank_alive}),
                    load));
      } catch (const ArgumentError&) {  // an expert is missing
      }
      return;
    }
    // The order of a rank's slots does not matter.
    const bool first = p % like.slots_per_rank() == 0;
    for (Index e = first ? 0 : slots[p - 1]; e < like.num_logical_experts; ++e) {
      slots[p] = e;
      fill(p + 1);
    }
  };
  fill(0);
  return best;
}

TEST(LiveRanks, EplbIsThatOfTheLiveSlots) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const auto below = [&](int n) { return static_cast<Index>(random() % n); };
    const Index nodes = 1 + below(3);
    const Index ranks = nodes * (1 + below(4));
    const Index slots = 1 + below(5);
    std::vector<char> alive(ranks);
    for (char& a : alive) a = below(3) > 0;
    alive[below(ranks)] = 1;
    const auto live = static_cast<Index>(std::count(alive.begin(), alive.end(), 1));
    const Index logical = 1 + below(live * slots);
    std::vector<double> load(std::size_t{2} * logical);
    for (double& x : load) x = below(1000);
    const Index groups = logical % nodes == 0 ? nodes * (1 + below(1)) : nodes + 1;

    const ExpertMaps maps = rebalance_experts(load, 2, logical, slots * ranks, groups, nodes, ranks,
                                              {.rank_alive = alive});
    std::vector<Index> on_node(nodes, 0);
    for (Index g = 0; g < ranks; ++g) on_node[g / (ranks / nodes)] += alive[g];
    std::erase(on_node, 0);
    const bool even =
        std::adjacent_find(on_node.begin(), on_node.end(), std::not_equal_to<>()) == on_node.end();
    const auto live_nodes = static_cast<Index>(on_node.size());
    const bool hierarchical = groups % nodes == 0 && even && groups % live_nodes == 0;
    const ExpertMaps small =
        rebalance_experts(load, 2, logical, slots * live, hierarchical ? groups : 1,
                          hierarchical ? live_nodes : 1, live);
    for (Index layer = 0; layer < 2; ++layer) {
      const Placement p = make_placement(ranks, logical, maps.layer(layer), {.rank_alive = alive});
      std::vector<Index> live_slots;
      for (Index s = 0; s < p.num_physical(); ++s) {
        if (p.alive(p.rank_of(s))) {
          live_slots.push_back(p.physical_to_logical[s]);
        } else {
          ASSERT_EQ(p.physical_to_logical[s], s % logical);
        }
      }
      ASSERT_THAT(live_slots, ElementsAreArray(small.layer(layer)));
      for (Index e = 0; e < logical; ++e) {  // the derived maps are those of all slots
        const std::size_t row = std::size_t{1} * layer * logical + e;
        ASSERT_EQ(maps.replica_count[row], p.replica_count[e]);
        const Index* const first = &maps.logical_to_physical[row * maps.max_replicas];
        std::vector<Index> replicas(first, first + p.replica_count[e]);
        ASSERT_TRUE(p.alive(p.rank_of(replicas[0])));
        std::sort(replicas.begin(), replicas.end());
        ASSERT_THAT(p.replicas(e), ElementsAreArray(replicas));
      }
    }
  }
}

TEST(LiveRanks, EplbIsNearTheBestPlacement) {
  std::mt19937 random(5);
  double sum = 0;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const auto below = [&](int n) { return static_cast<Index>(random() % n); };
    std::vector<char> alive = {1, 1, 1, 1};
    alive[below(4)] = 0;
    std::vector<double> speed;
    if (round % 2 == 1) {
      for (int g = 0; g < 4; ++g) speed.push_back(1.0 / (1 + below(3)));
    }
    // On 3 live ranks of 2 slots. With speeds there are no replicas, so that only the packing
    // counts.
    const Index logical = speed.empty() ? 4 + below(3) : 6;
    std::vector<double> load(logical);
    for (double& x : load) x = 10 + below(100);
    for (const bool spread : {false, true}) {
      const ExpertMaps maps =
          rebalance_experts(load, 1, logical, 8, 1, 1, 4,
                            {.spread = spread, .rank_speed = speed, .rank_alive = alive});
      const Placement p =
          make_placement(4, logical, maps.layer(0), {.rank_speed = speed, .rank_alive = alive});
      const double ratio = slowest(p, load) / least_slowest(p, load);
      EXPECT_LT(ratio, 4.0 / 3 + 0.05);
      sum += ratio;
    }
  }
  EXPECT_LT(sum / (2 * kRounds), 1.06);
}

TEST(LiveRanks, SpeedsSayHowMuchARankGets) {
  const std::vector<double> load(8, 10.0);
  const std::vector<double> speed = {1, 1, 1, 0.25};
  const ExpertMaps maps = rebalance_experts(load, 1, 8, 16, 1, 1, 4, {.rank_speed = speed});
  const Placement p = make_placement(4, 8, maps.layer(0), {.rank_speed = speed});
  EXPECT_LE(slowest(p, load), 80);  // that of two experts on each rank
  // Equal speeds are EPLB's, whatever they are.
  EXPECT_EQ(
      rebalance_experts(load, 1, 8, 16, 1, 1, 4, {.rank_speed = {3, 3, 3, 3}}).physical_to_logical,
      rebalance_experts(load, 1, 8, 16, 1, 1, 4).physical_to_logical);
}

TEST(LiveRanks, AreRefusedIfTheyDoNotFit) {
  const auto refusal = [](const RebalanceOptions& options) {
    try {
      rebalance_experts(std::vector<double>(4, 1.0), 1, 4, 6, 1, 1, 3, options);
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal({.rank_alive = {1, 0, 1}}), "");
  EXPECT_EQ(refusal({.rank_alive = {0, 0, 1}}),
            "rank_alive: the 1 live ranks have 2 slots, expected at least 4: one for each expert");
  EXPECT_EQ(refusal({.rank_alive = {0, 0, 0}}),
            "rank_alive: has no live rank, expected at least one");
  EXPECT_EQ(refusal({.rank_alive = {1, 1}}), "rank_alive: has 2 entries, expected num_ranks (3)");
  EXPECT_EQ(refusal({.rank_speed = {1, 1}}), "rank_speed: has 2 entries, expected num_ranks (3)");
  EXPECT_EQ(refusal({.rank_speed = {1, 0, 1}}),
            "rank_speed: rank 1 has speed 0, expected a finite number > 0 (2.3e-308 or more)");
}

}  // namespace
}  // namespace lplb
