// SPDX-License-Identifier: MIT
#include "lplb/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "lplb/backend.h"
#include "lplb/device_counter.h"
#include "lplb/device_planner.h"
#include "support/allocations.h"
#include "support/expect_refused.h"
#include "support/instances.h"
#include "support/plan_batches.h"

namespace lplb {
namespace {

using lplb::testing::num_allocations;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::expect_refused;
using testing::two_ranks;

constexpr Load kMax = std::numeric_limits<Load>::max();

PlannerOptions small_batches() {
  PlannerOptions options;
  options.max_tokens = 1000;
  options.num_topk = 2;
  return options;
}

/// Delivers what a test tells it to.
class FakeExchange : public Exchange {
 public:
  FakeExchange(Index num_ranks, Index rank) : num_ranks_(num_ranks), rank_(rank) {}
  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  void reserve(std::size_t max_counts) override { mine_.reserve(reserved = max_counts); }
  void post(const PackedLayout&, std::span<const Load> mine) override {
    mine_.assign(mine.begin(), mine.end());
  }
  ExchangeStatus collect(std::span<Load> all) override {
    std::fill(all.begin(), all.end(), 0);
    std::copy(mine_.begin(), mine_.end(), all.begin() + rank_ * mine_.size());
    deliver(all);
    return status;
  }

  ExchangeStatus status = ExchangeStatus::kComplete;
  std::function<void(std::span<Load>)> deliver = [](std::span<Load>) {};
  std::size_t reserved = 0;

