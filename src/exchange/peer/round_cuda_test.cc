// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

#include "exchange/peer/test_group.h"
#include "support/expect_refused.h"

// The ranks are streams of one process.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::expect_refused;
using testing::PeerCuda;
using testing::VirtualRank;
using testing::VirtualRanks;

/// The number of rounds: LPLB_EXCHANGE_ROUNDS if it is set, otherwise `quick`.
int rounds_or(int quick) {
  const char* const text = std::getenv("LPLB_EXCHANGE_ROUNDS");
  return text != nullptr ? std::atoi(text) : quick;
}

/// Sizes that change as if placements came and went: odd, even, 1, all.
std::size_t size_of_round(int round, std::size_t most) {
  const std::size_t sizes[] = {most, most - 1, 1, 24, 25, most / 2 + 1};
  return std::min(sizes[static_cast<std::size_t>(round / 7) % 6], most);
}

TEST_F(PeerCuda, RoundsOfRanksThatAreRandomlyLateAreWhole) {
  for (const Index num_ranks : {2, 4, 8, 16}) {
    SCOPED_TRACE(num_ranks);
    // With 700 counts each lane waits for several lines at once.
    const std::size_t most = num_ranks == 4 ? 700 : 64;
    VirtualRanks group(num_ranks, {.max_counts = most});
    const int rounds = rounds_or(2000);
    for (int round = 0; round < rounds; ++round) {
      for (auto& rank : group.ranks) {
        rank->enqueue(size_of_round(round, most), round % 3 == 0 ? 0 : 10000);
      }
    }
    group.expect_complete(rounds);
  }
}

TEST_F(PeerCuda, GraphsAreReplayed) {
  constexpr Index kRanks = 8;
  constexpr int kRounds = 20;
  VirtualRanks group(kRanks, {.max_counts = 64});
  std::vector<std::unique_ptr<testing::CapturedGraph>> graphs;
  for (auto& rank : group.ranks) {
    auto& graph = graphs.emplace_back(std::make_unique<testing::CapturedGraph>(rank->stream.get()));
    for (int i = 0; i < kRounds; ++i) rank->enqueue(size_of_round(i, 64), 1000);
    graph->end();
  }
  const int replays = rounds_or(2000) / kRounds;
  for (int i = 0; i < replays; ++i) {
    for (const auto& graph : graphs) graph->launch();
  }
  group.expect_complete(std::int64_t{replays} * kRounds);
}

TEST_F(PeerCuda, ARankAloneIsAGroup) {
  VirtualRanks group(1, {.max_counts = 3});
  for (int i = 0; i < 3; ++i) group.ranks[0]->enqueue(3);
  group.expect_complete(3);
}

TEST_F(PeerCuda, ARankThatIsLeftOutTimesTheOthersOutAndComesBack) {
  constexpr Index kRanks = 4;
  constexpr int kMissed = 3;
  VirtualRanks group(kRanks, {.max_counts = 24, .deadline = 5ms});
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < kMissed; ++round) {
    for (Index g = 0; g < kRanks - 1; ++g) group.ranks[g]->enqueue(24);
  }
  for (Index g = 0; g < kRanks - 1; ++g) {
    group.ranks[g]->wait();
    const DeviceExchangeStats stats = group.ranks[g]->stats();
    EXPECT_EQ(stats.rounds, kMissed);
    EXPECT_EQ(stats.complete(), 0);
    EXPECT_GE(stats.timed_out, 1);
    EXPECT_EQ(stats.last_missing, kRanks - 1);
    EXPECT_EQ(group.ranks[g]->outcome(), exchange::kVerdictTimedOut);
  }
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited, kMissed * 5ms);
  EXPECT_LT(waited, 1s);
  // The late rank now runs the rounds that the others have given up. It does not wait in them. The
  // last two are complete for it, because their counts are still there.
  VirtualRank& late = *group.ranks[kRanks - 1];
  for (int round = 0; round < kMissed; ++round) late.enqueue(24);
  late.wait();
  const DeviceExchangeStats stats = late.stats();
  EXPECT_EQ(stats.behind, kMissed - 2);
  EXPECT_EQ(stats.timed_out, 0);
  EXPECT_EQ(late.log().wrong, 0u);
  // From here on all rounds are complete.
  for (int round = 0; round < 5; ++round) {
    for (auto& rank : group.ranks) rank->enqueue(24);
  }
  for (auto& rank : group.ranks) {
    const DeviceExchangeStats before = rank->stats();
    EXPECT_EQ(before.rounds, kMissed + 5);
    EXPECT_EQ(before.complete(), rank.get() == &late ? 7 : 5);
    EXPECT_EQ(rank->log().wrong, 0u);
  }
}

