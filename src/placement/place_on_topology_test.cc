// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "lplb/placement.h"
#include "placement/rebalance_test_support.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::random_load;

struct Fit {
  Topology topology;
  Index layers, logical, redundants, ranks, nodes;
};

std::vector<Fit> fits() {
  return {{cube(), 3, 64, 2, 8, 1},
          {cube(), 2, 64, 1, 16, 2},
          {cube(), 1, 64, 8, 8, 1},
          {hypercube(), 2, 64, 4, 16, 4},
          {torus(4, 4), 2, 128, 3, 32, 4},
          {torus(2, 2), 1, 12, 3, 4, 1},
          {ring(5), 2, 40, 2, 10, 1},
          {ring(2), 1, 4, 2, 2, 2},
          {torus(8, 4), 1, 256, 2, 32, 8},
          {cube(), 2, 64, 0, 8, 1},
          {custom_topology(std::vector<Index>{1, 2, 3, 2, 3, 0, 3, 0, 1, 0, 1, 2}, 4, 3), 2, 64, 5,
           8, 1}};
}

TEST(PlaceOnTopology, SlotsFollowTheContract) {
  for (const Fit& f : fits()) {
    SCOPED_TRACE(f.topology.name + " redundants " + std::to_string(f.redundants));
    const auto load = random_load(std::size_t{1} * f.layers * f.logical, 11, 1000);
    const ExpertMaps maps =
        place_on_topology(load, f.layers, f.logical, f.topology, f.redundants, f.ranks, f.nodes);
    const Index own = f.logical / f.ranks;
    const Index slots = own + f.redundants;
    ASSERT_EQ(maps.num_physical, slots * f.ranks);
    const ExpertMaps order = rebalance_experts(load, f.layers, f.logical, f.logical,
                                               f.nodes == 1 ? 1 : f.logical, f.nodes, f.ranks);
    for (Index layer = 0; layer < f.layers; ++layer) {
      const auto slot = maps.layer(layer);
      const auto load_of = [&](Index e) { return load[std::size_t{1} * layer * f.logical + e]; };
      for (Index g = 0; g < f.ranks; ++g) {
        const auto mine = slot.subspan(g * slots, own);
        EXPECT_THAT(std::vector<Index>(mine.begin(), mine.end()),
                    ::testing::UnorderedElementsAreArray(order.layer(layer).subspan(g * own, own)));
        EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end(),
                                   [&](Index a, Index b) { return load_of(a) > load_of(b); }));
        const Index group = g / f.topology.group_size * f.topology.group_size;
        for (Index d = 0; d < f.redundants; ++d) {
          const Index source = group + f.topology.original(g - group, d % f.topology.num_columns);
          EXPECT_NE(source, g);
          EXPECT_EQ(slot[g * slots + own + d], slot[source * slots + d]);
        }
      }
    }
  }
}

TEST(PlaceOnTopology, AReplicaIsOnAnotherRankOfTheGroup) {
  for (const Fit& f : fits()) {
    SCOPED_TRACE(f.topology.name);
    const auto load = random_load(std::size_t{1} * f.layers * f.logical, 12, 1000);
    const ExpertMaps maps =
        place_on_topology(load, f.layers, f.logical, f.topology, f.redundants, f.ranks, f.nodes);
    EXPECT_EQ(maps.max_replicas, f.redundants > 0 ? 2 : 1);
    const Index own = f.logical / f.ranks;
    for (Index layer = 0; layer < f.layers; ++layer) {
      const Placement placement = make_placement(f.ranks, f.logical, maps.layer(layer));
      Index num_replicated = 0;
      for (Index e = 0; e < f.logical; ++e) {
        const std::size_t row = std::size_t{1} * layer * f.logical + e;
        ASSERT_EQ(maps.replica_count[row], placement.replica_count[e]);
        const Index original = maps.logical_to_physical[row * maps.max_replicas];
        EXPECT_LT(original % placement.slots_per_rank(), own);
        if (placement.replica_count[e] == 1) continue;
        ++num_replicated;
        ASSERT_EQ(placement.replica_count[e], 2);
        const Index replica = maps.logical_to_physical[row * maps.max_replicas + 1];
        EXPECT_GE(replica % placement.slots_per_rank(), own);
        EXPECT_EQ(placement.physical_to_logical[replica], e);
        EXPECT_NE(placement.rank_of(original), placement.rank_of(replica));
        EXPECT_EQ(placement.rank_of(original) / f.topology.group_size,
                  placement.rank_of(replica) / f.topology.group_size);
      }
      EXPECT_EQ(num_replicated, f.redundants * f.ranks);
    }
  }
}

