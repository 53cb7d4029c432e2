// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "lplb/placement.h"
#include "placement/rebalance_test_support.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::random_load;
using testing::rebalance;
using testing::RebalanceCase;

const RebalanceCase kCases[] = {
    {3, 64, 80, 8, 2, 8},     {2, 64, 72, 1, 1, 8},      {2, 256, 288, 8, 4, 32},
    {2, 256, 320, 8, 3, 64},  {1, 60, 72, 1, 1, 12},     {4, 16, 64, 4, 2, 4},
    {2, 7, 7, 1, 1, 1},       {1, 1, 8, 1, 1, 8},        {2, 5, 8, 1, 1, 8},
    {1, 4096, 4096, 1, 1, 8}, {1, 96, 1024, 4, 4, 1024}, {2, 96, 96, 12, 4, 8},
};

#ifdef __GLIBCXX__
// The same policy, written as simply as possible: scans in place of tournament trees, and
// std::sort.
std::vector<std::size_t> pack(const std::vector<float>& weight, Index num_packs) {
  const std::size_t capacity = weight.size() / num_packs;
  std::vector<std::size_t> slot(weight.size()), order(weight.size());
  std::iota(slot.begin(), slot.end(), 0);
  std::iota(order.begin(), order.end(), 0);
  if (capacity == 1) return slot;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return weight[a] > weight[b]; });
  std::vector<float> total(num_packs, 0);
  std::vector<std::size_t> filled(num_packs, 0);
  for (const std::size_t item : order) {
    std::size_t best = total.size();
    for (std::size_t p = 0; p < total.size(); ++p) {
      if (filled[p] < capacity && (best == total.size() || total[p] < total[best])) best = p;
    }
    slot[item] = best * capacity + filled[best]++;
    total[best] += weight[item];
  }
  return slot;
}

// The slots of one layer. Loads must be whole numbers with sums below 2^24, so that sums are exact.
std::vector<Index> naive_layer(std::span<const double> load, RebalanceCase c) {
  if (c.groups % c.nodes != 0) c.groups = c.nodes = 1;
  const Index group_size = c.logical / c.groups;
  std::vector<float> group(c.groups);
  for (Index e = 0; e < c.logical; ++e) group[e / group_size] += static_cast<float>(load[e]);
  const auto group_slot = pack(group, c.nodes);
  std::vector<Index> experts(c.logical);
  for (Index e = 0; e < c.logical; ++e) {
    experts[group_slot[e / group_size] * group_size + e % group_size] = e;
  }
  std::vector<Index> result(c.replicas);
  const Index in_node = c.logical / c.nodes;
  const Index slots = c.replicas / c.nodes;
  for (Index node = 0; node < c.nodes; ++node) {
    std::vector<Index> replicas(experts.begin() + node * in_node,
                                experts.begin() + (node + 1) * in_node);
    std::vector<Index> count(c.logical, 1);
    const auto share = [&](Index e) {
      return static_cast<float>(load[e]) / static_cast<float>(count[e]);
    };
    while (static_cast<Index>(replicas.size()) < slots) {
      const auto heaviest = std::max_element(replicas.begin(), replicas.begin() + in_node,
                                             [&](Index a, Index b) { return share(a) < share(b); });
      ++count[*heaviest];
      replicas.push_back(*heaviest);
    }
    std::vector<float> weight;
    for (const Index e : replicas) weight.push_back(share(e));
    const auto slot = pack(weight, c.ranks / c.nodes);
    for (Index r = 0; r < slots; ++r) result[node * slots + slot[r]] = replicas[r];
  }
  return result;
}

TEST(RebalanceExperts, SameSlotsAsTheNaivePolicy) {
  for (const RebalanceCase& c : kCases) {
    for (const std::uint32_t distinct : {1U, 2U, 7U, 1000U, 4000U}) {
      const auto load = random_load(c, distinct, distinct);
      const ExpertMaps maps = rebalance(load, c);
      for (Index layer = 0; layer < c.layers; ++layer) {
        const auto row = std::span(load).subspan(std::size_t{1} * layer * c.logical, c.logical);
        ASSERT_THAT(maps.layer(layer), ::testing::ElementsAreArray(naive_layer(row, c)))
            << c.logical << " -> " << c.replicas << ", loads below " << distinct;
      }
    }
  }
}
#endif

TEST(RebalanceExperts, MapsAgreeAndHeavierExpertsHaveNoFewerReplicas) {
  for (const RebalanceCase& c : kCases) {
    const auto load = random_load(c, 3, 30000);
    const ExpertMaps maps = rebalance(load, c);
    ASSERT_EQ(maps.physical_to_logical.size(), std::size_t{1} * c.layers * c.replicas);
    for (Index layer = 0; layer < c.layers; ++layer) {
      // make_placement() throws if an expert has no slot.
      const Placement placement = make_placement(c.ranks, c.logical, maps.layer(layer));
      const std::size_t first = std::size_t{1} * layer * c.logical;
      for (Index e = 0; e < c.logical; ++e) {
        ASSERT_EQ(maps.replica_count[first + e], placement.replica_count[e]);
        const Index* row = &maps.logical_to_physical[(first + e) * maps.max_replicas];
        std::vector<Index> replicas(row, row + placement.replica_count[e]);
        ASSERT_TRUE(std::all_of(row + replicas.size(), row + maps.max_replicas,
                                [](Index p) { return p == -1; }));
        std::sort(replicas.begin(), replicas.end());
        ASSERT_THAT(placement.replicas(e), ::testing::ElementsAreArray(replicas));
      }
      if (c.groups % c.nodes == 0 && c.nodes > 1)
        continue;  // counts can be compared only within a node
      for (Index a = 0; a < c.logical; ++a) {
        for (Index b = 0; b < c.logical; ++b) {
          if (load[first + a] > load[first + b]) {
            ASSERT_GE(placement.replica_count[a], placement.replica_count[b]);
          }
        }
      }
    }
  }
}

