// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <cstring>
#include <thread>

#include "exchange/peer/test_group.h"
#include "exchange/rail/exchange.h"
#include "exchange/rail/test_network.h"
#include "support/expect_refused.h"
#include "support/thread_gather.h"

// The ranks of all domains are streams of one process. Exchanges between processes are tested in
// connect_cuda_test.cc and rail_cuda_test.cc.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::expect_refused;
using testing::PeerCuda;
using testing::VirtualRank;

/// How counts travel along the rails.
enum class RailKind { kExchange, kPuts };

using TwoLevelOptionsCuda = PeerCuda;
class TwoLevelCuda : public PeerCuda, public ::testing::WithParamInterface<RailKind> {};
INSTANTIATE_TEST_SUITE_P(Rails, TwoLevelCuda,
                         ::testing::Values(RailKind::kExchange, RailKind::kPuts),
                         [](const ::testing::TestParamInfo<RailKind>& test) {
                           return test.param == RailKind::kPuts ? "puts" : "exchange";
                         });

/// Memory of the device for a rail. The other ranks of the process write to it.
class DeviceRail : public exchange::RailMemory {
 public:
  explicit DeviceRail(const RailOptions& options, Index domain_size)
      : options_(options), domain_size_(domain_size), memory_(rail_buffer_bytes(options)) {}

  exchange::Agreement::Bytes offer() override {
    LPLB_CUDA_CHECK(cudaMemset(memory_.get(), 0, rail_buffer_bytes(options_)));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
    const auto bytes = std::as_bytes(std::span(&address, 1));
    return {bytes.begin(), bytes.end()};
  }
  void accept(const std::vector<exchange::Agreement::Bytes>& offers) override {
    std::vector<unsigned long long> addresses(offers.size());
    for (std::size_t g = 0; g < offers.size(); ++g) {
      std::memcpy(&addresses[g], offers[g].data(), sizeof(addresses[g]));
      if (addresses[g] == reinterpret_cast<std::uintptr_t>(memory_.get())) {
        rank_in_domain_ = static_cast<Index>(g) % domain_size_;
      }
    }
    std::vector<unsigned long long> of_rail;
    for (Index d = 0; d < options_.num_domains; ++d) {
      of_rail.push_back(addresses[static_cast<std::size_t>(d * domain_size_ + rank_in_domain_)]);
    }
    buffers_.set(of_rail);
  }
  unsigned char* own() const override { return memory_.get(); }
  void prepare() const override { testing::prepare_memory_rail(); }
  void launch(const exchange::RailArgs& args, StreamHandle stream) const override {
    testing::launch_memory_rail(
        args, {memory_.get(), buffers_.data(), exchange::layout_of(options_).signals()}, stream);
  }

 private:
  RailOptions options_;
  Index domain_size_;
  Index rank_in_domain_ = 0;
  device::Array<unsigned char> memory_;
  testing::DeviceVector<unsigned long long> buffers_;
};

/// num_domains * domain_size ranks on one device.
class TwoLevelRanks {
 public:
  TwoLevelRanks(RailKind kind, Index num_domains, Index domain_size, std::size_t max_counts,
                std::chrono::microseconds deadline = 10s) {
    const auto make = [&](Index count, std::size_t counts) {
      return PeerGroup::in_process(std::vector<int>(static_cast<std::size_t>(count), 0),
                                   {.max_counts = counts, .deadline = deadline});
    };
    for (Index d = 0; d < num_domains; ++d) {
      domains_.push_back(make(domain_size, max_counts * static_cast<std::size_t>(num_domains) + 1));
    }
    if (kind == RailKind::kPuts) {
      make_rails(num_domains, domain_size, max_counts, deadline);
      return;
    }
    for (Index l = 0; l < domain_size; ++l) rails_.push_back(make(num_domains, max_counts));
    for (Index d = 0; d < num_domains; ++d) {
      for (Index l = 0; l < domain_size; ++l) {
        exchanges.push_back(
            make_two_level_exchange(rails_[l][d].channel(0), domains_[d][l].channel(0)));
        ranks.push_back(std::make_unique<VirtualRank>(exchanges.back()));
      }
    }
  }

  std::vector<std::shared_ptr<DeviceExchange>> exchanges;
  std::vector<std::unique_ptr<VirtualRank>> ranks;

 private:
  /// Connects each rank from a thread of its own, because its steps wait for those of the others.
  void make_rails(Index num_domains, Index domain_size, std::size_t max_counts,
                  std::chrono::microseconds deadline) {
    const Index num_ranks = num_domains * domain_size;
    testing::ThreadGather gather(num_ranks);
    exchanges.resize(static_cast<std::size_t>(num_ranks));
    std::vector<std::thread> threads;
    for (Index g = 0; g < num_ranks; ++g) {
      threads.emplace_back([&, g] {
        const RailOptions options{g / domain_size, num_domains, max_counts, deadline};
        // A domain of one rank needs no channel.
        auto domain_exchange =
            domain_size > 1 ? domains_[g / domain_size][g % domain_size].channel(0) : nullptr;
        exchanges[g] = exchange::connect_rail(options, domain_exchange, gather.of_rank(g),
                                              std::make_unique<DeviceRail>(options, domain_size));
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (auto& exchange : exchanges) ranks.push_back(std::make_unique<VirtualRank>(exchange));
  }

  std::vector<std::vector<PeerGroup>> rails_;    // [rank in its domain][domain]
  std::vector<std::vector<PeerGroup>> domains_;  // [domain][rank in its domain]
};

TEST_P(TwoLevelCuda, EveryRankHasTheCountsOfAll) {
  for (const auto& [num_domains, domain_size] : {std::pair{1, 4}, {2, 1}, {2, 4}, {4, 3}}) {
    SCOPED_TRACE(num_domains);
    constexpr std::size_t kMost = 40;
    TwoLevelRanks group(GetParam(), num_domains, domain_size, kMost);
    for (std::size_t g = 0; g < group.ranks.size(); ++g) {
      EXPECT_EQ(group.exchanges[g]->rank(), static_cast<Index>(g));
      EXPECT_EQ(group.exchanges[g]->num_ranks(), num_domains * domain_size);
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

TEST_P(TwoLevelCuda, WhoLacksACountHasNone) {
  TwoLevelRanks group(GetParam(), 2, 2, 8, 20ms);
  // The last rank does not take part. Its rail and its domain lack it, and so do all ranks.
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

TEST_F(TwoLevelOptionsCuda, WhatDoesNotFitIsRefused) {
  std::vector<PeerGroup> rail = PeerGroup::in_process(std::vector<int>(3, 0), {.max_counts = 8});
  std::vector<PeerGroup> domain = PeerGroup::in_process(std::vector<int>(2, 0), {.max_counts = 3});
  expect_refused([&] { make_two_level_exchange(nullptr, domain[0].channel(0)); }, "rail: is null");
  expect_refused([&] { make_two_level_exchange(rail[0].channel(0), nullptr); }, "domain: is null");
  expect_refused([&] { make_two_level_exchange(rail[1].channel(0), domain[1].channel(0)); },
                 "domain: has room for 3 counts, expected at least 4");
}

}  // namespace
}  // namespace lplb
