// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "lplb/placement.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

TEST(LiveTopology, EveryExpertIsOnALiveRankAndNeverTwiceOnOne) {
  std::mt19937 random(9);
  const auto below = [&](Index n) { return static_cast<Index>(random() % n); };
  int placed = 0;
  for (int round = 0; round < 400; ++round) {
    const Topology topologies[] = {cube(), ring(4), torus(2, 3), hypercube()};
    const Topology& topology = topologies[below(4)];
    const Index ranks = topology.group_size * (1 + below(2));
    const Index own = 1 + below(4);
    const Index redundants = below(own + 1);
    const Index logical = own * ranks;
    std::vector<double> load(std::size_t{2} * logical);
    for (double& x : load) x = below(1000);
    RebalanceOptions options;
    options.rank_alive.resize(ranks);
    const Index one_in = 2 + below(8);
    for (char& alive : options.rank_alive) alive = below(one_in) > 0;
    if (round % 3 == 0) {
      for (Index g = 0; g < ranks; ++g) options.rank_speed.push_back(1.0 / (1 + below(4)));
    }
    const auto live = std::count(options.rank_alive.begin(), options.rank_alive.end(), 1);
    if (live * (own + redundants) < logical) {
      EXPECT_THROW(place_on_topology(load, 2, logical, topology, redundants, ranks, 1, options),
                   ArgumentError);
      continue;
    }
    ++placed;
    const ExpertMaps maps =
        place_on_topology(load, 2, logical, topology, redundants, ranks, 1, options);
    options.num_threads = 3;
    EXPECT_EQ(place_on_topology(load, 2, logical, topology, redundants, ranks, 1, options)
                  .physical_to_logical,
              maps.physical_to_logical);
    for (Index layer = 0; layer < 2; ++layer) {
      const Placement p =
          make_placement(ranks, logical, maps.layer(layer), {.rank_alive = options.rank_alive});
      for (Index e = 0; e < logical; ++e) {
        std::vector<Index> on;
        for (const Index s : p.replicas(e)) {
          if (p.alive(p.rank_of(s))) on.push_back(p.rank_of(s));
        }
        ASSERT_TRUE(std::adjacent_find(on.begin(), on.end()) == on.end()) << "expert " << e;
      }
    }
  }
  EXPECT_GT(placed, 100);
}

TEST(LiveTopology, ReplicasGoAlongEdgesToLiveNeighboursThenByHeat) {
  // Ring of 4: rank g copies from g + 1. Rank 2 is dead, so rank 1 has no live neighbour.
  const std::vector<double> load = {80, 70, 60, 50, 40, 30, 20, 10};
  const ExpertMaps maps =
      place_on_topology(load, 1, 8, ring(4), 2, 4, 1, {.rank_alive = {1, 1, 0, 1}});
  // Originals: {0, 5, 6}, {1, 4, 7} and {2, 3}. Rank 0 copies the heaviest of rank 1, rank 3 the
  // two heaviest of rank 0, and rank 1 the expert with most load a replica that it lacks.
  EXPECT_THAT(maps.layer(0), ElementsAre(0, 5, 6, 1, 1, 4, 7, 2, 0, 1, 2, 3, 2, 3, 0, 5));
}

TEST(LiveTopology, EdgesGoBeforeHeat) {
  // Ranks 0 and 2 copy from one another. Rank 3 is dead, so rank 1 has no live neighbour.
  const std::vector<double> load = {80, 70, 60, 50, 40, 30, 20, 10};
  const Topology pairs = custom_topology(std::vector<Index>{2, 3, 0, 1}, 4, 1);
  const ExpertMaps maps =
      place_on_topology(load, 1, 8, pairs, 2, 4, 1, {.rank_alive = {1, 1, 1, 0}});
  // Originals: {0, 5, 6}, {1, 4, 7} and {2, 3}. Expert 1 has most load a replica, but rank 0 copies
  // the heaviest of rank 2.
  EXPECT_THAT(maps.layer(0), ElementsAre(0, 5, 6, 2, 1, 4, 7, 3, 2, 3, 0, 5, 4, 5, 6, 7));
}

TEST(LiveTopology, WithAllRanksAliveAndEqualNothingChanges) {
  const std::vector<double> load = {80, 70, 60, 50, 40, 30, 20, 10};
  EXPECT_EQ(place_on_topology(load, 1, 8, ring(4), 2, 4, 1,
                              {.rank_speed = {2, 2, 2, 2}, .rank_alive = {1, 1, 1, 1}})
                .physical_to_logical,
            place_on_topology(load, 1, 8, ring(4), 2, 4).physical_to_logical);
}

TEST(LiveTopology, SlowRanksGetLess) {
  std::vector<double> load(16);
  for (std::size_t e = 0; e < load.size(); ++e) load[e] = static_cast<double>(10 + 9 * e);
  const std::vector<double> speed = {1, 0.5, 1, 1};
  const Placement with = make_placement(
      4, 16, place_on_topology(load, 1, 16, ring(4), 1, 4, 1, {.rank_speed = speed}).layer(0),
      {.rank_speed = speed});
  const Placement without = make_placement(
      4, 16, place_on_topology(load, 1, 16, ring(4), 1, 4).layer(0), {.rank_speed = speed});
  EXPECT_LT(even_imbalance(with, load), 0.8 * even_imbalance(without, load));
}

}  // namespace
}  // namespace lplb
