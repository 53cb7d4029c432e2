// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "lplb/mapping.h"
#include "map/rules.h"
#include "support/backends.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Two nodes of two ranks of two slots. Expert 0 is in slots 0, 2, 4 and 6, other experts in the
// rest.
Placement four_ranks() {
  const std::vector<Index> map = {0, 1, 0, 2, 0, 3, 0, 4};
  return make_placement(4, 5, map, {.num_nodes = 2, .rank_speed = {}, .rank_alive = {}});
}

std::vector<std::int32_t> map_rank(const Placement& placement, const std::vector<Load>& counts,
                                   const std::vector<Load>& quotas, Index rank,
                                   const std::vector<std::int32_t>& topk, Backend backend) {
  std::vector<std::int32_t> out(topk.size(), -9);
  map_tokens(placement, counts, quotas, rank, topk, out, backend);
  return out;
}

class Map : public lplb::testing::BackendTest {};
LPLB_ON_ALL_BACKENDS(Map);

TEST_P(Map, KeepsTokensOnTheirRankThenOnTheirNode) {
  const Placement p = four_ranks();
  // Expert 0: rank 0 has 6 tokens, rank 2 has 1. Quotas 2, 3, 1, 1.
  const std::vector<Load> counts = {6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const std::vector<Load> quotas = {2, 0, 3, 0, 1, 0, 1, 0};
  EXPECT_THAT(map_rank(p, counts, quotas, 0, {0, 0, 0, 0, 0, 0}, GetParam()),
              ElementsAre(0, 0, 2, 2, 2, 6));
  EXPECT_THAT(map_rank(p, counts, quotas, 2, {0}, GetParam()), ElementsAre(4));
  const Locality local = count_local(p, counts, quotas);
  EXPECT_EQ(local.same_rank, 3);
  EXPECT_EQ(local.same_node, 6);
}

TEST_P(Map, FillsSlotsOfOneRankInOrder) {
  const std::vector<Index> slots = {0, 0, 0, 1};  // rank 0 has expert 0 twice, rank 1 once
  const Placement p = make_placement(2, 2, slots);
  const std::vector<Load> counts = {3, 0, 4, 0};
  const std::vector<Load> quotas = {2, 4, 1, 0};
  EXPECT_THAT(map_rank(p, counts, quotas, 0, {0, 0, 0}, GetParam()), ElementsAre(0, 0, 1));
  EXPECT_THAT(map_rank(p, counts, quotas, 1, {0, 0, 0, 0}, GetParam()), ElementsAre(2, 1, 1, 1));
}

TEST_P(Map, DroppedAndBadIdsBecomeMinusOne) {
  const Placement p = four_ranks();
  std::vector<Load> counts(20, 0);
  counts[1] = 2;
  const std::vector<Load> quotas = {0, 2, 0, 0, 0, 0, 0, 0};
  EXPECT_THAT(map_rank(p, counts, quotas, 0, {-1, 1, 5, -2, 1, 1 << 30}, GetParam()),
              ElementsAre(-1, 1, -1, -1, 1, -1));
  EXPECT_THAT(map_rank(p, std::vector<Load>(20, 0), std::vector<Load>(8, 0), 3, {}, GetParam()),
              ElementsAre());
}

TEST_P(Map, TakesHugeCounts) {
  // Counts near 2^62 with few tokens on this rank: the prefix sums must not pass 2^63.
  const Placement p = four_ranks();
  constexpr Load kHuge = Load{1} << 62;
  std::vector<Load> counts(20, 0);
  counts[0] = 2;           // rank 0
  counts[5] = kHuge - 2;   // rank 1
  counts[15] = kHuge - 1;  // rank 3
  const std::vector<Load> quotas = {1, 0, 1, 0, kHuge - 1, 0, kHuge - 2, 0};
  EXPECT_THAT(map_rank(p, counts, quotas, 0, {0, 0}, GetParam()), ElementsAre(0, 4));
}

void expect_refused(const std::function<void()>& call, const char* argument, const char* part) {
  try {
    call();
    ADD_FAILURE() << "accepted: expected " << argument << ": " << part;
  } catch (const ArgumentError& e) {
    EXPECT_EQ(e.argument(), argument);
    EXPECT_THAT(e.what(), HasSubstr(part));
  }
}

class MapBadInput : public lplb::testing::BackendTest {
 protected:
  void refuse(const char* argument, const char* part) {
    expect_refused([&] { map_tokens(placement, counts, quotas, rank, topk, out, GetParam()); },
                   argument, part);
    EXPECT_THAT(out, ::testing::Each(-9)) << "written in spite of " << part;
  }

  Placement placement = four_ranks();
  std::vector<Load> counts = {1, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  std::vector<Load> quotas = {1, 1, 0, 0, 1, 0, 1, 0};
  Index rank = 0;
  std::vector<std::int64_t> topk = {1, 0};
  std::vector<std::int64_t> out = {-9, -9};
};

LPLB_ON_ALL_BACKENDS(MapBadInput);

TEST_P(MapBadInput, NothingWrong) {
  expect_it_runs_there([&] { map_tokens(placement, counts, quotas, rank, topk, out, GetParam()); });
  EXPECT_THAT(out, ElementsAre(1, 0));
}

TEST_P(MapBadInput, Lengths) {
  out.push_back(-9);
  refuse("physical_idx", "has 3 entries, expected as many as topk_idx (2)");
  out.pop_back();
  quotas.push_back(0);
  refuse("physical_load", "has 9 entries, expected num_physical (8)");
  quotas.pop_back();
  counts.pop_back();
  refuse("counts", "has 19 entries, expected num_ranks * num_logical_experts (4 * 5)");
}

TEST_P(MapBadInput, Rank) {
  rank = 4;
  refuse("rank", "4 is not between 0 and 3");
  rank = -1;
  refuse("rank", "-1 is not between 0 and 3");
}

TEST_P(MapBadInput, Values) {
  quotas[2] = -1;
  refuse("physical_load", "physical expert 2 has -1 tokens");
  quotas[2] = 1;
  refuse("physical_load", "the replicas of expert 0 take 4 tokens, expected its count of 3");
  quotas[2] = 0;
  counts[6] = -4;
  refuse("counts", "expert 1 has -4 tokens on rank 1, expected >= 0");
  counts[6] = std::numeric_limits<Load>::max();
  refuse("counts", "the sum of expert 1 passes 2^63 - 1");
  counts[6] = 0;
  quotas[0] = quotas[2] = quotas[4] = std::numeric_limits<Load>::max();
  refuse("physical_load", "the sum of expert 0 passes 2^63 - 1");
}

TEST_P(MapBadInput, TokensThatAreNotWhatWasCounted) {
  topk = {0, 0};
  refuse("topk_idx", "holds 2 tokens of expert 0, expected what counts says of rank 0 (1)");
  topk = {0, -1};
  refuse("topk_idx", "holds 0 tokens of expert 1, expected what counts says of rank 0 (1)");
}

TEST_P(MapBadInput, QuotaOfADeadRank) {
  placement.rank_alive = {1, 1, 0, 1};
  refuse("physical_load", "physical expert 4 has 1 tokens, but rank 2 is dead");
}

TEST_P(MapBadInput, PlacementThatWasNotMade) {
  placement.num_nodes = 0;
  refuse("placement", "expected a placement made by make_placement()");
}

TEST(DivideEvenly, TurnsTheRemainderAndSkipsDeadRanks) {
  const std::vector<Index> replicas = {1, 3, 5, 6};  // two slots a rank
  const std::vector<char> alive = {1, 0, 1, 1};
  const auto shares = [&](Load tokens, Index turn, const char* who) {
    std::vector<map::Segment> segments(4);
    const Index n = map::divide_evenly(replicas.data(), 4, who, 2, tokens, turn, segments.data());
    std::vector<Load> share(8, 0);
    Load begin = 0;
    for (Index i = 0; i < n; ++i) {
      share[segments[i].physical] += segments[i].end - begin;
      begin = segments[i].end;
    }
    EXPECT_EQ(begin, tokens);
    return std::vector<Load>{share[1], share[3], share[5], share[6]};
  };
  EXPECT_THAT(shares(8, 0, nullptr), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(shares(10, 0, nullptr), ElementsAre(3, 3, 2, 2));
  EXPECT_THAT(shares(10, 3, nullptr), ElementsAre(3, 2, 2, 3));
  EXPECT_THAT(shares(2, 6, nullptr), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(shares(7, 1, alive.data()), ElementsAre(2, 0, 3, 2));
  EXPECT_THAT(shares(0, 1, nullptr), ElementsAre(0, 0, 0, 0));
}

TEST(MapBackend, WithoutADeviceCudaIsRefused) {
  if (cuda_support().missing.empty()) GTEST_SKIP() << "there is a device";
  const Placement p = make_placement(1, 1, std::vector<Index>{0});
  EXPECT_THROW(map_rank(p, {1}, {1}, 0, {0}, Backend::kCuda), CudaError);
  std::vector<std::int32_t> out(1);
  EXPECT_THROW(map_tokens_in_proportion(p, std::vector<Load>{1}, 0, std::vector<std::int32_t>{0},
                                        out, Backend::kCuda),
               CudaError);
}

}  // namespace
}  // namespace lplb
