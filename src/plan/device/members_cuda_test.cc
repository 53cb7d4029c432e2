// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include "plan/device/exchange_test_support.h"
#include "support/expect_refused.h"

// DevicePlanners in groups that have only the live ranks of a placement. They are compared with
// Planners of a group of all ranks, whose dead ranks have no tokens.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::BatchShape;
using testing::DeviceRank;
using testing::draw_live_batch;
using testing::ExchangingRanks;
using testing::expect_refused;
using testing::GroupBatch;
using testing::HostRank;
using testing::live_ranks;
using testing::live_rows;
using testing::outside;
using testing::random_with_dead;
using testing::SplitMix64;

class SurvivorsCuda : public testing::PlannerCuda {
 protected:
  static PlannerOptions options(Index staleness) {
    PlannerOptions made = PlannerCuda::options(3, 600);
    made.staleness = staleness;
    return made;
  }
};

INSTANTIATE_TEST_SUITE_P(All, SurvivorsCuda,
                         ::testing::Values(PlanShape::kCluster, PlanShape::kKernels),
                         testing::plan_shape_name);

// In the plan's kernel, and between two kernels; with staleness, too.
TEST_P(SurvivorsCuda, ExchangeInAGroupOfTheirOwn) {
  SplitMix64 random(41);
  for (int repeat = 0; repeat < 24; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_with_dead(random, repeat % 6 == 0 ? 16 : 8);
    DevicePlannerOptions on_device = device_options(repeat % 2 == 0);
    on_device.max_blocks = p.num_ranks > 8 ? 2 : 4;
    ExchangingRanks group(p, options(repeat / 2 % 2), on_device, 10s,
                          repeat % 3 == 0 ? outside : ExchangingRanks::Wrap(), true);
    ASSERT_LT(group.ranks.size(), static_cast<std::size_t>(p.num_ranks));
    for (int i = 0; i < 3; ++i) {
      group.expect_drawn_solved({.num_topk = 3, .max_tokens = 600}, random, i == 1 ? 8 : 4);
      if (HasFatalFailure() || HasFailure()) return;
    }
  }
}

// Ranks 1 and 5 of six have died: two ranks are left on each of two domains.
TEST_P(SurvivorsCuda, ExchangeAlongRails) {
  SplitMix64 random(42);
  std::vector<Index> map;
  for (Index g = 0; g < 6; ++g) {
    for (const Index e : {g, (g + 1) % 6, (g + 2) % 6}) map.push_back(e);
  }
  const Placement p = make_placement(6, 6, map, {.rank_alive = {1, 0, 1, 1, 1, 0}});
  const std::size_t counts = PackedLayout(p).size();
  std::vector<std::vector<PeerGroup>> rails, domains;
  for (int i = 0; i < 2; ++i) {
    rails.push_back(PeerGroup::in_process(std::vector<int>(2, 0), {.max_counts = counts}));
    domains.push_back(
        PeerGroup::in_process(std::vector<int>(2, 0), {.max_counts = 2 * counts + 1}));
  }
  std::size_t member = 0;
  const auto two_level = [&](const std::shared_ptr<DeviceExchange>&) {
    const std::size_t domain = member / 2;
    const std::size_t rail = member++ % 2;
    return make_two_level_exchange(rails[rail][domain].channel(0),
                                   domains[domain][rail].channel(0));
  };
  ExchangingRanks group(p, options(0), device_options(), 10s, two_level, true);
  for (int i = 0; i < 3; ++i) {
    group.expect_drawn_solved({.num_topk = 3, .max_tokens = 600}, random);
  }
}

TEST_P(SurvivorsCuda, TakeRowsAndWriteQuotas) {
  SplitMix64 random(43);
  for (int repeat = 0; repeat < 20; ++repeat) {
    SCOPED_TRACE(repeat);
    const Placement p = random_with_dead(random, repeat % 2 == 0 ? 8 : 40);
    const std::vector<Index> live = live_ranks(p);
    DevicePlannerOptions on_device = device_options();
    on_device.keeps_split = true;
    on_device.num_members = static_cast<Index>(live.size());
    const Index rank = live[static_cast<std::size_t>(random.below(on_device.num_members))];
    DeviceRank device(p, rank, options(0), on_device);
    HostRank host(p, rank, options(0));
    const GroupBatch batch = draw_live_batch(p, {.num_topk = 3, .max_tokens = 600}, random);
    const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
    device.set(topk, live_rows(p, batch.packed), 4);
    ASSERT_EQ(device.run(), host.run(topk, batch.counts));
    EXPECT_EQ(device.stats().check_failures, 0);
    testing::HostTables want(p, p.max_replicas);
    write_quotas(p, PackedLayout(p), host.planner.last_counts(),
                 host.planner.last_split().physical_load, rank, want.outputs(p.max_replicas));
    EXPECT_TRUE(testing::from_device(device, p.max_replicas) == want);
  }
}

TEST_P(SurvivorsCuda, MustBeTheLiveRanksOfThePlacement) {
  const std::vector<Index> map = {0, 1, 2, 0, 1, 2, 0, 1, 2};
  const auto placed = [&](std::vector<char> alive) {
    return make_placement(3, 3, map, {.rank_alive = std::move(alive)});
  };
  const auto with = [&](const Placement& p, Index rank, Index num_members) {
    DevicePlannerOptions on_device = device_options();
    on_device.num_members = num_members;
    return DevicePlanner(p, rank, options(0), on_device);
  };
  const Placement p = placed({1, 0, 1});
  expect_refused([&] { with(p, 0, 1); },
                 "num_members: 1 ranks, expected those of the placement (3) or its live ones (2)");
  expect_refused([&] { with(placed({}), 0, 2); },
                 "num_members: 2 ranks, expected those of the placement (3)");
  expect_refused([&] { with(p, 1, 2); }, "rank: 1 is dead, expected a live one");
  DevicePlanner planner = with(p, 2, 2);
  expect_refused(
      [&] {
        planner.update_placement(nullptr, placed({0, 0, 1}));
      },
      "placement: has 1 live ranks, expected as many as the group has members (2)");
  expect_refused(
      [&] {
        planner.update_placement(nullptr, placed({0, 1, 1}));
      },
      "placement: rank 0 is dead, expected the live ranks of the first");
}

}  // namespace
}  // namespace lplb
