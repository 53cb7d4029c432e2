// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <vector>

#include "support/emulated_block.h"

// NOTE: this comes after the emulation, because the kernel's code is compiled with it.
#include "exchange/rail/test_network.cuh"

// Runs the rail's kernel on the CPU. Each rank of each domain is a block of threads. The network
// sends signals before data, so only the epochs tell what has come.
namespace lplb {
namespace {

using testing::MemoryNetwork;

constexpr int kThreads = 64;

/// num_domains * domain_size ranks in memory of the CPU.
class EmulatedRanks {
 public:
  EmulatedRanks(int num_domains, int domain_size, int max_counts)
      : domain_size_(domain_size),
        rail_(exchange::RailLayout::of(num_domains, max_counts)),
        domain_(exchange::ExchangeLayout::of(domain_size, num_domains * max_counts + 1)),
        ranks_(static_cast<std::size_t>(num_domains * domain_size)) {
    const auto size = ranks_.size();
    for (Rank& rank : ranks_) {
      rank.rail.resize(static_cast<std::size_t>(rail_.bytes()) / sizeof(uint4) + 16);
      rank.domain.resize(static_cast<std::size_t>(domain_.bytes(1)) / sizeof(uint4) + 16);
      rank.mine.resize(static_cast<std::size_t>(max_counts));
      rank.row.resize(static_cast<std::size_t>(num_domains * max_counts));
      rank.all.resize(size * static_cast<std::size_t>(max_counts));
    }
    for (int d = 0; d < num_domains; ++d) {
      for (int l = 0; l < domain_size; ++l) {
        Rank& rank = at(d, l);
        for (int other = 0; other < num_domains; ++other) {
          rank.rail_buffers.push_back(reinterpret_cast<std::uintptr_t>(at(other, l).rail.data()));
        }
        auto* const table = reinterpret_cast<unsigned long long*>(rank.domain.data());
        for (int other = 0; other < domain_size; ++other) {
          table[other] = reinterpret_cast<std::uintptr_t>(at(d, other).domain.data());
        }
      }
    }
  }

  /// Runs one round of the ranks `in`, at the same time.
  void run(const std::vector<int>& in, int num_counts, std::chrono::nanoseconds deadline) {
    ++round_;
    for (const int g : in) {
      Rank& rank = ranks_[static_cast<std::size_t>(g)];
      for (int c = 0; c < num_counts; ++c) rank.mine[static_cast<std::size_t>(c)] = count(g, c);
      std::fill(rank.all.begin(), rank.all.end(), -7);
    }
    const std::vector<std::vector<unsigned char*>> memory(in.size(), {nullptr});
    emulated::run_clusters(memory, kThreads, [&](std::size_t c) {
      Rank& rank = ranks_[static_cast<std::size_t>(in[c])];
      const int d = in[c] / domain_size_;
      const auto ns = static_cast<unsigned long long>(deadline.count());
      exchange::RailArgs args{};
      args.rail = {bytes(rank.rail), nullptr, 0, ns, rail_.lines, d};
      if (domain_size_ > 1) {
        args.domain = {bytes(rank.domain),  table(rank.domain), domain_.channel(0), ns, domain_,
                       in[c] % domain_size_};
      }
      args.mine = rank.mine.data();
      args.row = rank.row.data();
      args.all = rank.all.data();
      args.outcome = &rank.outcome;
      args.control = &rank.control;
      args.fingerprint = 5;
      args.num_counts = num_counts;
      const MemoryNetwork network{{bytes(rank.rail), rank.rail_buffers.data(), rail_.signals()}};
      exchange::gather_along_rail(args, network, rank.shared);
    });
  }

