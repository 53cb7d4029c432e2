// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

#include "map/map_test_support.h"
#include "support/backends.h"

// In random groups, the map is compared with the best that any assignment could do.
namespace lplb {
namespace {

using testing::MapInstance;
using testing::random_map_instance;
using testing::random_topk;

/// The most tokens of one expert that can stay: the maximum matching between single tokens and
/// single units of the quotas, where `stays` says which pairs are allowed. The algorithm is Kuhn's
/// augmenting paths. It shares no code with the map.
class Matching {
 public:
  Matching(std::vector<Index> token_rank, std::vector<Index> place_rank)
      : tokens_(std::move(token_rank)), places_(std::move(place_rank)) {}

  template <class Stays>
  Load most(Stays stays) {
    taken_by_.assign(places_.size(), -1);
    Load matched = 0;
    for (std::size_t t = 0; t < tokens_.size(); ++t) {
      seen_.assign(places_.size(), 0);
      matched += augment(static_cast<int>(t), stays) ? 1 : 0;
    }
    return matched;
  }

 private:
  template <class Stays>
  bool augment(int token, Stays stays) {
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (seen_[i] != 0 || !stays(tokens_[token], places_[i])) continue;
      seen_[i] = 1;
      if (taken_by_[i] < 0 || augment(taken_by_[i], stays)) {
        taken_by_[i] = token;
        return true;
      }
    }
    return false;
  }

  std::vector<Index> tokens_, places_;
  std::vector<int> taken_by_;
  std::vector<char> seen_;
};

/// The most tokens that any assignment which meets the quotas could keep on their rank, and, apart
/// from that, on their node.
Locality best_locality(const MapInstance& m) {
  const Placement& p = m.placement;
  Locality best;
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    std::vector<Index> tokens, places;
    for (Index g = 0; g < p.num_ranks; ++g) {
      tokens.insert(tokens.end(), static_cast<std::size_t>(m.counts[g * p.num_logical_experts + e]),
                    g);
    }
    for (const Index slot : p.replicas(e)) {
      places.insert(places.end(), static_cast<std::size_t>(m.physical_load[slot]), p.rank_of(slot));
    }
    Matching matching(tokens, places);
    best.same_rank += matching.most([](Index a, Index b) { return a == b; });
    best.same_node += matching.most([&](Index a, Index b) { return p.node_of(a) == p.node_of(b); });
  }
  return best;
}

struct Outcome {
  std::vector<Load> taken;  ///< [num_physical]: tokens that each replica took
  Locality stayed;
};

/// Maps the tokens of every rank, and checks each entry.
template <class Id>
Outcome map_group(const MapInstance& m, std::mt19937& random, Backend backend) {
  const Placement& p = m.placement;
  Outcome outcome;
  outcome.taken.assign(m.physical_load.size(), 0);
  for (Index rank = 0; rank < p.num_ranks; ++rank) {
    const std::vector<Id> topk = random_topk<Id>(m, rank, random);
    std::vector<Id> out(topk.size());
    map_tokens(p, m.counts, m.physical_load, rank, topk, out, backend);
    for (std::size_t i = 0; i < topk.size(); ++i) {
      if (topk[i] < 0 || topk[i] >= p.num_logical_experts) {
        EXPECT_EQ(out[i], -1);
        continue;
      }
      if (out[i] < 0 || out[i] >= p.num_physical()) {
        ADD_FAILURE() << "entry " << i << " of expert " << topk[i] << " went to " << out[i];
        continue;
      }
      const auto slot = static_cast<Index>(out[i]);
      EXPECT_EQ(p.physical_to_logical[slot], topk[i]);
      ++outcome.taken[slot];
      outcome.stayed.same_rank += p.rank_of(slot) == rank;
      outcome.stayed.same_node += p.node_of(p.rank_of(slot)) == p.node_of(rank);
    }
  }
  return outcome;
}

class MapOracle : public lplb::testing::BackendTest {};
LPLB_ON_ALL_BACKENDS(MapOracle);

