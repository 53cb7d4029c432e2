// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "plan/device/exchange_test_support.h"

// Compares DevicePlanner with Planner, both with dynamic slots. On the device the slots must hold
// what they hold on the CPU, and every entry must go where the CPU sends it.
namespace lplb {
namespace {

using testing::BatchShape;
using testing::ComparedRank;
using testing::DeviceRank;
using testing::draw_batch;
using testing::ExchangingRanks;
using testing::GroupBatch;
using testing::HostRank;
using testing::packed_rows;
using testing::SplitMix64;

class CopiesPlannerCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
    if (cuda_support().devices[0].compute_major < 9) GTEST_SKIP() << "the device has no clusters";
  }
};

PlannerOptions with_slots(Index num_topk, std::int64_t max_tokens, Index slots, double target = 1) {
  PlannerOptions options;
  options.num_topk = num_topk;
  options.max_tokens = max_tokens;
  options.dynamic_slots = slots;
  options.replicate.target = target;
  return options;
}

Placement homes_of(Index num_ranks, Index num_experts) {
  std::vector<Index> map(static_cast<std::size_t>(num_experts));
  std::iota(map.begin(), map.end(), 0);
  return make_placement(num_ranks, num_experts, map);
}

std::vector<std::int32_t> from_device(const std::int32_t* array, std::size_t size) {
  std::vector<std::int32_t> values(size);
  LPLB_CUDA_CHECK(
      cudaMemcpy(values.data(), array, size * sizeof(std::int32_t), cudaMemcpyDeviceToHost));
  return values;
}

/// The slots and the status after a batch of both. Call it once for each batch.
void expect_equal(DeviceRank& device, const HostRank& host) {
  const DevicePlannerStats got = device.stats();
  const PlannerStats& want = host.planner.stats();
  EXPECT_EQ(got.last_status, host.last_status);
  EXPECT_EQ(got.solved, want.solved);
  EXPECT_EQ(got.optimal, want.optimal);
  EXPECT_EQ(got.degraded, want.degraded);
  EXPECT_EQ(got.copies, want.copies);
  if (host.last_status != BatchStatus::kDegraded) {
    EXPECT_EQ(static_cast<double>(got.last_max_load), host.planner.last_split().max_load);
    EXPECT_EQ(static_cast<double>(got.last_lower_bound), want.last_lower_bound);
  }
  const Replication& copies = host.planner.last_copies();
  const std::size_t size = copies.slot_expert.size();
  const DeviceCopies on_device = device.planner.copies();
  EXPECT_EQ(from_device(on_device.slot_expert, size), copies.slot_expert);
  EXPECT_EQ(from_device(on_device.slot_source, size), copies.slot_source);
  const auto is_new = host.planner.slot_is_new();
  EXPECT_EQ(from_device(on_device.slot_is_new, size),
            std::vector<std::int32_t>(is_new.begin(), is_new.end()));
}

/// Draws a batch for both, and compares all.
void expect_drawn_equal(ComparedRank& both, const BatchShape& shape, SplitMix64& random,
                        int id_bytes = 4) {
  both.expect_drawn_equal(shape, random, id_bytes);
  expect_equal(both.device, both.host);
}

