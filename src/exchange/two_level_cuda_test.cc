// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "exchange/peer_test_group.h"
#include "support/expect_refused.h"

// Domains and rails of streams of one process: what crosses between domains in earnest is tried
// between processes (connect_cuda_test.cc).
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::expect_refused;
using testing::PeerCuda;
using testing::VirtualRank;

class TwoLevelCuda : public PeerCuda {};

/// num_domains x num_lanes ranks on one device.
class TwoLevelRanks {
 public:
  TwoLevelRanks(Index num_domains, Index num_lanes, std::size_t max_counts,
                std::chrono::microseconds deadline = 10s) {
    const auto make = [&](Index count, std::size_t counts) {
      return PeerGroup::in_process(std::vector<int>(static_cast<std::size_t>(count), 0),
                                   {.max_counts = counts, .deadline = deadline});
    };
    for (Index l = 0; l < num_lanes; ++l) rails_.push_back(make(num_domains, max_counts));
    for (Index d = 0; d < num_domains; ++d) {
      domains_.push_back(make(num_lanes, max_counts * static_cast<std::size_t>(num_domains) + 1));
    }
    for (Index d = 0; d < num_domains; ++d) {
      for (Index l = 0; l < num_lanes; ++l) {
        exchanges.push_back(
            make_two_level_exchange(rails_[l][d].channel(0), domains_[d][l].channel(0)));
        ranks.push_back(std::make_unique<VirtualRank>(exchanges.back()));
      }
    }
  }

  std::vector<std::shared_ptr<DeviceExchange>> exchanges;
  std::vector<std::unique_ptr<VirtualRank>> ranks;

 private:
  std::vector<std::vector<PeerGroup>> rails_, domains_;  // [lane][domain], [domain][lane]
};

TEST_F(TwoLevelCuda, EveryRankHasTheCountsOfAll) {
  for (const auto& [num_domains, num_lanes] : {std::pair{1, 4}, {2, 1}, {2, 4}, {4, 3}}) {
    SCOPED_TRACE(num_domains);
    constexpr std::size_t kMost = 40;
    TwoLevelRanks group(num_domains, num_lanes, kMost);
    for (std::size_t g = 0; g < group.ranks.size(); ++g) {
      EXPECT_EQ(group.exchanges[g]->rank(), static_cast<Index>(g));
      EXPECT_EQ(group.exchanges[g]->num_ranks(), num_domains * num_lanes);
      EXPECT_EQ(group.exchanges[g]->max_counts(), kMost);
    }
    constexpr int kRounds = 300;
    for (int round = 0; round < kRounds; ++round) {
      for (auto& rank : group.ranks) {
        rank->enqueue(round % 7 == 0 ? 1 : round % 2 == 0 ? kMost : 25, round % 3 == 0 ? 0 : 5000);
      }
    }
    for (auto& rank : group.ranks) {
      rank->wait();
      const DeviceExchangeStats stats = rank->stats();
      EXPECT_EQ(stats.rounds, kRounds);
      EXPECT_EQ(stats.complete(), kRounds);
      EXPECT_EQ(stats.last_missing, -1);
      EXPECT_EQ(rank->log().wrong, 0u);
      EXPECT_EQ(rank->log().round, static_cast<unsigned long long>(kRounds));
    }
  }
}

TEST_F(TwoLevelCuda, WhoLacksACountHasNone) {
  TwoLevelRanks group(2, 2, 8, 20ms);
  // The last rank stays away: its rail and its domain lack it, hence so do all.
  for (std::size_t g = 0; g < 3; ++g) group.ranks[g]->enqueue(8);
  for (std::size_t g = 0; g < 3; ++g) {
    group.ranks[g]->wait();
    EXPECT_NE(group.ranks[g]->outcome(), 0u) << g;
    EXPECT_EQ(group.ranks[g]->stats().complete(), 0) << g;
    EXPECT_THAT(group.ranks[g]->all(8), ::testing::Each(-1)) << g;
  }
  EXPECT_EQ(group.ranks[1]->stats().last_missing, 3);  // along its rail
  EXPECT_EQ(group.ranks[2]->stats().last_missing, 3);  // in its domain
  group.ranks[3]->enqueue(8);                          // the round that the others have given up
  group.ranks[3]->wait();
  for (int round = 0; round < 5; ++round) {
    for (auto& rank : group.ranks) rank->enqueue(8);
  }
  for (auto& rank : group.ranks) {
    rank->wait();
    EXPECT_EQ(rank->outcome(), 0u);
    EXPECT_EQ(rank->log().wrong, 0u);
    EXPECT_GE(rank->stats().complete(), 5);
  }
}

TEST_F(TwoLevelCuda, WhatDoesNotFitIsRefused) {
  std::vector<PeerGroup> rail = PeerGroup::in_process(std::vector<int>(3, 0), {.max_counts = 8});
  std::vector<PeerGroup> domain = PeerGroup::in_process(std::vector<int>(2, 0), {.max_counts = 3});
  expect_refused([&] { make_two_level_exchange(nullptr, domain[0].channel(0)); }, "rail: is null");
  expect_refused([&] { make_two_level_exchange(rail[0].channel(0), nullptr); }, "domain: is null");
  expect_refused([&] { make_two_level_exchange(rail[1].channel(0), domain[1].channel(0)); },
                 "domain: has room for 3 counts, expected at least 4");
}

}  // namespace
}  // namespace lplb