TEST(PlaceOnTopology, NodesAreLevelledFirst) {
  // There are two nodes of two ranks, so three of the six heavy experts go to each node.
  const std::vector<double> load{90, 90, 90, 90, 90, 90, 0, 0, 0, 0, 0, 0};
  const ExpertMaps maps = place_on_topology(load, 1, 12, torus(2, 2), 1, 4, 2);
  double node_load[2] = {0, 0};
  for (Index g = 0; g < 4; ++g) {
    for (Index s = 0; s < 3; ++s) node_load[g / 2] += load[maps.layer(0)[g * 4 + s]];
  }
  EXPECT_EQ(node_load[0], node_load[1]);
}

TEST(PlaceOnTopology, ThreadsDoNotChangeTheResult) {
  const auto load = random_load(20 * 64, 13, 1000);
  const ExpertMaps one = place_on_topology(load, 20, 64, cube(), 2, 8, 1, {.num_threads = 1});
  const ExpertMaps many = place_on_topology(load, 20, 64, cube(), 2, 8, 1, {.num_threads = 7});
  EXPECT_EQ(one.physical_to_logical, many.physical_to_logical);
  EXPECT_EQ(one.logical_to_physical, many.logical_to_physical);
}

TEST(PlaceOnTopology, RefusesWhatDoesNotFit) {
  const auto refusal = [](std::size_t entries, Index layers, Index logical,
                          const Topology& topology, Index redundants, Index ranks, Index nodes = 1,
                          int threads = 1) {
    try {
      place_on_topology(std::vector<double>(entries, 1.0), layers, logical, topology, redundants,
                        ranks, nodes, {.num_threads = threads});
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_EQ(refusal(64, 1, 64, cube(), 2, 12),
            "num_ranks: 12 is not a multiple of the 8 ranks of topology cube");
  EXPECT_EQ(refusal(64, 1, 64, cube(), 2, 0), "num_ranks: 0 is not between 1 and 1024");
  EXPECT_EQ(refusal(60, 1, 60, cube(), 2, 8), "num_logical: 60 is not a multiple of num_ranks (8)");
  EXPECT_EQ(refusal(64, 1, 64, cube(), 9, 8),
            "redundants: 9 is not between 0 and the 8 experts of a rank");
  EXPECT_EQ(refusal(64, 1, 64, cube(), -1, 8),
            "redundants: -1 is not between 0 and the 8 experts of a rank");
  EXPECT_EQ(refusal(4096, 1, 4096, cube(), 1, 8),
            "redundants: 1 on each of 8 ranks make more than 4096 physical experts");
  EXPECT_EQ(refusal(64, 1, 64, cube(), 2, 8, 3), "num_nodes: 3 does not divide num_ranks (8)");
  EXPECT_EQ(refusal(64, 1, 64, cube(), 2, 8, 0), "num_nodes: 0 does not divide num_ranks (8)");
  EXPECT_EQ(refusal(64, 1, 64, cube(), 2, 8, 1, 0), "num_threads: 0 is not >= 1");
  EXPECT_THAT(refusal(63, 1, 64, cube(), 2, 8), HasSubstr("load: has 63 entries"));
  Topology broken = cube();
  broken.r2o[0] = 0;
  EXPECT_EQ(refusal(64, 1, 64, broken, 2, 8), "r2o: rank 0, column 0: rank 0 would copy itself");
}

}  // namespace
}  // namespace lplb