 private:
  Index num_ranks_, rank_;
  std::vector<Load> mine_;
};

TEST(Planner, SplitsABatchOverTheGroup) {
  auto given = std::make_shared<GivenCounts>(2, 0);
  Planner planner(two_ranks(), 0, small_batches(), given);
  // Rank 0: four tokens of expert 0; rank 1: two of expert 2.
  given->set(std::vector<Load>{0, 0, 0, 0, 0, 2}, 3);
  const std::vector<std::int64_t> topk = {0, 0, 0, 0};
  std::vector<std::int64_t> out(4);
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);
  EXPECT_THAT(out, ElementsAre(0, 0, 0, 3));
  const Split& split = planner.last_split();
  EXPECT_EQ(split.max_load, 3);
  EXPECT_EQ(split.lower_bound, 3);
  EXPECT_THAT(split.rank_load, ElementsAre(3, 3));
  EXPECT_EQ(planner.stats().batches, 1);
  EXPECT_EQ(planner.stats().solved, 1);
  EXPECT_EQ(planner.stats().optimal, 1);
  EXPECT_EQ(planner.stats().last_imbalance, 1.0);
  EXPECT_EQ(planner.stats().last_lower_bound, 3);
}

TEST(Planner, EmptyDroppedAndBadBatchesAreBatches) {
  Planner planner(two_ranks(), 1, small_batches(), std::make_shared<FakeExchange>(2, 1));
  EXPECT_EQ(planner.run(std::span<const std::int32_t>{}, {}), BatchStatus::kOptimal);
  std::vector<std::int32_t> out(4, 77);
  EXPECT_EQ(planner.run(std::vector<std::int32_t>{-1, -1, -1, -1}, out), BatchStatus::kOptimal);
  EXPECT_THAT(out, Each(-1));
  EXPECT_EQ(planner.stats().out_of_range, 0);
  planner.run(std::vector<std::int32_t>{3, -2, 2, 1 << 30}, out);
  EXPECT_THAT(out, ElementsAre(-1, -1, 2, -1));
  EXPECT_EQ(planner.stats().out_of_range, 3);
  EXPECT_EQ(planner.stats().batches, 3);
  EXPECT_EQ(planner.stats().last_imbalance, 2.0);
}

TEST(Planner, ComparesLiveRanksByTheirSpeeds) {
  // Experts 0 and 1 on ranks 0 and 1, rank 1 at a quarter of the speed, rank 2 dead.
  const Placement placement = make_placement(3, 2, std::vector<Index>{0, 1, 1, 0, 0, 1},
                                             {.rank_speed = {1, 0.25, 1}, .rank_alive = {1, 1, 0}});
  Planner planner(placement, 0, small_batches(), std::make_shared<FakeExchange>(3, 0));
  std::vector<std::int32_t> ids(10, 0);
  EXPECT_EQ(planner.run(ids, ids), BatchStatus::kOptimal);
  EXPECT_THAT(planner.last_split().rank_load, ElementsAre(8, 2, 0));
  EXPECT_EQ(planner.stats().last_imbalance, 1.0);
}

TEST(Planner, MapsInPlace) {
  Planner planner(two_ranks(), 0, small_batches(), std::make_shared<FakeExchange>(2, 0));
  std::vector<std::int32_t> ids = {0, 1, 1, -1};
  planner.run(ids, ids);
  EXPECT_THAT(ids, ElementsAre(3, 1, 1, -1));
}

TEST(Planner, DividesItsOwnTokensEvenlyWhereAPeerIsLate) {
  auto exchange = std::make_shared<FakeExchange>(2, 0);
  Planner planner(two_ranks(), 0, small_batches(), exchange);
  exchange->status = ExchangeStatus::kTimedOut;
  exchange->deliver = [](std::span<Load> all) { std::fill(all.begin(), all.end(), -1); };
  std::vector<std::int32_t> out(6);
  EXPECT_EQ(planner.run(std::vector<std::int32_t>{0, 0, 0, 0, 1, 9}, out), BatchStatus::kDegraded);
  EXPECT_THAT(out, ElementsAre(0, 0, 3, 3, 1, -1));
  EXPECT_EQ(planner.stats().degraded, 1);
  EXPECT_EQ(planner.stats().solved, 0);
  EXPECT_EQ(planner.stats().out_of_range, 1);
  exchange->status = ExchangeStatus::kComplete;
  exchange->deliver = [](std::span<Load>) {};
  EXPECT_EQ(planner.run(std::vector<std::int32_t>{0, 0}, out = {7, 7}), BatchStatus::kOptimal);
  EXPECT_EQ(planner.stats().degraded, 1);
  EXPECT_EQ(planner.stats().solved, 1);

  // The replica that takes the odd token depends on the rank. If it did not, all ranks would give
  // theirs to the same replica.
  for (const Index rank : {0, 1}) {
    auto late = std::make_shared<FakeExchange>(2, rank);
    late->status = ExchangeStatus::kTimedOut;
    Planner alone(two_ranks(), rank, small_batches(), late);
    alone.run(std::vector<std::int32_t>{0, -1}, out = {7, 7});
    EXPECT_THAT(out, ElementsAre(rank == 0 ? 0 : 3, -1));
  }
}

TEST(Planner, ReportsAGapWhereTheSolverIsStopped) {
  PlannerOptions options;
  options.max_tokens = 1 << 20;
  options.num_topk = 1;
  options.solve = {Solver::kFlow, 0};
  int stopped = 0;
  for (const testing::Instance& instance : testing::adversarial_instances()) {
    const Placement& p = instance.placement;
    if (std::ranges::any_of(instance.load, [](Load w) { return w > 1 << 10; })) continue;
    const Split split = solve(p, instance.load, options.solve);
    if (split.status == SolveStatus::kOptimal) continue;
    std::vector<std::int32_t> topk;
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      topk.insert(topk.end(), static_cast<std::size_t>(instance.load[e]), e);
    }
    Planner planner(p, 0, options, std::make_shared<FakeExchange>(p.num_ranks, 0));
    EXPECT_EQ(planner.run(topk, topk), BatchStatus::kBounded) << instance.name;
    EXPECT_EQ(planner.stats().solved, 1);
    EXPECT_EQ(planner.stats().optimal, 0);
    EXPECT_LT(planner.last_split().lower_bound, planner.last_split().max_load);
    ++stopped;
  }
  EXPECT_GT(stopped, 0);
}

