// SPDX-License-Identifier: MIT
#include "lplb/device_counter.h"

#include <gtest/gtest.h>

#include <vector>

#include "lplb/backend.h"
#include "lplb/exchange.h"
#include "lplb/mapping.h"
#include "support/device_vector.h"
#include "support/instances.h"

// DeviceCounter is compared with count_tokens(), PackedLayout::pack() and LoadHistory.
namespace lplb {
namespace {

using testing::DeviceVector;
using testing::SplitMix64;

class DeviceCounterCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
};

/// A counter on the device and a history on the CPU, which get the same batches.
struct Twins {
  Twins(const Placement& p, const LoadHistoryOptions& options)
      : placement(p), counter(p, 0, options), history(p.num_logical_experts, options) {}

  void expect_equal(const std::vector<std::int64_t>& topk, Index num_topk, int id_bytes,
                    std::int32_t valid_tokens) {
    const PackedLayout layout(placement);
    const auto experts = static_cast<std::size_t>(placement.num_logical_experts);
    std::vector<Load> want(experts), want_packed(layout.size());
    count_tokens(std::span(topk).first(static_cast<std::size_t>(valid_tokens * num_topk)), want);
    layout.pack(want, want_packed);
    history.add(want);

    DeviceVector<std::int64_t> wide;
    DeviceVector<std::int32_t> narrow, valid, counts, packed;
    wide.set(topk);
    narrow.set({topk.begin(), topk.end()});
    valid.set({valid_tokens});
    counts.set(std::vector<std::int32_t>(experts, -1));
    packed.set(std::vector<std::int32_t>(layout.size(), -1));
    DeviceBatch batch;
    batch.topk_idx = id_bytes == 8 ? static_cast<const void*>(wide.data()) : narrow.data();
    batch.id_bytes = id_bytes;
    batch.num_topk = num_topk;
    batch.num_tokens = static_cast<std::int64_t>(topk.size()) / num_topk;
    batch.num_valid_tokens = valid.data();
    counter.count(stream.get(), batch,
                  {.counts = counts.data(), .packed = packed.data(), .remember = true});
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    const auto got = counts.get();
    EXPECT_EQ(std::vector<Load>(got.begin(), got.end()), want);
    const auto got_packed = packed.get();
    EXPECT_EQ(std::vector<Load>(got_packed.begin(), got_packed.end()), want_packed);
    std::vector<double> load(experts);
    LPLB_CUDA_CHECK(cudaMemcpy(load.data(), counter.history(), experts * sizeof(double),
                               cudaMemcpyDeviceToHost));
    EXPECT_EQ(load, history.load());
  }

  Placement placement;
  DeviceCounter counter;
  LoadHistory history;
  device::Stream stream;
};

TEST_F(DeviceCounterCuda, EqualsCpu) {
  SplitMix64 random(1);
  const LoadHistoryOptions kinds[] = {{}, {.window = 3}, {.decay = 0.9}};
  for (const LoadHistoryOptions& options : kinds) {
    Twins twins(testing::make_workload("EP64+64", 1).placement, options);
    const Index experts = twins.placement.num_logical_experts;
    for (const std::int32_t tokens : {0, 1, 100, 4096, 16384}) {
      std::vector<std::int64_t> topk(static_cast<std::size_t>(tokens) * 8);
      for (std::int64_t& id : topk) id = random.below(experts + 3) - 2;
      const std::int32_t valid = random.below(3) == 0 ? tokens / 2 : tokens;
      twins.expect_equal(topk, 8, random.below(2) == 0 ? 4 : 8, valid);
      if (HasFailure()) return;
    }
  }
}

TEST_F(DeviceCounterCuda, FollowsThePlacementAndForgets) {
  Twins twins(testing::make_workload("cube8x2", 1).placement, {});
  twins.expect_equal({0, 1, 2, 3}, 2, 4, 2);
  twins.placement = testing::make_workload("cube8x2", 2).placement;
  twins.counter.update_placement(twins.stream.get(), twins.placement);
  twins.expect_equal({200, 201, 202, 203}, 2, 8, 2);
  twins.counter.clear_history(twins.stream.get());
  twins.history.clear();
  twins.expect_equal({5, 5, 5, 5}, 2, 4, 1);
}

TEST_F(DeviceCounterCuda, RefusesBadArguments) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  EXPECT_THROW(DeviceCounter(p, 1), ArgumentError);
  EXPECT_THROW(DeviceCounter(p, 0, {.window = -1}), ArgumentError);
  DeviceCounter counter(p);
  DeviceBatch batch;
  EXPECT_THROW(counter.count(nullptr, batch, {}), ArgumentError);  // num_topk is 0
  batch.num_topk = 8;
  batch.num_tokens = 1;
  EXPECT_THROW(counter.count(nullptr, batch, {}), ArgumentError);  // topk_idx is null
  EXPECT_THROW(counter.update_placement(nullptr, testing::make_workload("EP64+64", 1).placement),
               ArgumentError);
}

}  // namespace
}  // namespace lplb