TEST_F(PeerCuda, ADeadlineOfMicrosecondsIsKept) {
  VirtualRanks group(2, {.max_counts = 8, .deadline = 100us});
  VirtualRank& rank = *group.ranks[0];
  rank.enqueue(8);
  rank.wait();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) rank.enqueue(8);
  rank.wait();
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited, 20 * 100us);
  EXPECT_LT(waited, 20 * 500us);
  EXPECT_EQ(rank.stats().timed_out, 21);
}

TEST_F(PeerCuda, PlacementsThatDifferAreSeen) {
  VirtualRanks group(3, {.max_counts = 24});
  for (int round = 0; round < 3; ++round) {
    for (Index g = 0; g < 3; ++g) {
      const bool differs = round == 1 && g == 2;
      group.ranks[g]->enqueue(differs ? 10 : 24, 0, differs ? 2 : 1);
    }
  }
  for (Index g = 0; g < 3; ++g) {
    group.ranks[g]->wait();
    const DeviceExchangeStats stats = group.ranks[g]->stats();
    EXPECT_EQ(stats.mismatched, 1) << g;
    EXPECT_EQ(stats.complete(), 2) << g;
    EXPECT_EQ(group.ranks[g]->log().wrong, 0u);
    if (g != 2) {
      EXPECT_EQ(stats.last_missing, 2);
    }
  }
}

TEST_F(PeerCuda, ChannelsAreIndependent) {
  constexpr Index kChannels = 3;
  const PeerGroupOptions options{.max_counts = 24, .num_channels = kChannels};
  std::vector<PeerGroup> groups = PeerGroup::in_process(std::vector<int>(2, 0), options);
  std::vector<std::unique_ptr<VirtualRank>> ranks;
  for (Index channel = 0; channel < kChannels; ++channel) {
    for (PeerGroup& group : groups) {
      ranks.push_back(std::make_unique<VirtualRank>(group.channel(channel)));
    }
  }
  groups.clear();  // the channels keep the memory alive
  for (int round = 0; round < 200; ++round) {
    for (auto& rank : ranks) rank->enqueue(24, 5000);
  }
  for (auto& rank : ranks) {
    rank->wait();
    EXPECT_EQ(rank->stats().complete(), 200);
    EXPECT_EQ(rank->log().wrong, 0u);
  }
}

/// Buffers that belong to the caller.
struct GivenBuffers {
  explicit GivenBuffers(Index num_ranks, const PeerGroupOptions& options) {
    const std::size_t bytes = peer_buffer_bytes(num_ranks, options);
    for (Index g = 0; g < num_ranks; ++g) {
      arrays.emplace_back(std::vector<unsigned char>(bytes, 0));
      pointers.push_back(arrays.back().data());
    }
  }
  std::vector<testing::DeviceVector<unsigned char>> arrays;
  std::vector<void*> pointers;
};

