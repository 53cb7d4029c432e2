// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "map/map_test_support.h"
#include "map/rules.h"
#include "support/backends.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::MapInstance;
using testing::random_map_instance;
using testing::random_topk;

constexpr Load kMax = std::numeric_limits<Load>::max();

/// How many of the `tokens` of `expert` on `rank` each replica takes.
std::vector<Load> shares(const std::vector<Load>& quota, Load tokens, Index rank, Index expert) {
  const auto n = static_cast<Index>(quota.size());
  std::vector<Index> replicas(quota.size());
  for (Index i = 0; i < n; ++i) replicas[i] = i;
  std::vector<map::Segment> segments(quota.size());
  const auto quota_of = [&](Index i) { return quota[i]; };
  const Index written = map::divide_in_proportion(replicas.data(), n, quota_of, tokens, rank,
                                                  expert, segments.data());
  std::vector<Load> share(quota.size(), 0);
  Load begin = 0;
  for (Index i = 0; i < written; ++i) {
    EXPECT_GT(segments[i].end, begin) << "an empty segment, or one that runs backwards";
    share[segments[i].physical] += segments[i].end - begin;
    begin = segments[i].end;
  }
  EXPECT_EQ(begin, tokens);
  return share;
}

/// Each replica is off by less than one token: |share * sum - tokens * quota| < sum, in exact
/// arithmetic.
void expect_less_than_one_off(const std::vector<Load>& quota, Load tokens, Index rank,
                              Index expert) {
  __extension__ typedef __int128 Wide;
  Load sum = 0;
  for (const Load q : quota) sum += q;
  const std::vector<Load> share = shares(quota, tokens, rank, expert);
  for (std::size_t i = 0; i < quota.size(); ++i) {
    Wide gap = static_cast<Wide>(share[i]) * sum - static_cast<Wide>(tokens) * quota[i];
    if (gap < 0) gap = -gap;
    ASSERT_TRUE(gap < sum) << "replica " << i << " takes " << share[i] << " of " << tokens
                           << " with quota " << quota[i] << " of " << sum;
    ASSERT_TRUE(quota[i] > 0 || share[i] == 0);
  }
}

TEST(MapInProportion, EachReplicaIsOffByLessThanOneToken) {
  std::mt19937_64 random(30);
  for (int repeat = 0; repeat < 5000; ++repeat) {
    const int bits = static_cast<int>(random() % 50);
    std::vector<Load> quota(1 + random() % 9);
    Load sum = 0;
    for (Load& q : quota) {
      q = static_cast<Load>(random() >> (14 + bits));
      sum += q;
    }
    if (sum == 0) quota[0] = 1;
    const Load tokens = static_cast<Load>(random() >> (1 + random() % 63));
    expect_less_than_one_off(quota, tokens, static_cast<Index>(random() % kMaxRanks),
                             static_cast<Index>(random() % kMaxPhysical));
  }
}

TEST(MapInProportion, DoesNotOverflow) {
  for (const Index rank : {0, 1, 7, 1023}) {
    expect_less_than_one_off({kMax - 1, 1}, kMax, rank, 5);
    expect_less_than_one_off({1, kMax - 1}, kMax, rank, 5);
    expect_less_than_one_off({kMax / 2, 0, kMax / 2}, kMax, rank, 4095);
    expect_less_than_one_off({kMax}, kMax, rank, 0);
    expect_less_than_one_off({kMax - 1, 1}, 1, rank, 0);
  }
}

TEST(MapInProportion, SaysSoWhereTheSplitHasNoTokens) {
  const std::vector<Index> replicas = {0, 1};
  const std::vector<Load> quota = {0, 0};
  map::Segment segment;
  const auto quota_of = [&](Index i) { return quota[i]; };
  EXPECT_EQ(map::divide_in_proportion(replicas.data(), 2, quota_of, Load{4}, 0, 0, &segment), 0);
}

// The planner's kernels compute in int. Up to the largest sums that they take, the result is the
// same.
TEST(MapInProportion, IsTheSameInIntegersOf32Bits) {
  constexpr int kMost = std::numeric_limits<int>::max();
  std::mt19937 random(31);
  for (int repeat = 0; repeat < 5000; ++repeat) {
    const int bits = static_cast<int>(random() % 31);
    std::vector<Load> quota(1 + random() % 9);
    Load left = kMost >> bits;
    for (Load& q : quota) {
      q = static_cast<Load>(random() % static_cast<std::uint64_t>(left + 1));
      left -= q;
    }
    if (left == kMost >> bits) quota[0] = 1;
    const int tokens = repeat % 7 == 0 ? kMost : static_cast<int>(random() >> (1 + random() % 31));
    const auto rank = static_cast<Index>(random() % kMaxRanks);
    const auto expert = static_cast<Index>(random() % kMaxPhysical);
    const std::vector<Load> want = shares(quota, tokens, rank, expert);
    std::vector<Index> replicas(quota.size());
    std::iota(replicas.begin(), replicas.end(), 0);
    std::vector<map::BasicSegment<int>> segments(quota.size());
    const Index written = map::divide_in_proportion(
        replicas.data(), static_cast<Index>(quota.size()),
        [&](Index i) { return static_cast<int>(quota[i]); }, tokens, rank, expert, segments.data());
    std::vector<Load> share(quota.size(), 0);
    for (Index i = 0; i < written; ++i) {
      share[segments[i].physical] = segments[i].end - (i > 0 ? segments[i - 1].end : 0);
    }
    ASSERT_EQ(share, want);
  }
}