TEST(Planner, SplitsAsTheFullCountsWould) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    const testing::Instance instance = testing::random_instance(seed);
    const Placement& p = instance.placement;
    const Index num_logical = p.num_logical_experts;
    // The counts of all ranks are given; for rank 0 there are tokens, too.
    std::mt19937_64 random(seed);
    std::vector<Load> counts(static_cast<std::size_t>(p.num_ranks) * num_logical, 0);
    for (Index e = 0; e < num_logical; ++e) {
      Load left = instance.load[e];
      for (Index g = p.num_ranks - 1; g > 0; --g) {
        const Load n = static_cast<Load>(random() % static_cast<std::uint64_t>(left + 1));
        counts[static_cast<std::size_t>(g) * num_logical + e] = n;
        left -= n;
      }
      counts[e] = left;
    }
    std::vector<std::int32_t> topk;
    for (Index e = 0; e < num_logical; ++e) {
      topk.insert(topk.end(), static_cast<std::size_t>(counts[e]), e);
    }
    auto given = std::make_shared<GivenCounts>(p.num_ranks, 0);
    given->set(counts, num_logical);
    PlannerOptions options;
    options.num_topk = 1;
    options.max_tokens = static_cast<std::int64_t>(topk.size()) + 1;
    Planner planner(p, 0, options, given);
    std::vector<std::int32_t> out(topk.size());
    ASSERT_EQ(planner.run(topk, out), BatchStatus::kOptimal);

    const Split full = solve(p, instance.load);
    const Split& split = planner.last_split();
    ASSERT_EQ(split.rank_load, full.rank_load);
    ASSERT_EQ(split.max_load, full.max_load);
    ASSERT_EQ(split.lower_bound, full.lower_bound);
    ASSERT_EQ(split.bottleneck_ranks, full.bottleneck_ranks);
    std::vector<Load> single(p.num_ranks, 0), full_single(p.num_ranks, 0);
    for (Index slot = 0; slot < p.num_physical(); ++slot) {
      if (p.replica_count[p.physical_to_logical[slot]] > 1) {
        ASSERT_EQ(split.physical_load[slot], full.physical_load[slot]);
      } else {
        single[p.rank_of(slot)] += split.physical_load[slot];
        full_single[p.rank_of(slot)] += full.physical_load[slot];
      }
    }
    ASSERT_EQ(single, full_single);
    // The map is that of map_tokens().
    std::vector<std::int32_t> mapped(topk.size());
    map_tokens(p, counts, full.physical_load, 0, topk, mapped);
    ASSERT_EQ(out, mapped);
  }
}

TEST(Planner, RunDoesNotAllocateFromTheFirstBatchOn) {
  for (const char* name : {"cube8x2", "torus8x4x2", "EP64+64"}) {
    SCOPED_TRACE(name);
    const testing::Workload workload = testing::make_workload(name, 3);
    const Placement& p = workload.placement;
    PlannerOptions options;
    options.max_tokens = 4096;
    auto exchange = std::make_shared<FakeExchange>(p.num_ranks, 0);
    Planner planner(p, 0, options, exchange);
    EXPECT_GT(exchange->reserved, static_cast<std::size_t>(p.num_ranks));
    // A placement with other replicas, nodes, speeds and a dead rank.
    std::vector<Index> map = p.physical_to_logical;
    std::rotate(map.begin(), map.begin() + 1, map.end());
    PlacementOptions all_else;
    all_else.num_nodes = 2;
    all_else.rank_speed.assign(p.num_ranks, 1.5);
    all_else.rank_speed[1] = 1;
    const Placement other = make_placement(p.num_ranks, p.num_logical_experts, map, all_else);

    std::mt19937 random(1);
    std::vector<std::int32_t> topk(4096 * 8);
    std::vector<std::int32_t> out(topk.size());
    for (int batch = 0; batch < 6; ++batch) {
      for (std::int32_t& id : topk) {
        const auto e = random() % p.num_logical_experts;
        id = static_cast<std::int32_t>(batch % 2 == 0 ? e : e * e / p.num_logical_experts);
      }
      exchange->status = batch == 4 ? ExchangeStatus::kTimedOut : ExchangeStatus::kComplete;
      const std::int64_t before = num_allocations();
      if (batch == 2) planner.update_placement(other);
      if (batch == 5) planner.update_placement(p);
      planner.run(topk, out);
      EXPECT_EQ(num_allocations() - before, 0) << "batch " << batch;
    }
    EXPECT_EQ(planner.stats().optimal, 5);
  }
}

