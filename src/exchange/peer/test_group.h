// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "exchange/peer/layout.h"
#include "exchange/peer/test_kernels.h"
#include "lplb/backend.h"
#include "lplb/device_exchange.h"
#include "support/device_vector.h"

namespace lplb::testing {

/// This must be set before CUDA starts. Kernels of 16 streams can run at the same time only if
/// there are that many connections to the device, and a kernel that is loaded at its first launch
/// waits for all others.
inline const bool runs_together = [] {
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  return true;
}();

class PeerCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
};

/// One rank with its stream and memory. Its rounds check their results themselves.
class VirtualRank {
 public:
  explicit VirtualRank(std::shared_ptr<DeviceExchange> exchange)
      : exchange_(std::move(exchange)),
        mine_(exchange_->max_counts()),
        all_(exchange_->max_counts() * static_cast<std::size_t>(exchange_->num_ranks())) {
    log_.set({RoundLog{}});
    outcome_.set({0});
  }

  void enqueue(std::size_t num_counts, unsigned most_ns = 0, std::uint64_t fingerprint = 1) {
    const auto count = static_cast<int>(num_counts);
    launch_prepare(log_.data(), exchange_->rank(), most_ns, mine_.get(), count, stream.get());
    DeviceGather gather;
    gather.mine = mine_.get();
    gather.all = all_.get();
    gather.outcome = outcome_.data();
    gather.num_counts = num_counts;
    gather.fingerprint = fingerprint;
    exchange_->all_gather(stream.get(), gather);
    launch_verify(log_.data(), all_.get(), outcome_.data(), exchange_->num_ranks(), count,
                  stream.get());
  }

  void wait() const { LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get())); }
  RoundLog log() const { return log_.get()[0]; }
  std::uint32_t outcome() const { return static_cast<std::uint32_t>(outcome_.get()[0]); }
  DeviceExchangeStats stats() { return exchange_->stats(stream.get()); }
  /// What the last round gathered: [num_ranks, num_counts].
  std::vector<std::int32_t> all(std::size_t num_counts) const {
    std::vector<std::int32_t> counts(num_counts * static_cast<std::size_t>(exchange_->num_ranks()));
    LPLB_CUDA_CHECK(cudaMemcpy(counts.data(), all_.get(), counts.size() * sizeof(counts[0]),
                               cudaMemcpyDeviceToHost));
    return counts;
  }

  device::Stream stream;

 private:
  std::shared_ptr<DeviceExchange> exchange_;
  device::Array<std::int32_t> mine_, all_;
  DeviceVector<RoundLog> log_;
  DeviceVector<std::int32_t> outcome_;
};

/// All ranks of a group on one device.
class VirtualRanks {
 public:
  VirtualRanks(Index num_ranks, const PeerGroupOptions& options)
      : groups_(PeerGroup::in_process(std::vector<int>(static_cast<std::size_t>(num_ranks), 0),
                                      options)) {
    for (PeerGroup& group : groups_) {
      ranks.push_back(std::make_unique<VirtualRank>(group.channel(0)));
    }
  }

  /// Expects that the rounds of every rank are complete and that no count was wrong.
  void expect_complete(std::int64_t rounds) {
    for (auto& rank : ranks) {
      rank->wait();
      const DeviceExchangeStats stats = rank->stats();
      EXPECT_EQ(stats.rounds, rounds);
      EXPECT_EQ(stats.complete(), rounds);
      EXPECT_EQ(stats.last_missing, -1);
      EXPECT_EQ(rank->log().wrong, 0u);
      EXPECT_EQ(rank->log().round, static_cast<unsigned long long>(rounds));
    }
  }

  std::vector<std::unique_ptr<VirtualRank>> ranks;

 private:
  std::vector<PeerGroup> groups_;
};

}  // namespace lplb::testing
