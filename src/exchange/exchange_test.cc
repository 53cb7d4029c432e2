// SPDX-License-Identifier: MIT
#include "lplb/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "support/expect_refused.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using testing::expect_refused;

// Experts 1 and 4 have two replicas; 0 and 3 live on rank 0, 2 on rank 1, 5 on rank 2.
Placement three_ranks() {
  const std::vector<Index> map = {0, 1, 3, 4, 2, 1, 5, 4, 1};
  return make_placement(3, 6, map);
}

TEST(PackedLayout, PutsReplicatedExpertsFirstAndSumsTheRestByRank) {
  const PackedLayout layout(three_ranks());
  EXPECT_THAT(layout.replicated, ElementsAre(1, 4));
  EXPECT_THAT(layout.home, ElementsAre(0, -1, 1, 0, -1, 2));
  ASSERT_EQ(layout.size(), 5u);
  const std::vector<Load> counts = {10, 2, 30, 4, 50, 6};
  std::vector<Load> packed(5, -1);
  layout.pack(counts, packed);
  EXPECT_THAT(packed, ElementsAre(2, 50, 14, 30, 6));
}

TEST(PackedLayout, OfACubeIsSmall) {
  std::vector<Index> map;
  for (Index g = 0; g < 8; ++g) {
    for (Index e = 0; e < 32; ++e) map.push_back(g * 32 + e);
    map.push_back((g + 1) % 8 * 32);
    map.push_back((g + 3) % 8 * 32 + 1);
  }
  EXPECT_EQ(PackedLayout(make_placement(8, 256, map)).size(), 24u);
}

TEST(PackedLayout, FingerprintTellsPlacementsApart) {
  const PackedLayout a(three_ranks());
  EXPECT_EQ(PackedLayout(three_ranks()).fingerprint, a.fingerprint);
  const std::vector<Index> other_expert = {0, 1, 2, 4, 3, 2, 5, 4, 2};
  const std::vector<Index> other_place = {2, 1, 3, 4, 0, 1, 5, 4, 1};
  for (const auto& map : {other_expert, other_place}) {
    PackedLayout b(three_ranks());
    b.assign(make_placement(3, 6, map));
    EXPECT_EQ(b.size(), a.size());
    EXPECT_NE(b.fingerprint, a.fingerprint);
  }
}

TEST(PackedLayout, FingerprintTellsNumbersOfRanksApart) {
  // Both experts are replicated on all ranks, so the placements differ in nothing else.
  const PackedLayout two(make_placement(2, 2, std::vector<Index>{0, 1, 0, 1}));
  const PackedLayout three(make_placement(3, 2, std::vector<Index>{0, 1, 0, 1, 0, 1}));
  EXPECT_NE(two.fingerprint, three.fingerprint);
}

TEST(PackedLayout, RefusesOtherLengths) {
  const PackedLayout layout(three_ranks());
  std::vector<Load> packed(5);
  expect_refused([&] { layout.pack(std::vector<Load>(5), packed); },
                 "counts: has 5 entries, expected num_logical_experts (6)");
  packed.resize(4);
  expect_refused([&] { layout.pack(std::vector<Load>(6), packed); },
                 "packed: has 4 entries, expected 5");
}

TEST(GivenCounts, PacksRowsAndReplacesItsOwn) {
  const PackedLayout layout(three_ranks());
  GivenCounts exchange(3, 1);
  EXPECT_EQ(exchange.num_ranks(), 3);
  EXPECT_EQ(exchange.rank(), 1);
  const std::vector<Load> counts = {1, 2, 3, 4, 5, 6, 9, 9, 9, 9, 9, 9, 0, 1, 0, 1, 0, 1};
  exchange.set(counts, 6);
  std::vector<Load> all(15, -1);
  const std::vector<Load> mine = {7, 0, 0, 0, 8};
  EXPECT_EQ(exchange.all_gather(layout, mine, all), ExchangeStatus::kComplete);
  EXPECT_THAT(all, ElementsAre(2, 5, 5, 3, 6, 7, 0, 0, 0, 8, 1, 0, 1, 0, 1));
}

TEST(GivenCounts, RefusesBadInput) {
  constexpr Load kMax = std::numeric_limits<Load>::max();
  expect_refused([] { GivenCounts(0, 0); }, "num_ranks: 0 is not between 1 and 1024");
  expect_refused([] { GivenCounts(3, 3); }, "rank: 3 is not between 0 and 2");
  GivenCounts exchange(3, 0);
  const PackedLayout layout(three_ranks());
  const std::vector<Load> mine(5);
  std::vector<Load> all(15);
  expect_refused([&] { exchange.all_gather(layout, mine, all); },
                 "counts: are set for 0 experts, expected 6");
  expect_refused([&] { exchange.set(std::vector<Load>(17), 6); },
                 "counts: has 17 entries, expected num_ranks * num_logical (3 * 6)");
  expect_refused([&] { exchange.set({}, 0); }, "num_logical: 0 is not between");
  std::vector<Load> counts(18);
  counts[7] = -3;
  expect_refused([&] { exchange.set(counts, 6); }, "counts: expert 1 has -3 tokens on rank 1");
  counts[7] = counts[8] = kMax;
  expect_refused([&] { exchange.set(counts, 6); }, "counts: the sum of rank 1 passes 2^63 - 1");
  exchange.set(std::vector<Load>(15), 5);
  expect_refused([&] { exchange.all_gather(layout, mine, all); }, "set for 5 experts");
  exchange.set(std::vector<Load>(18), 6);
  expect_refused([&] { exchange.all_gather(layout, std::vector<Load>(4), all); },
                 "mine: has 4 entries, expected 5");
  all.resize(10);
  expect_refused([&] { exchange.all_gather(layout, mine, all); },
                 "all: has 10 entries, expected num_ranks * 5 (15)");
  all.resize(15);
  exchange.post(layout, mine);
  expect_refused([&] { exchange.post(layout, mine); },
                 "mine: is posted before the last batch is collected");
  EXPECT_EQ(exchange.collect(all), ExchangeStatus::kComplete);
  EXPECT_EQ(exchange.all_gather(layout, mine, all), ExchangeStatus::kComplete);
  const std::vector<Index> two = {0, 1};
  expect_refused([&] { exchange.all_gather(PackedLayout(make_placement(2, 2, two)), mine, all); },
                 "layout: is of 2 ranks, expected at least those of the exchange (3)");
}

}  // namespace
}  // namespace lplb