TEST(Planner, GroupOfThreadsDoesNotAllocateEither) {
  InProcessGroup group(1);
  const std::vector<Index> map = {0, 1, 0, 2};
  Planner planner(make_placement(1, 3, map), 0, small_batches(), group.member(0));
  std::vector<std::int32_t> ids = {0, 1, 0, 2};
  const std::int64_t before = num_allocations();
  planner.run(ids, ids);
  EXPECT_EQ(num_allocations() - before, 0);
  EXPECT_THAT(ids, ElementsAre(0, 1, 2, 3));
}

TEST(Planner, UpdatesThePlacement) {
  PlannerOptions options = small_batches();
  options.max_redundants = 3;
  Planner planner(two_ranks(), 0, options, std::make_shared<FakeExchange>(2, 0));
  const std::vector<Index> wider = {0, 1, 2, 2, 1, 0};
  planner.update_placement(make_placement(2, 3, wider));
  EXPECT_EQ(planner.placement().num_physical(), 6);
  std::vector<std::int32_t> ids = {2, 2, 1, 1};
  EXPECT_EQ(planner.run(ids, ids), BatchStatus::kOptimal);
  EXPECT_THAT(planner.last_split().rank_load, ElementsAre(2, 2));
  for (const std::int32_t p : ids) EXPECT_GE(p, 1);
}

TEST(Planner, RefusesAPlacementBeyondItsLimitsAndKeepsTheOld) {
  Planner planner(two_ranks(), 0, small_batches(), std::make_shared<FakeExchange>(2, 0));
  const auto refused = [&](Index ranks, Index logical, std::vector<Index> map, const char* part) {
    expect_refused([&] { planner.update_placement(make_placement(ranks, logical, map)); }, part);
    EXPECT_EQ(planner.placement(), two_ranks());
  };
  refused(4, 3, {0, 1, 2, 0}, "placement: has 4 ranks, expected those of the first (2)");
  refused(2, 4, {0, 1, 2, 3}, "placement: has 4 logical experts, expected those of the first (3)");
  refused(2, 3, {0, 1, 2, 0, 1, 2}, "placement: has 3 redundant slots, expected at most max_redun");
}

TEST(Planner, RefusesOptionsThatDoNotFit) {
  const auto with = [](Index rank, const std::function<void(PlannerOptions&)>& change,
                       std::shared_ptr<Exchange> exchange = std::make_shared<FakeExchange>(2, 0)) {
    return [=] {
      PlannerOptions options = small_batches();
      change(options);
      Planner(two_ranks(), rank, options, exchange);
    };
  };
  const auto nothing = [](PlannerOptions&) {};
  expect_refused(with(2, nothing), "rank: 2 is not between 0 and 1");
  expect_refused(with(-1, nothing), "rank: -1 is not between 0 and 1");
  expect_refused(with(0, [](auto& o) { o.max_tokens = 0; }), "max_tokens: 0 is not >= 1");
  expect_refused(with(0, [](auto& o) { o.num_topk = 0; }), "num_topk: 0 is not >= 1");
  expect_refused(with(0, [](auto& o) { o.max_redundants = -1; }), "max_redundants: -1 is not betw");
  expect_refused(with(0, [](auto& o) { o.max_redundants = 4094; }),
                 "4094 is not between 0 and 4093");
  expect_refused(with(0, [](auto& o) { o.staleness = 2; }), "staleness: 2 is not 0 or 1");
  expect_refused(with(0, nothing, nullptr), "exchange: is null");
  expect_refused(with(0, nothing, std::make_shared<FakeExchange>(3, 0)),
                 "exchange: 3 ranks, expected those of the placement (2)");
  expect_refused(with(1, nothing), "exchange: is that of rank 0, expected 1");

  const Placement wide = testing::make_workload("hypercube16x2", 0).placement;
  PlannerOptions cut = small_batches();
  cut.solve.solver = Solver::kCut;
  expect_refused([&] { Planner(wide, 0, cut, std::make_shared<FakeExchange>(16, 0)); },
                 "solver: \"cut\" takes up to 8 ranks, not 16");
  PlannerOptions narrow = small_batches();
  narrow.max_redundants = 31;
  expect_refused([&] { Planner(wide, 0, narrow, std::make_shared<FakeExchange>(16, 0)); },
                 "placement: has 32 redundant slots, expected at most max_redundants (31)");
}