TEST_F(PeerCuda, EpochsWrapAround) {
  constexpr Index kRanks = 3;
  const PeerGroupOptions options{.max_counts = 24};
  GivenBuffers buffers(kRanks, options);
  std::vector<std::unique_ptr<VirtualRank>> ranks;
  for (Index g = 0; g < kRanks; ++g) {
    PeerGroup group = PeerGroup::from_pointers(g, buffers.pointers, options);
    EXPECT_EQ(group.transport(), Transport::kGiven);
    EXPECT_EQ(group.bytes(), peer_buffer_bytes(kRanks, options));
    ranks.push_back(std::make_unique<VirtualRank>(group.channel(0)));
    const std::uint32_t epoch = 0xFFFFFFFAu;
    LPLB_CUDA_CHECK(
        cudaMemcpy(buffers.arrays[g].data() + exchange::ExchangeLayout::of(kRanks, 24).channel(0),
                   &epoch, sizeof(epoch), cudaMemcpyHostToDevice));
  }
  LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  for (int round = 0; round < 20; ++round) {
    for (auto& rank : ranks) rank->enqueue(24, 2000);
  }
  for (auto& rank : ranks) {
    rank->wait();
    EXPECT_EQ(rank->stats().complete(), 20);
    EXPECT_EQ(rank->log().wrong, 0u);
  }
}

TEST(ExchangeLayout, EpochsSkipZeroAndAlternate) {
  EXPECT_EQ(exchange::next_epoch(0), 1u);
  EXPECT_EQ(exchange::next_epoch(0xFFFFFFFFu), 2u);
  for (std::uint32_t epoch = 0xFFFFFFF0u; epoch != 20; epoch = exchange::next_epoch(epoch)) {
    const std::uint32_t next = exchange::next_epoch(epoch);
    EXPECT_NE((epoch ^ next) & 1, 0u);
    EXPECT_TRUE(exchange::is_later(next, epoch));
    EXPECT_FALSE(exchange::is_later(epoch, next));
    EXPECT_FALSE(exchange::is_later(0, epoch));
  }
}

TEST_F(PeerCuda, RefusesBadInput) {
  const PeerGroupOptions good{.max_counts = 24};
  expect_refused([&] { PeerGroup::in_process({}, good); },
                 "num_ranks: 0 is not between 1 and 1024");
  expect_refused(
      [&] {
        PeerGroup::in_process(std::vector<int>{0, 99}, good);
      },
      "devices: 99 is not between 0 and");
  expect_refused([&] { peer_buffer_bytes(2, {}); }, "max_counts: 0 is not between 1 and 327681");
  expect_refused([&] { peer_buffer_bytes(2, {.max_counts = 1, .num_channels = 0}); },
                 "num_channels: 0 is not between 1 and 65536");
  expect_refused([&] { peer_buffer_bytes(2, {.max_counts = 1, .deadline = 0us}); },
                 "deadline: 0 us is not > 0");
  GivenBuffers buffers(2, good);
  expect_refused([&] { PeerGroup::from_pointers(2, buffers.pointers, good); },
                 "rank: 2 is not between 0 and 1");
  buffers.pointers[1] = nullptr;
  expect_refused([&] { PeerGroup::from_pointers(0, buffers.pointers, good); },
                 "buffers: that of rank 1 is at 0x0, expected a multiple of 256");
  std::vector<PeerGroup> group = PeerGroup::in_process(std::vector<int>{0, 0}, good);
  expect_refused([&] { group[0].channel(1); }, "index: 1 is not between 0 and 0");
  const auto channel = group[0].channel(0);
  expect_refused([&] { group[0].channel(0); }, "index: channel 0 has been handed out already");
  expect_refused([&] { channel->all_gather(nullptr, {.num_counts = 25}); },
                 "num_counts: 25 is not between 1 and max_counts (24)");
  expect_refused([&] { channel->all_gather(nullptr, {.num_counts = 24}); },
                 "mine: is null, expected 24 counts");
}

TEST(Transport, NamesGoThereAndBack) {
  for (const char* name : {"given", "process", "ipc", "fabric", "nccl", "nvshmem"}) {
    EXPECT_STREQ(transport_name(parse_transport(name)), name);
  }
  EXPECT_THROW(parse_transport("rdma"), ArgumentError);
}

}  // namespace
}  // namespace lplb