// Each rank has one token. If all ranks rounded in the same way, one replica would get all tokens.
// The same holds for one token of each expert on one rank.
TEST(MapInProportion, RoundsDifferentlyOnEachRankAndForEachExpert) {
  const std::vector<Load> quota = {10, 30, 20};
  for (const Index group : {8, 64, 1024}) {
    for (const bool over_ranks : {true, false}) {
      std::vector<Load> sum(3, 0);
      for (Index i = 0; i < group; ++i) {
        const std::vector<Load> share = shares(quota, 1, over_ranks ? i : 3, over_ranks ? 3 : i);
        for (std::size_t j = 0; j < 3; ++j) sum[j] += share[j];
      }
      for (std::size_t j = 0; j < 3; ++j) {
        const double fair = static_cast<double>(group * quota[j]) / 60;
        EXPECT_LT(std::abs(static_cast<double>(sum[j]) - fair), 3.0)
            << group << (over_ranks ? " ranks" : " experts") << ", replica " << j;
      }
    }
  }
}

class MapTokensInProportion : public lplb::testing::BackendTest {};
LPLB_ON_ALL_BACKENDS(MapTokensInProportion);

TEST_P(MapTokensInProportion, TokensReachLiveReplicasOfTheirExpertOnAnyInstance) {
  std::mt19937 random(31);
  for (int repeat = 0; repeat < 200; ++repeat) {
    SCOPED_TRACE(repeat);
    const MapInstance m = random_map_instance(random);
    const Placement& p = m.placement;
    // A split of a batch that had no tokens of one expert.
    std::vector<Load> stale = m.physical_load;
    const Index absent = static_cast<Index>(random() % p.num_logical_experts);
    for (const Index slot : p.replicas(absent)) stale[slot] = 0;
    const Index rank = static_cast<Index>(random() % p.num_ranks);
    const auto topk = random_topk<std::int64_t>(m, rank, random);
    std::vector<std::int64_t> out(topk.size());
    map_tokens_in_proportion(p, stale, rank, topk, out, GetParam());

    std::vector<Load> taken(stale.size(), 0);
    for (std::size_t i = 0; i < topk.size(); ++i) {
      if (topk[i] < 0 || topk[i] >= p.num_logical_experts) {
        ASSERT_EQ(out[i], -1);
        continue;
      }
      ASSERT_EQ(p.physical_to_logical.at(static_cast<std::size_t>(out[i])), topk[i]);
      ASSERT_TRUE(p.alive(p.rank_of(static_cast<Index>(out[i]))));
      ++taken[static_cast<std::size_t>(out[i])];
    }
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      const Load own = m.counts[rank * p.num_logical_experts + e];
      Load sum = 0;
      double live = 0;
      for (const Index slot : p.replicas(e)) {
        sum += stale[slot];
        live += p.alive(p.rank_of(slot));
      }
      for (const Index slot : p.replicas(e)) {
        const bool alive = p.alive(p.rank_of(slot));
        const double part =
            sum == 0 ? alive / live : static_cast<double>(stale[slot]) / static_cast<double>(sum);
        ASSERT_LT(std::abs(static_cast<double>(taken[slot]) - part * static_cast<double>(own)),
                  1.0);
      }
    }
    const std::vector<std::int32_t> narrow(topk.begin(), topk.end());
    std::vector<std::int32_t> narrow_out = narrow;
    map_tokens_in_proportion(p, stale, rank, narrow_out, narrow_out, GetParam());
    ASSERT_EQ(std::vector<std::int64_t>(narrow_out.begin(), narrow_out.end()), out);
  }
}

TEST_P(MapTokensInProportion, RefusesBadInput) {
  const std::vector<Index> slots = {0, 1, 1, 0};
  const Placement p = make_placement(2, 2, slots);
  const std::vector<std::int32_t> topk = {0, 1};
  std::vector<std::int32_t> out(2);
  const auto refused = [&](const std::vector<Load>& quotas, Index rank, const char* part) {
    try {
      map_tokens_in_proportion(p, quotas, rank, topk, out, GetParam());
      ADD_FAILURE() << "accepted: expected " << part;
    } catch (const ArgumentError& e) {
      EXPECT_THAT(e.what(), HasSubstr(part));
    }
  };
  refused({1, 1, 1}, 0, "physical_load: has 3 entries, expected num_physical (4)");
  refused({1, 1, 1, -1}, 0, "physical_load: physical expert 3 has -1 tokens");
  refused({kMax, 1, 1, 1}, 0, "physical_load: the sum of expert 0 passes 2^63 - 1");
  refused({1, 1, 1, 1}, 2, "rank: 2 is not between 0 and 1");
  out.resize(3);
  refused({1, 1, 1, 1}, 1, "physical_idx: has 3 entries");
}

}  // namespace
}  // namespace lplb