TEST(Planner, RefusesBatchesThatDoNotFit) {
  Planner planner(two_ranks(), 0, small_batches(), std::make_shared<FakeExchange>(2, 0));
  std::vector<std::int32_t> out(4);
  expect_refused([&] { planner.run(std::vector<std::int32_t>(3), out); },
                 "topk_idx: has 3 entries, expected a multiple of num_topk (2)");
  expect_refused([&] { planner.run(std::vector<std::int32_t>(2002), out); },
                 "topk_idx: has 1001 tokens, expected at most max_tokens (1000)");
  expect_refused([&] { planner.run(std::vector<std::int32_t>(6), out); },
                 "physical_idx: has 4 entries, expected as many as topk_idx (6)");
  EXPECT_EQ(planner.stats().batches, 0);
}

TEST(Planner, RefusesCountsThatCannotBe) {
  auto exchange = std::make_shared<FakeExchange>(2, 0);
  Planner planner(two_ranks(), 0, small_batches(), exchange);
  const std::vector<std::int32_t> topk = {0, 1};
  std::vector<std::int32_t> out = {7, 7};
  // Packed: expert 0, then the single-replica experts of ranks 0 and 1; the same again for rank 1.
  const auto refused = [&](std::size_t at, Load value, const char* part) {
    exchange->deliver = [=](std::span<Load> all) { all[at] = value; };
    expect_refused<ExchangeError>([&] { planner.run(topk, out); }, part);
    EXPECT_THAT(out, Each(7));
  };
  refused(4, -1, "the counts of all ranks: one is negative");
  refused(3, kMax, "the counts of all ranks: they sum past 2^63 - 1");
  refused(5, kMax, "the counts of all ranks: they sum past 2^63 - 1");
  // With this rank's two tokens this is 2^63 - 1.
  exchange->deliver = [](std::span<Load> all) { all[5] = kMax - 2; };
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);
  out = {7, 7};
  refused(0, 5, "the counts of all ranks: they are not of this placement");
  exchange->deliver = [](std::span<Load>) {};
  EXPECT_EQ(planner.run(topk, out), BatchStatus::kOptimal);

  // A rank whose experts are all replicated has no single-replica experts.
  const std::vector<Index> map = {0, 1, 0, 1};
  Planner full(make_placement(2, 2, map), 0, small_batches(), exchange);
  exchange->deliver = [](std::span<Load> all) { all[7] = 3; };
  expect_refused<ExchangeError>([&] { full.run(topk, out); },
                                "the counts of all ranks: they are not of this placement");
}

TEST(DeviceObjects, SayWhatIsMissing) {
  const std::string& missing = cuda_support().missing;
  if (missing.empty()) GTEST_SKIP() << "there is a GPU";
  const auto expect_missing = [&](const std::function<void()>& make) {
    try {
      make();
      ADD_FAILURE() << "made without a device";
    } catch (const CudaError& e) {
      EXPECT_EQ(e.what(), "backend cuda: " + missing);
    }
  };
  expect_missing([] { DevicePlanner(two_ranks(), 0, small_batches()); });
  expect_missing([] { DeviceCounter counter(two_ranks()); });
}

TEST(Planner, Moves) {
  Planner a(two_ranks(), 0, small_batches(), std::make_shared<FakeExchange>(2, 0));
  Planner b = std::move(a);
  std::vector<std::int32_t> ids = {1, 1};
  EXPECT_EQ(b.run(ids, ids), BatchStatus::kOptimal);
  a = std::move(b);
  EXPECT_EQ(a.stats().batches, 1);
}

}  // namespace
}  // namespace lplb
