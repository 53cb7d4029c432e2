// SPDX-License-Identifier: MIT
#include "map/sums.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "map/map_test_support.h"

namespace lplb::map {
namespace {

/// Compares the segments of assign_by_sums() and assign_exactly(), for every rank and expert.
void compare(const testing::MapInstance& m) {
  const Placement& p = m.placement;
  const Index per_node = p.num_ranks / p.num_nodes;
  const auto tokens = [&](Index g, Index e) { return m.counts[g * p.num_logical_experts + e]; };
  const auto sum = [&](Index begin, Index end, Index e) {
    Load all = 0;
    for (Index g = begin; g < end; ++g) all += tokens(g, e);
    return all;
  };
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    const std::span<const Index> replicas = p.replicas(e);
    std::vector<std::uint16_t> ranks;
    std::vector<Load> quota, rank_tokens, node_tokens;
    for (const Index slot : replicas) {
      const Index g = p.rank_of(slot);
      const Index first = p.node_of(g) * per_node;
      ranks.push_back(static_cast<std::uint16_t>(g));
      quota.push_back(m.physical_load[slot]);
      rank_tokens.push_back(tokens(g, e));
      node_tokens.push_back(sum(first, first + per_node, e));
    }
    for (Index rank = 0; rank < p.num_ranks; ++rank) {
      const Index first = p.node_of(rank) * per_node;
      const auto count = static_cast<Index>(replicas.size());
      std::vector<Segment> expected(replicas.size()), got(replicas.size());
      const ExpertBatch batch{m.counts.data() + e,
                              p.num_logical_experts,
                              m.physical_load.data(),
                              replicas.data(),
                              count,
                              p.num_ranks,
                              per_node,
                              p.slots_per_rank()};
      expected.resize(static_cast<std::size_t>(assign_exactly(batch, rank, expected.data())));
      const SummedExpert<Load> summed{
          replicas.data(), ranks.data(), quota.data(),    rank_tokens.data(),  node_tokens.data(),
          count,           per_node,     tokens(rank, e), sum(first, rank, e), sum(0, first, e)};
      got.resize(static_cast<std::size_t>(assign_by_sums(
          summed, rank, rank / summed.ranks_per_node * summed.ranks_per_node, got.data())));
      ASSERT_EQ(got.size(), expected.size()) << "expert " << e << ", rank " << rank;
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].end, expected[i].end) << "expert " << e << ", rank " << rank;
        ASSERT_EQ(got[i].physical, expected[i].physical) << "expert " << e << ", rank " << rank;
      }
    }
  }
}

TEST(MapBySums, GivesTheSegmentsOfTheRules) {
  std::mt19937 random(40);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    SCOPED_TRACE(repeat);
    compare(testing::random_map_instance(random));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(MapBySums, LargerGroups) {
  std::mt19937 random(41);
  for (int repeat = 0; repeat < 40; ++repeat) {
    SCOPED_TRACE(repeat);
    compare(testing::random_map_instance(
        random, {.max_nodes = 8, .max_ranks_per_node = 8, .max_slots = 6, .max_tokens = 60}));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace lplb::map
