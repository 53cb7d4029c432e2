// SPDX-License-Identifier: MIT
#include "plan/quotas_test_support.h"

// Compares the quotas of a batch on the device with those of its split on the CPU.
namespace lplb {
namespace {

using testing::DeviceRank;
using testing::draw_batch;
using testing::from_device;
using testing::GroupBatch;
using testing::HostRank;
using testing::HostTables;
using testing::packed_rows;
using testing::PlannerCuda;
using testing::SplitMix64;

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

    // The batch is degraded because another rank's counts are impossible.
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

TEST_P(PlannerCuda, QuotasWithCopiesEqualCpu) {
  if (cuda_support().devices[0].compute_major < 9) GTEST_SKIP() << "the device has no clusters";
  if (GetParam() == PlanShape::kKernels) GTEST_SKIP() << "not with dynamic slots";
  SplitMix64 random(23);
  for (const char* name : {"cube8x2", "EP32+32", "EP64+64"}) {
    SCOPED_TRACE(name);
    const Placement p = testing::make_workload(name, 1).placement;
    const Index columns = p.max_replicas + p.num_ranks - 1;
    const PackedLayout layout(p, Singles::kEach);
    PlannerOptions dynamic = options(8, 200);
    dynamic.dynamic_slots = 2;
    DevicePlannerOptions keeping = device_options(false);
    keeping.keeps_split = true;
    const Index rank = 3;
    DeviceRank device(p, rank, dynamic, keeping);
    HostRank host(p, rank, dynamic);
    for (int i = 0; i < 4; ++i) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 8, .max_tokens = 200}, random);
      const auto want_ids = host.run(batch.topk[rank], batch.counts);
      std::vector<std::int32_t> packed = packed_rows(p, batch.counts, Singles::kEach);
      device.set(batch.topk[rank], packed, 4);
      ASSERT_EQ(device.run(), want_ids);
      HostTables want(p, columns);
      write_quotas(p, layout, host.planner.last_counts(), host.planner.last_copies(), rank,
                   want.outputs(columns));
      EXPECT_TRUE(from_device(device, columns) == want);

      packed[0] = -1;  // the batch is degraded
      device.set(batch.topk[rank], packed, 4);
      device.run();
      HostTables even(p, columns);
      const std::span<const Load> own =
          host.planner.last_counts().subspan(rank * layout.size(), layout.size());
      write_even_quotas(p, layout, own, host.planner.last_copies(), rank, even.outputs(columns));
      EXPECT_TRUE(from_device(device, columns) == even);
    }
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
