// SPDX-License-Identifier: MIT
#include "planner_cuda_test.h"

// The quotas of a batch on the device against those of its split on the CPU.
namespace lplb {
namespace {

using testing::DeviceRank;
using testing::DeviceVector;
using testing::draw_batch;
using testing::GroupBatch;
using testing::HostRank;
using testing::PlannerCuda;
using testing::SplitMix64;

struct HostTables {
  std::vector<std::int32_t> quota_end, source_prefix, alloc, solved;
  std::vector<float> shares;

  HostTables(const Placement& p, Index max_replicas)
      : quota_end(static_cast<std::size_t>(p.num_logical_experts * max_replicas), -9),
        source_prefix(static_cast<std::size_t>(p.num_logical_experts), -9),
        alloc(static_cast<std::size_t>(p.num_ranks * p.num_logical_experts), -9),
        solved(1, -9),
        shares(quota_end.size(), -9) {}
  QuotaOutputs outputs(Index max_replicas) {
    return {max_replicas, quota_end.data(), source_prefix.data(),
            alloc.data(), shares.data(),    solved.data()};
  }
  bool operator==(const HostTables&) const = default;
};

HostTables from_device(DeviceRank& device, Index max_replicas) {
  const Placement& p = device.planner.placement();
  HostTables host(p, max_replicas);
  DeviceVector<std::int32_t> quota_end, source_prefix, alloc, solved;
  DeviceVector<float> shares;
  quota_end.set(host.quota_end);
  source_prefix.set(host.source_prefix);
  alloc.set(host.alloc);
  solved.set(host.solved);
  shares.set(host.shares);
  device.planner.write_quotas(device.stream.get(), device.batch.all_counts,
                              {max_replicas, quota_end.data(), source_prefix.data(), alloc.data(),
                               shares.data(), solved.data()});
  LPLB_CUDA_CHECK(cudaStreamSynchronize(device.stream.get()));
  host.quota_end = quota_end.get();
  host.source_prefix = source_prefix.get();
  host.alloc = alloc.get();
  host.solved = solved.get();
  host.shares = shares.get();
  return host;
}

TEST_P(PlannerCuda, QuotasEqualCpu) {
  SplitMix64 random(21);
  for (const char* name : {"cube8x2", "torus8x4x2", "EP64+64"}) {
    SCOPED_TRACE(name);
    const Placement p = testing::make_workload(name, 1).placement;
    const Index columns = p.max_replicas + 1;
    const PackedLayout layout(p);
    DevicePlannerOptions keeping = device_options(false);
    keeping.keeps_split = true;
    const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 200}, random);
    const Index rank = 3;
    DeviceRank device(p, rank, options(8, 200), keeping);
    HostRank host(p, rank, options(8, 200));
    host.run(batch.topk[rank], batch.counts);
    device.set(batch.topk[rank], batch.packed, 4);
    device.run();
    HostTables want(p, columns);
    const std::vector<Load> wide(batch.packed.begin(), batch.packed.end());
    write_quotas(p, layout, wide, host.planner.last_split().physical_load, rank,
                 want.outputs(columns));
    EXPECT_TRUE(from_device(device, columns) == want);

    // A degraded batch: another rank's counts cannot be.
    std::vector<std::int32_t> broken = batch.packed;
    broken[0] = -1;
    device.set(batch.topk[rank], broken, 4);
    device.run();
    HostTables even(p, columns);
    write_even_quotas(p, layout, std::span(wide).subspan(rank * layout.size(), layout.size()), rank,
                      even.outputs(columns));
    EXPECT_TRUE(from_device(device, columns) == even);
  }
}

TEST_P(PlannerCuda, ABatchMayHaveAnotherTopk) {
  SplitMix64 random(22);
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank device(p, 0, options(8, 64), device_options());
  HostRank host(p, 0, options(4, 128));
  const GroupBatch batch = draw_batch(p, {.num_topk = 4, .max_tokens = 128}, random);
  const auto want = host.run(batch.topk[0], batch.counts);
  device.set(batch.topk[0], batch.packed, 4);
  device.batch.num_topk = 4;
  device.batch.num_tokens = static_cast<std::int64_t>(batch.topk[0].size()) / 4;
  EXPECT_EQ(device.run(), want);
  EXPECT_EQ(device.stats().check_failures, 0);
  device.batch.num_tokens = 129;
  EXPECT_THROW(device.run(), ArgumentError);
}

TEST_P(PlannerCuda, QuotasWantTheSplitKept) {
  const Placement p = testing::make_workload("cube8x2", 1).placement;
  DeviceRank plain(p, 0, options(8, 64), device_options());
  EXPECT_THROW(plain.planner.write_quotas(nullptr, nullptr, {p.max_replicas}), ArgumentError);
  DevicePlannerOptions keeping = device_options();
  keeping.keeps_split = true;
  DeviceRank kept(p, 0, options(8, 64), keeping);
  EXPECT_THROW(kept.planner.write_quotas(nullptr, nullptr, {1}), ArgumentError);
}

}  // namespace
}  // namespace lplb