TEST_F(CopiesPlannerCuda, EqualsCpuOnRandomGroups) {
  SplitMix64 random(21);
  for (int repeat = 0; repeat < 80; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = testing::random_placement(random, repeat % 3 == 0   ? 100
                                                          : repeat % 3 == 1 ? 8
                                                                            : 40);
    const BatchShape shape{.num_topk = 1 + random.below(8),
                           .max_tokens = repeat % 5 == 0 ? 3000 : 100};
    const Index rank = random.below(p.num_ranks);
    PlannerOptions options =
        with_slots(shape.num_topk, shape.max_tokens, 1 + random.below(repeat % 2 == 0 ? 1 : 4),
                   repeat % 4 == 0 ? 1.1 : 1);
    if (repeat % 3 == 1) {
      options.replicate.num_domains = testing::draw_divisor(p.num_ranks, 4, random);
    }
    if (repeat % 4 == 2) {  // a copy costs as much as 15 tokens
      options.replicate.cost = {.us_per_token = 1, .expert_bytes = 15e3, .gigabytes_per_s = 1};
    }
    ComparedRank both(p, rank, options, {});
    for (int i = 0; i < 4; ++i) {
      expect_drawn_equal(both, shape, random, i == 1 ? 8 : 4);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CopiesPlannerCuda, EqualsCpuOnWorkloads) {
  SplitMix64 random(22);
  for (const char* const name : {"cube8x2", "EP32+32", "EP64+64", "EP72+144"}) {
    const Placement p = testing::make_workload(name, 1).placement;
    const Placement homes = homes_of(p.num_ranks, p.num_logical_experts);
    for (int round = 0; round < 4; ++round) {
      SCOPED_TRACE(name + std::string(" ") + std::to_string(round));
      PlannerOptions options = with_slots(8, 4096, 1);
      options.replicate.num_domains = round < 2 ? 1 : 4;
      ComparedRank both(round % 2 == 0 ? homes : p, 3, options, {});
      for (int i = 0; i < 4; ++i) {
        expect_drawn_equal(both, {.num_topk = 8, .max_tokens = i == 0 ? 8 : 4096}, random);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CopiesPlannerCuda, RanksThatExchangeAgree) {
  SplitMix64 random(23);
  for (const bool is_outside : {false, true}) {
    const Placement p = homes_of(4, 32);
    DevicePlannerOptions on_device;
    on_device.max_blocks = 4;
    PlannerOptions options = with_slots(4, 900, 2);
    options.replicate.num_domains = is_outside ? 1 : 2;
    ExchangingRanks group(p, options, on_device, std::chrono::seconds(10),
                          is_outside ? testing::outside : ExchangingRanks::Wrap{});
    for (int i = 0; i < 6; ++i) {
      group.expect_drawn_solved({.num_topk = 4, .max_tokens = i == 0 ? 10 : 900}, random);
      for (std::size_t g = 0; g < 4; ++g) expect_equal(*group.device[g], *group.host[g]);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CopiesPlannerCuda, ALostBatchEmptiesTheSlots) {
  SplitMix64 random(24);
  const Placement p = homes_of(4, 32);
  ExchangingRanks group(p, with_slots(4, 300, 1), {}, std::chrono::milliseconds(30));
  const BatchShape shape{.num_topk = 4, .max_tokens = 300};
  group.expect_drawn_solved(shape, random);
  const GroupBatch batch = draw_batch(p, shape, random);
  group.set(batch);
  group.run(3);  // rank 3 does not come
  for (std::size_t g = 0; g < 3; ++g) {
    group.expect_degraded(batch, g);
    expect_equal(*group.device[g], *group.host[g]);
  }
}

TEST_F(CopiesPlannerCuda, IsCapturedAndFollowsThePlacement) {
  SplitMix64 random(25);
  const Placement p = homes_of(8, 64);
  const PlannerOptions options = with_slots(8, 700, 1);
  DeviceRank device(p, 5, options, {});
  HostRank host(p, 5, options);
  const BatchShape shape{.num_topk = 8, .max_tokens = 700};
  std::vector<std::int64_t> ids(8 * 700);
  GroupBatch batch = draw_batch(p, shape, random);
  const auto draw = [&] {
    batch = draw_batch(p, shape, random);
    for (std::int64_t& id : ids) id = random.below(64);
    const auto row = batch.counts.begin() + 5 * 64;
    std::fill(row, row + 64, 0);
    for (const std::int64_t id : ids) ++row[id];
    device.set(ids, packed_rows(p, batch.counts, Singles::kEach), 4);
  };
  draw();
  device.planner.run(device.stream.get(), device.batch);
  ASSERT_EQ(device.result(), host.run(ids, batch.counts));
  testing::CapturedGraph graph(device.stream.get());
  device.planner.run(device.stream.get(), device.batch);
  graph.end();
  for (int i = 0; i < 5; ++i) {
    if (i == 3) {  // the same experts per rank, in another order: the slots are empty then
      std::vector<Index> map = p.physical_to_logical;
      std::reverse(map.begin(), map.end());
      const Placement next = make_placement(8, 64, map);
      device.planner.update_placement(device.stream.get(), next);
      host.planner.update_placement(next);
    }
    draw();
    graph.replay();
    ASSERT_EQ(device.result(), host.run(ids, batch.counts)) << i;
    expect_equal(device, host);
    if (HasFailure()) return;
  }
}

TEST_F(CopiesPlannerCuda, RefusesWhatItHasNot) {
  const Placement p = homes_of(4, 16);
  const PlannerOptions options = with_slots(2, 100, 1);
  const auto refuses = [&](const PlannerOptions& o, const DevicePlannerOptions& d) {
    EXPECT_THROW(DevicePlanner(p, 0, o, d), ArgumentError);
  };
  refuses(options, {.shape = PlanShape::kKernels});
  refuses(options, {.checks = true});
  PlannerOptions domains = options;
  domains.replicate.num_domains = 3;
  refuses(domains, {});
  PlannerOptions stale = options;
  stale.staleness = 1;
  refuses(stale, {});
  refuses(with_slots(2, 100, kMaxDynamicSlots + 1), {});
  PlannerOptions more = options;
  more.max_redundants = 4;
  DevicePlanner planner(p, 0, more);
  std::vector<Index> map;  // five slots a rank
  for (Index g = 0; g < 4; ++g) {
    for (Index e = 0; e < 4; ++e) map.push_back(4 * g + e);
    map.push_back((4 * g + 4) % 16);
  }
  EXPECT_THROW(planner.update_placement(nullptr, make_placement(4, 16, map)), ArgumentError);
  EXPECT_EQ(DevicePlanner(p, 0, with_slots(2, 100, 0)).copies().slot_expert, nullptr);
}

}  // namespace
}  // namespace lplb