TEST(RebalanceExperts, GroupsStayOnOneNode) {
  const RebalanceCase c{2, 64, 80, 8, 4, 16};
  const ExpertMaps maps = rebalance(random_load(c, 5, 30000), c);
  for (Index layer = 0; layer < c.layers; ++layer) {
    std::vector<Index> node_of_group(c.groups, -1);
    for (Index p = 0; p < c.replicas; ++p) {
      Index& node = node_of_group[maps.layer(layer)[p] / (c.logical / c.groups)];
      if (node < 0) node = p / (c.replicas / c.nodes);
      ASSERT_EQ(node, p / (c.replicas / c.nodes));
    }
  }
}

TEST(RebalanceExperts, ThreadsDoNotChangeTheResult) {
  const RebalanceCase c{58, 64, 80, 8, 2, 8};
  const auto load = random_load(c, 7, 100);
  const ExpertMaps one = rebalance(load, c);
  for (const int num_threads : {2, 3, 8, 100, std::numeric_limits<int>::max()}) {
    const ExpertMaps many = rebalance(load, c, {.num_threads = num_threads});
    EXPECT_EQ(many.physical_to_logical, one.physical_to_logical);
    EXPECT_EQ(many.logical_to_physical, one.logical_to_physical);
    EXPECT_EQ(many.replica_count, one.replica_count);
  }
}

TEST(RebalanceExperts, MinusZeroIsZero) {
  const RebalanceCase c{1, 4, 6, 1, 1, 2};
  EXPECT_EQ(rebalance({0.0, -0.0, 0.0, -0.0}, c).physical_to_logical,
            rebalance({0.0, 0.0, 0.0, 0.0}, c).physical_to_logical);
}

TEST(RebalanceExperts, LoadsBeyondFloat32AreAlike) {
  const RebalanceCase c{1, 4, 6, 1, 1, 2};
  EXPECT_EQ(rebalance({1e300, 1e39, 1, 1e308}, c).physical_to_logical,
            rebalance({1e39, 1e39, 1, 1e39}, c).physical_to_logical);
}

void expect_refused(const std::vector<double>& load, const RebalanceCase& c, int num_threads,
                    const std::string& argument, const std::string& problem) {
  try {
    rebalance(load, c, {.num_threads = num_threads});
    ADD_FAILURE() << "accepted, expected " << argument << ": " << problem;
  } catch (const ArgumentError& error) {
    EXPECT_EQ(error.argument(), argument);
    EXPECT_THAT(error.what(), HasSubstr(problem));
  }
}

TEST(RebalanceExperts, RefusesShapesThatDoNotFit) {
  const std::vector<double> load(24, 1.0);
  const auto refused = [&](const RebalanceCase& c, const char* argument, const char* problem) {
    expect_refused(load, c, 1, argument, problem);
  };
  refused({0, 12, 16, 4, 2, 8}, "num_layers", "0 is not >= 1");
  refused({-1, 12, 16, 4, 2, 8}, "num_layers", "-1 is not >= 1");
  refused({2, 0, 16, 4, 2, 8}, "num_logical", "0 is not between 1 and 4096");
  refused({2, 4097, 16, 4, 2, 8}, "num_logical", "4097 is not between 1 and 4096");
  refused({2, 11, 16, 4, 2, 8}, "load",
          "has 24 entries, expected num_layers * num_logical (2 * 11)");
  refused({2, 12, 16, 4, 2, 0}, "num_ranks", "0 is not between 1 and 1024");
  refused({2, 12, 1025, 4, 2, 1025}, "num_ranks", "1025 is not between 1 and 1024");
  refused({2, 12, 8, 4, 2, 8}, "num_replicas", "8 slots do not hold 12 logical experts");
  refused({2, 12, 4104, 4, 2, 8}, "num_replicas", "4104 is above the limit of 4096");
  refused({2, 12, 17, 4, 2, 8}, "num_replicas", "17 is not a multiple of num_ranks (8)");
  refused({2, 12, 16, 0, 2, 8}, "num_groups", "0 is not >= 1");
  refused({2, 12, 16, 5, 5, 8}, "num_groups",
          "5 does not divide the number of logical experts (12)");
  refused({2, 12, 16, 4, 0, 8}, "num_nodes", "0 is not >= 1");
  refused({2, 12, 16, 3, 3, 8}, "num_nodes", "3 does not divide num_ranks (8)");
  expect_refused(load, {2, 12, 16, 4, 2, 8}, 0, "num_threads", "0 is not >= 1");
}

TEST(RebalanceExperts, NamesTheLayerAndExpertOfABadLoad) {
  const RebalanceCase c{2, 12, 16, 4, 2, 8};
  const double inf = std::numeric_limits<double>::infinity();
  for (const auto& [value, text] : {std::pair{-1.0, "-1"},
                                    {inf, "inf"},
                                    {-inf, "-inf"},
                                    {std::nan(""), "nan"},
                                    {-1e-300, "-1e-300"}}) {
    std::vector<double> load(24, 1.0);
    load[17] = value;
    expect_refused(
        load, c, 1, "load",
        "layer 1, expert 5 has load " + std::string(text) + ", expected a finite number >= 0");
  }
}

}  // namespace
}  // namespace lplb
