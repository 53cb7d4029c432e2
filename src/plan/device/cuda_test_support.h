// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lplb/device_planner.h"
#include "support/device_vector.h"
#include "support/instances.h"
#include "support/plan_batches.h"

// The batch of a group: what Planner makes of it on the CPU, and what DevicePlanner makes of it.
namespace lplb::testing {

/// A rank's planner on the device, with the memory for a batch.
class DeviceRank {
 public:
  DeviceRank(const Placement& placement, Index rank, const PlannerOptions& options,
             const DevicePlannerOptions& device_options)
      : planner(placement, rank, options, device_options), num_topk_(options.num_topk) {}

  /// Memory stays where it is from call to call, unless it grows or `offset` changes.
  void set(const std::vector<std::int64_t>& topk, const std::vector<std::int32_t>& packed,
           int id_bytes, std::size_t offset = 0) {
    batch.id_bytes = id_bytes;
    batch.num_tokens = static_cast<std::int64_t>(topk.size()) / num_topk_;
    if (id_bytes == 8) {
      wide_in.set(topk, offset);
      wide_out.set(std::vector<std::int64_t>(topk.size(), -77), offset);
      batch.topk_idx = wide_in.data();
      batch.physical_idx = wide_out.data();
    } else {
      in.set({topk.begin(), topk.end()}, offset);
      out.set(std::vector<std::int32_t>(topk.size(), -77), offset);
      batch.topk_idx = in.data();
      batch.physical_idx = out.data();
    }
    all_counts.set(packed, offset);
    batch.all_counts = all_counts.data();
  }

  std::vector<std::int64_t> run() {
    planner.run(stream.get(), batch);
    return result();
  }
  std::vector<std::int64_t> result() {
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    if (batch.id_bytes == 8) return wide_out.get();
    const std::vector<std::int32_t> narrow = out.get();
    return {narrow.begin(), narrow.end()};
  }
  DevicePlannerStats stats() { return planner.stats(stream.get()); }

  DevicePlanner planner;
  device::Stream stream;
  DeviceBatch batch;
  DeviceVector<std::int32_t> in, out, all_counts, valid;
  DeviceVector<std::int64_t> wide_in, wide_out;

 private:
  Index num_topk_;
};

/// A rank's planner on the CPU. It is given all counts, or none.
class HostRank {
 public:
  HostRank(const Placement& placement, Index rank, const PlannerOptions& options)
      : counts_(std::make_shared<Counts>(placement.num_ranks, rank)),
        is_stale_(options.staleness != 0),
        planner(placement, rank, options, counts_) {}

  /// `counts` are those of this batch, also with staleness.
  std::vector<std::int64_t> run(const std::vector<std::int64_t>& topk,
                                const std::vector<Load>& counts) {
    counts_->status = ExchangeStatus::kComplete;
    if (!is_stale_) give(counts);
    const std::vector<std::int64_t> out = run(topk);
    if (is_stale_) give(counts);
    return out;
  }
  /// The other ranks do not come. (With staleness: they did not come in the previous batch.)
  std::vector<std::int64_t> run_alone(const std::vector<std::int64_t>& topk,
                                      const std::vector<Load>& counts) {
    counts_->status = ExchangeStatus::kTimedOut;
    const std::vector<std::int64_t> out = run(topk);
    give(counts);
    return out;
  }

 private:
  struct Counts : Exchange {
    Counts(Index num_ranks, Index own) : given(num_ranks, own) {}
    Index num_ranks() const override { return given.num_ranks(); }
    Index rank() const override { return given.rank(); }
    void reserve(std::size_t) override {}
    void post(const PackedLayout& layout, std::span<const Load> mine) override {
      given.post(layout, mine);
    }
    ExchangeStatus collect(std::span<Load> all) override {
      if (status == ExchangeStatus::kComplete) return given.collect(all);
      given = GivenCounts(num_ranks(), rank());  // which waits for nothing
      return status;
    }
    GivenCounts given;
    ExchangeStatus status = ExchangeStatus::kComplete;
  };
  void give(const std::vector<Load>& counts) {
    counts_->given.set(counts, planner.placement().num_logical_experts);
  }
  std::vector<std::int64_t> run(const std::vector<std::int64_t>& topk) {
    std::vector<std::int64_t> out(topk.size());
    last_status = planner.run(topk, out);
    return out;
  }

  std::shared_ptr<Counts> counts_;
  const bool is_stale_;

 public:
  Planner planner;
  BatchStatus last_status = BatchStatus::kOptimal;
};

/// A rank's planners of both backends, which are given all counts.
class ComparedRank {
 public:
  ComparedRank(const Placement& placement, Index rank, const PlannerOptions& options,
               const DevicePlannerOptions& device_options)
      : device(placement, rank, options, device_options),
        host(placement, rank, options),
        rank_(static_cast<std::size_t>(rank)) {}

  /// Draws a batch, and expects the same slots of both planners.
  void expect_drawn_equal(const BatchShape& shape, SplitMix64& random, int id_bytes = 4) {
    const GroupBatch batch = draw_batch(device.planner.placement(), shape, random);
    const auto& topk = batch.topk[rank_];
    device.set(topk, packed_rows(device.planner.layout(), batch.counts), id_bytes);
    ASSERT_EQ(device.run(), host.run(topk, batch.counts));
  }
  void update_placement(const Placement& next) {
    device.planner.update_placement(device.stream.get(), next);
    host.planner.update_placement(next);
  }

  DeviceRank device;
  HostRank host;

 private:
  std::size_t rank_;
};

inline std::string plan_shape_name(const ::testing::TestParamInfo<PlanShape>& test) {
  return test.param == PlanShape::kCluster ? "cluster" : "kernels";
}

/// Runs each test in both shapes.
class PlannerCuda : public ::testing::TestWithParam<PlanShape> {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
    if (GetParam() == PlanShape::kCluster && cuda_support().devices[0].compute_major < 9) {
      GTEST_SKIP() << "the device has no clusters";
    }
  }
  DevicePlannerOptions device_options(bool checks = true) const {
    return {.shape = GetParam(), .max_blocks = 8, .checks = checks};
  }
  static PlannerOptions options(Index num_topk, std::int64_t max_tokens) {
    PlannerOptions made;
    made.num_topk = num_topk;
    made.max_tokens = max_tokens;
    return made;
  }
};

}  // namespace lplb::testing