  std::vector<int> everyone() const {
    std::vector<int> all(ranks_.size());
    for (std::size_t g = 0; g < all.size(); ++g) all[g] = static_cast<int>(g);
    return all;
  }
  int outcome(int g) const { return ranks_[static_cast<std::size_t>(g)].outcome; }
  const exchange::ExchangeControl& control(int g) const {
    return ranks_[static_cast<std::size_t>(g)].control;
  }
  std::vector<int> all(int g, int num_counts) const {
    const auto& got = ranks_[static_cast<std::size_t>(g)].all;
    return {got.begin(), got.begin() + static_cast<std::ptrdiff_t>(ranks_.size()) * num_counts};
  }
  /// The counts that every rank should get.
  std::vector<int> expected(int num_counts) const {
    std::vector<int> all;
    for (const int g : everyone()) {
      for (int c = 0; c < num_counts; ++c) all.push_back(count(g, c));
    }
    return all;
  }

 private:
  struct Rank {
    std::vector<uint4> rail, domain;
    std::vector<unsigned long long> rail_buffers;
    std::vector<int> mine, row, all;
    int outcome = -1;
    exchange::ExchangeControl control{};
    exchange::RailShared<MemoryNetwork> shared{};
  };

  static unsigned char* bytes(std::vector<uint4>& memory) {
    return reinterpret_cast<unsigned char*>(memory.data());
  }
  static const unsigned long long* table(const std::vector<uint4>& memory) {
    return reinterpret_cast<const unsigned long long*>(memory.data());
  }
  Rank& at(int domain, int rank_in_domain) {
    return ranks_[static_cast<std::size_t>(domain * domain_size_ + rank_in_domain)];
  }
  int count(int rank, int column) const { return round_ * 10000 + rank * 100 + column; }

  const int domain_size_;
  const exchange::RailLayout rail_;
  const exchange::ExchangeLayout domain_;
  std::vector<Rank> ranks_;
  int round_ = 0;
};

TEST(EmulatedRail, EveryRankHasTheCountsOfAll) {
  constexpr int kMost = 75;  // more lines than a warp has lanes
  for (const auto& [num_domains, domain_size] : {std::pair{1, 1}, {1, 3}, {2, 1}, {2, 2}, {4, 2}}) {
    SCOPED_TRACE(std::to_string(num_domains) + " domains of " + std::to_string(domain_size));
    EmulatedRanks ranks(num_domains, domain_size, kMost);
    for (int round = 0; round < 6; ++round) {
      const int num_counts = round == 2 ? 1 : round % 2 == 0 ? kMost : 20;
      ranks.run(ranks.everyone(), num_counts, std::chrono::minutes(2));
      for (const int g : ranks.everyone()) {
        ASSERT_EQ(ranks.outcome(g), 0) << "rank " << g << ", round " << round;
        ASSERT_EQ(ranks.all(g, num_counts), ranks.expected(num_counts)) << "rank " << g;
      }
    }
    EXPECT_EQ(ranks.control(0).rounds, 6u);
  }
}

TEST(EmulatedRail, WhoLacksACountHasNoneUntilTheLateRankHasCaughtUp) {
  EmulatedRanks ranks(2, 2, 9);
  const auto soon = std::chrono::milliseconds(30);
  const auto late = std::chrono::minutes(2);
  ranks.run(ranks.everyone(), 9, late);
  for (int round = 0; round < 3; ++round) {
    ranks.run({0, 1, 2}, 9, soon);
    for (const int g : {0, 1, 2}) {
      EXPECT_NE(ranks.outcome(g), 0);
      EXPECT_THAT(ranks.all(g, 9), ::testing::Each(-1));
    }
  }
  EXPECT_EQ(ranks.control(1).timed_out, 3u);
  // Rank 3 now runs the rounds that the others have given up. They are lost at once, except that
  // the counts of the last two may still be there.
  for (int round = 0; round < 3; ++round) ranks.run({3}, 9, soon);
  EXPECT_GE(ranks.control(3).behind, 1u);
  for (int round = 0; round < 3; ++round) {
    ranks.run(ranks.everyone(), 9, late);
    for (const int g : ranks.everyone()) {
      EXPECT_EQ(ranks.outcome(g), 0);
      EXPECT_EQ(ranks.all(g, 9), ranks.expected(9));
    }
  }
}

}  // namespace
}  // namespace lplb