TEST_P(MapOracle, QuotasAreMetExactlyAndNoAssignmentIsMoreLocal) {
  std::mt19937 random(20);
  Load stayed = 0;
  Load moved = 0;
  for (int repeat = 0; repeat < 400; ++repeat) {
    SCOPED_TRACE(repeat);
    const MapInstance m = random_map_instance(random);
    const Outcome outcome = map_group<std::int32_t>(m, random, GetParam());
    ASSERT_EQ(outcome.taken, m.physical_load);
    const Locality best = best_locality(m);
    ASSERT_EQ(outcome.stayed.same_rank, best.same_rank);
    ASSERT_EQ(outcome.stayed.same_node, best.same_node);
    const Locality said = count_local(m.placement, m.counts, m.physical_load);
    ASSERT_EQ(said.same_rank, best.same_rank);
    ASSERT_EQ(said.same_node, best.same_node);
    stayed += best.same_rank;
    moved += std::accumulate(m.counts.begin(), m.counts.end(), Load{0}) - best.same_node;
  }
  // The instances test something: some tokens stay, and some leave their node.
  EXPECT_GT(stayed, 1000);
  EXPECT_GT(moved, 1000);
}

TEST_P(MapOracle, LargerGroups) {
  std::mt19937 random(21);
  for (int repeat = 0; repeat < 30; ++repeat) {
    SCOPED_TRACE(repeat);
    const MapInstance m = random_map_instance(
        random, {.max_nodes = 8, .max_ranks_per_node = 8, .max_slots = 4, .max_tokens = 100});
    const Outcome outcome = map_group<std::int64_t>(m, random, GetParam());
    ASSERT_EQ(outcome.taken, m.physical_load);
    const Locality said = count_local(m.placement, m.counts, m.physical_load);
    ASSERT_EQ(outcome.stayed.same_rank, said.same_rank);
    ASSERT_EQ(outcome.stayed.same_node, said.same_node);
  }
}

// Batches for several blocks of threads, whose last slice is not full.
TEST_P(MapOracle, LargeBatchesAreMappedAsOnTheCpu) {
  std::mt19937 random(23);
  for (int repeat = 0; repeat < 10; ++repeat) {
    SCOPED_TRACE(repeat);
    const MapInstance m = random_map_instance(
        random, {.max_nodes = 2, .max_ranks_per_node = 3, .max_slots = 3, .max_tokens = 9000});
    const auto topk = random_topk<std::int64_t>(m, 0, random);
    std::vector<std::int64_t> expected(topk.size()), out(topk.size());
    map_tokens(m.placement, m.counts, m.physical_load, 0, topk, expected);
    map_tokens(m.placement, m.counts, m.physical_load, 0, topk, out, GetParam());
    ASSERT_EQ(out, expected);
  }
}

TEST_P(MapOracle, SameEachTimeInPlaceAndForBothWidths) {
  std::mt19937 random(22);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const MapInstance m = random_map_instance(random);
    const Index rank = static_cast<Index>(random() % m.placement.num_ranks);
    const auto topk = random_topk<std::int32_t>(m, rank, random);
    std::vector<std::int32_t> once(topk.size()), twice(topk.size()), in_place = topk;
    map_tokens(m.placement, m.counts, m.physical_load, rank, topk, once, GetParam());
    map_tokens(m.placement, m.counts, m.physical_load, rank, topk, twice, GetParam());
    map_tokens(m.placement, m.counts, m.physical_load, rank, in_place, in_place, GetParam());
    EXPECT_EQ(once, twice);
    EXPECT_EQ(once, in_place);
    const std::vector<std::int64_t> wide(topk.begin(), topk.end());
    std::vector<std::int64_t> wide_out(topk.size());
    map_tokens(m.placement, m.counts, m.physical_load, rank, wide, wide_out, GetParam());
    EXPECT_EQ(wide_out, std::vector<std::int64_t>(once.begin(), once.end()));
  }
}

}  // namespace
}  // namespace lplb
