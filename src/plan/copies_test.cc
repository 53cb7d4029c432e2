// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lplb/planner.h"
#include "lplb/replicate.h"
#include "support/allocations.h"
#include "support/expect_refused.h"
#include "support/instances.h"
#include "support/plan_batches.h"

// Planners with dynamic slots: copies of experts for each batch.
namespace lplb {
namespace {

using testing::draw_live_batch;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::expect_refused;
using testing::GroupBatch;
using testing::SplitMix64;

PlannerOptions with_copies(Index slots, const ReplicateOptions& how = {}) {
  PlannerOptions made;
  made.max_tokens = 300;
  made.num_topk = 2;
  made.dynamic_slots = slots;
  made.replicate = how;
  return made;
}

std::vector<Load> sum_of(const Placement& p, const std::vector<Load>& counts) {
  std::vector<Load> sum(static_cast<std::size_t>(p.num_logical_experts), 0);
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % sum.size()] += counts[i];
  return sum;
}

/// The expert in each slot, main slots first: [num_ranks * (M + S)]; -1: unused.
std::vector<Index> experts_in(const Placement& p, const std::vector<Index>& slot_expert) {
  const Index slots = static_cast<Index>(slot_expert.size()) / p.num_ranks;
  std::vector<Index> out;
  for (Index g = 0; g < p.num_ranks; ++g) {
    for (Index i = 0; i < p.slots_per_rank(); ++i) {
      out.push_back(p.physical_to_logical[g * p.slots_per_rank() + i]);
    }
    for (Index i = 0; i < slots; ++i) out.push_back(slot_expert[g * slots + i]);
  }
  return out;
}

/// All ranks of a group, with the counts given to them.
struct Ranks {
  Ranks(const Placement& p, const PlannerOptions& how) : placement(p) {
    for (Index g = 0; g < p.num_ranks; ++g) {
      given.push_back(std::make_shared<GivenCounts>(p.num_ranks, g));
      planners.emplace_back(p, g, how, given.back());
    }
  }

  /// Plans a batch on every rank. Returns the ids of each.
  std::vector<std::vector<std::int64_t>> run(const GroupBatch& batch) {
    std::vector<std::vector<std::int64_t>> ids;
    for (Index g = 0; g < placement.num_ranks; ++g) {
      const auto at = static_cast<std::size_t>(g);
      given[at]->set(batch.counts, placement.num_logical_experts);
      ids.emplace_back(batch.topk[at].size());
      status = planners[at].run(batch.topk[at], ids.back());
    }
    return ids;
  }

  Placement placement;
  std::vector<std::shared_ptr<GivenCounts>> given;
  std::vector<Planner> planners;
  BatchStatus status = BatchStatus::kOptimal;
};

/// Every entry goes to a slot that holds its expert, and over the group each slot takes exactly
/// what replicate() gives it.
void check_ids(const Placement& p, const GroupBatch& batch,
               const std::vector<std::vector<std::int64_t>>& ids, const Replication& want) {
  const std::vector<Index> held = experts_in(p, want.slot_expert);
  std::vector<Load> taken(held.size(), 0);
  for (std::size_t g = 0; g < ids.size(); ++g) {
    for (std::size_t i = 0; i < ids[g].size(); ++i) {
      const std::int64_t e = batch.topk[g][i];
      const std::int64_t slot = ids[g][i];
      if (e < 0 || e >= p.num_logical_experts) {
        ASSERT_EQ(slot, -1);
        continue;
      }
      ASSERT_GE(slot, 0);
      ASSERT_LT(slot, static_cast<std::int64_t>(held.size()));
      ASSERT_EQ(held[static_cast<std::size_t>(slot)], e);
      ++taken[static_cast<std::size_t>(slot)];
    }
  }
  EXPECT_EQ(taken, want.physical_load);
}

TEST(PlannerCopies, EqualReplicateOnTheSummedCounts) {
  SplitMix64 random(41);
  Index copies = 0;
  for (int repeat = 0; repeat < 60; ++repeat) {
    const Placement p = testing::random_placement(random, 9);
    const Index slots = 1 + random.below(3);
    ReplicateOptions how{.target = random.below(3) == 0 ? 1.3 : 1.0,
                         .min_tokens = 1 + random.below(5)};
    if (p.num_ranks % 2 == 0) how.num_domains = 1 + random.below(2);
    Ranks ranks(p, with_copies(slots, how));
    how.dynamic_slots = slots;
    for (int i = 0; i < 4; ++i) {
      const GroupBatch batch = draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      const std::vector<Load> load = sum_of(p, batch.counts);
      const Replication want = replicate(p, load, how);
      const auto ids = ranks.run(batch);
      check_ids(p, batch, ids, want);
      for (const Planner& planner : ranks.planners) {  // ranks agree
        const Replication& got = planner.last_copies();
        ASSERT_EQ(got.slot_expert, want.slot_expert);
        EXPECT_EQ(got.slot_source, want.slot_source);
        EXPECT_EQ(verify_replication(p, load, how, got), "");
        const Split& split = planner.last_split();
        EXPECT_EQ(split.physical_load, want.physical_load);
        EXPECT_EQ(split.rank_load, want.rank_load);
        EXPECT_EQ(split.max_load, want.max_load);
        EXPECT_EQ(split.lower_bound, want.lower_bound);
        EXPECT_EQ(split.bottleneck_ranks, want.bottleneck_ranks);
        EXPECT_EQ(planner.stats().last_imbalance, imbalance(p, want.rank_load));
      }
      const bool optimal = want.status == SolveStatus::kOptimal;
      EXPECT_EQ(ranks.status, optimal ? BatchStatus::kOptimal : BatchStatus::kBounded);
      copies += want.copies;
    }
    EXPECT_EQ(ranks.planners[0].stats().solved, 4);
  }
  EXPECT_GT(copies, 300);
}

/// A model's sizes, over a group of threads.
TEST(PlannerCopies, ExchangeInAGroup) {
  constexpr Index kRanks = 8;
  const auto workload = testing::make_workload("mild:cube8x2", 1);
  const Placement& p = workload.placement;
  SplitMix64 random(5);
  PlannerOptions how = with_copies(1);
  InProcessGroup group(kRanks);
  std::vector<GroupBatch> batches;
  for (int i = 0; i < 3; ++i) {
    batches.push_back(draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random));
  }
  std::vector<std::vector<std::vector<std::int64_t>>> ids(
      batches.size(), std::vector<std::vector<std::int64_t>>(kRanks));
  std::vector<Replication> got(batches.size());
  std::vector<std::thread> threads;
  for (Index g = 0; g < kRanks; ++g) {
    threads.emplace_back([&, g] {
      Planner planner(p, g, how, group.member(g));
      for (std::size_t i = 0; i < batches.size(); ++i) {
        const auto& topk = batches[i].topk[static_cast<std::size_t>(g)];
        auto& out = ids[i][static_cast<std::size_t>(g)];
        out.resize(topk.size());
        planner.run(topk, out);
        EXPECT_EQ(planner.last_counts().size(), std::size_t{kRanks} * 256);
        if (g == 0) got[i] = planner.last_copies();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Replication want = replicate(p, sum_of(p, batches[i].counts));
    EXPECT_EQ(got[i].slot_expert, want.slot_expert);
    EXPECT_GT(want.copies, 0);
    check_ids(p, batches[i], ids[i], want);
  }
}

/// Two batches are under way in turns, each with a planner and an exchange of its own.
TEST(PlannerCopies, SeveralBatchesInFlight) {
  SplitMix64 random(6);
  const Placement p = make_placement(4, 8, std::vector<Index>{0, 1, 2, 3, 4, 5, 6, 7});
  Ranks first(p, with_copies(1)), second(p, with_copies(1)), alone(p, with_copies(1));
  for (int i = 0; i < 5; ++i) {
    const GroupBatch a = draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
    const GroupBatch b = draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
    const auto ids = first.run(a);
    second.run(b);
    EXPECT_EQ(ids, alone.run(a));
    EXPECT_EQ(first.planners[0].last_copies().slot_expert,
              alone.planners[0].last_copies().slot_expert);
  }
}

/// An exchange that can be late.
class LateExchange : public GivenCounts {
 public:
  using GivenCounts::GivenCounts;
  ExchangeStatus collect(std::span<Load> all) override {
    const ExchangeStatus status = GivenCounts::collect(all);
    return is_late ? ExchangeStatus::kTimedOut : status;
  }
  bool is_late = false;
};

class PlannerChanges : public ::testing::Test {
 protected:
  PlannerChanges() { exchange_->set(std::vector<Load>(6, 0), 2); }

  /// Three ranks; experts 0 and 1 are on rank 0 and 1, expert 0 also on rank 2. Rank 0 has the
  /// tokens.
  static Placement placement() { return make_placement(3, 2, std::vector<Index>{0, 1, 0}); }

  BatchStatus run(Index zeros, Index ones) {
    std::vector<std::int32_t> topk(static_cast<std::size_t>(zeros), 0);
    topk.insert(topk.end(), static_cast<std::size_t>(ones), 1);
    ids_.resize(topk.size());
    return planner_.run(topk, ids_);
  }
  std::vector<int> is_new() const {
    const std::span<const char> slots = planner_.slot_is_new();
    return {slots.begin(), slots.end()};
  }
  const std::vector<Index>& experts() const { return planner_.last_copies().slot_expert; }

  std::shared_ptr<LateExchange> exchange_ = std::make_shared<LateExchange>(3, 0);
  Planner planner_{placement(), 0, with_copies(1), exchange_};
  std::vector<std::int32_t> ids_;
};

TEST_F(PlannerChanges, SaysWhichSlotsAreNew) {
  EXPECT_EQ(run(0, 90), BatchStatus::kOptimal);
  EXPECT_THAT(experts(), ElementsAre(1, -1, 1));
  EXPECT_THAT(is_new(), ElementsAre(1, 0, 1));
  run(0, 60);
  EXPECT_THAT(is_new(), ElementsAre(0, 0, 0));
  // A batch that uses no slot: they keep what they hold.
  run(0, 0);
  EXPECT_THAT(experts(), Each(-1));
  EXPECT_THAT(is_new(), ElementsAre(0, 0, 0));
  run(0, 30);
  EXPECT_THAT(experts(), ElementsAre(1, -1, 1));
  EXPECT_THAT(is_new(), ElementsAre(0, 0, 0));
  run(90, 0);
  EXPECT_THAT(experts(), ElementsAre(-1, 0, -1));
  EXPECT_THAT(is_new(), ElementsAre(0, 1, 0));
  EXPECT_EQ(planner_.stats().copies, 2 + 2 + 2 + 1);
}

TEST_F(PlannerChanges, ADegradedBatchUsesNoDynamicSlot) {
  run(0, 90);
  exchange_->is_late = true;
  EXPECT_EQ(run(4, 4), BatchStatus::kDegraded);
  // Main slots have the ids 0, 2 and 4. Expert 0 is divided evenly over ranks 0 and 2.
  EXPECT_THAT(ids_, ElementsAre(0, 0, 4, 4, 2, 2, 2, 2));
  EXPECT_THAT(experts(), Each(-1));
  EXPECT_THAT(planner_.last_copies().slot_source, Each(-1));
  EXPECT_EQ(planner_.last_copies().copies, 0);
  EXPECT_THAT(is_new(), Each(0));
  EXPECT_EQ(planner_.stats().degraded, 1);
  EXPECT_EQ(planner_.stats().copies, 2);
  exchange_->is_late = false;
  EXPECT_EQ(run(0, 90), BatchStatus::kOptimal);
  EXPECT_THAT(is_new(), ElementsAre(1, 0, 1));  // slots counted as empty
}

/// A batch whose copies could not be fetched is mapped again without them, and without an exchange.
TEST_F(PlannerChanges, ABatchCanBeMappedAgainWithoutCopies) {
  const std::vector<std::int32_t> topk = {1, 1, 1, 1, 0, 0, -1, 9};
  ids_.resize(topk.size());
  EXPECT_EQ(planner_.run(topk, ids_), BatchStatus::kOptimal);
  EXPECT_GT(planner_.last_copies().copies, 0);
  exchange_.reset();
  planner_.run_alone(topk, ids_);
  EXPECT_THAT(ids_, ElementsAre(2, 2, 2, 2, 0, 4, -1, -1));
  EXPECT_THAT(experts(), Each(-1));
  EXPECT_THAT(is_new(), Each(0));
  EXPECT_EQ(planner_.stats().batches, 1);
  EXPECT_EQ(planner_.stats().degraded, 1);
  EXPECT_EQ(planner_.stats().out_of_range, 1);
  expect_refused([this, &topk] { planner_.run_alone(topk, std::span(ids_).first(2)); },
                 "physical_idx: has 2 entries");
  run(0, 90);
  EXPECT_THAT(is_new(), ElementsAre(1, 0, 1));
}

TEST_F(PlannerChanges, ANewPlacementEmptiesTheSlots) {
  run(0, 90);
  const Placement next = make_placement(3, 2, std::vector<Index>{0, 1, 1});
  planner_.update_placement(next);
  EXPECT_THAT(planner_.last_copies().slot_expert, Each(-1));
  EXPECT_EQ(run(0, 90), BatchStatus::kOptimal);
  EXPECT_THAT(experts(), ElementsAre(1, -1, -1));
  EXPECT_THAT(is_new(), ElementsAre(1, 0, 0));
  EXPECT_THAT(planner_.last_split().physical_load, ElementsAre(0, 30, 30, 0, 30, 0));
  exchange_->is_late = true;
  run(0, 4);
  EXPECT_THAT(ids_, ElementsAre(2, 2, 4, 4));
}

TEST(PlannerCopies, PlacementsThatChange) {
  SplitMix64 random(43);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Placement p = testing::random_placement(random, 6);
    PlannerOptions how = with_copies(2);
    how.max_redundants = p.num_physical() - p.num_logical_experts + 2 * p.num_ranks;
    Ranks ranks(p, how);
    for (int i = 0; i < 3; ++i) {
      std::vector<Index> map = ranks.placement.physical_to_logical;
      std::rotate(map.begin(), map.begin() + 1, map.end());
      if (i == 1) {
        for (Index k = 0; k < p.num_ranks; ++k) map.push_back(k % p.num_logical_experts);
      }
      const Placement next = make_placement(p.num_ranks, p.num_logical_experts, map);
      for (Planner& planner : ranks.planners) planner.update_placement(next);
      ranks.placement = next;
      const GroupBatch batch = draw_live_batch(next, {.num_topk = 2, .max_tokens = 300}, random);
      const Replication want = replicate(next, sum_of(next, batch.counts), {.dynamic_slots = 2});
      check_ids(next, batch, ranks.run(batch), want);
    }
  }
}

/// The survivors' group exchanges only the rows of live ranks.
TEST(PlannerCopies, GroupsOfLiveRanks) {
  SplitMix64 random(44);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Placement p = testing::random_with_dead(random, 8);
    const std::vector<Index> live = testing::live_ranks(p);
    const GroupBatch batch = draw_live_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
    const Replication want = replicate(p, sum_of(p, batch.counts));
    std::vector<std::vector<std::int64_t>> ids(static_cast<std::size_t>(p.num_ranks));
    for (Index member = 0; member < static_cast<Index>(live.size()); ++member) {
      const auto rank = static_cast<std::size_t>(live[static_cast<std::size_t>(member)]);
      auto given = std::make_shared<GivenCounts>(static_cast<Index>(live.size()), member);
      given->set(testing::live_rows(p, batch.counts), p.num_logical_experts);
      Planner planner(p, static_cast<Index>(rank), with_copies(1), given);
      ids[rank].resize(batch.topk[rank].size());
      planner.run(batch.topk[rank], ids[rank]);
    }
    check_ids(p, batch, ids, want);
  }
}

TEST(PlannerCopies, AllocateNothingOnceTheyHaveSeenSuchABatch) {
  const auto workload = testing::make_workload("mild:EP64+64", 4);
  auto given = std::make_shared<GivenCounts>(64, 0);
  Planner planner(workload.placement, 0, with_copies(2), given);
  std::vector<std::int32_t> ids(600, 3);
  const auto set = [&](std::size_t i) {
    std::vector<Load> counts(64 * 256, 0);
    std::copy(workload.loads[i].begin(), workload.loads[i].end(), counts.begin() + 256);
    given->set(counts, 256);
  };
  for (std::size_t i = 0; i < 4; ++i) {
    set(i);
    planner.run(ids, ids);
    std::fill(ids.begin(), ids.end(), 3);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    set(i);
    const std::int64_t before = testing::num_allocations();
    planner.run(ids, ids);
    EXPECT_EQ(testing::num_allocations() - before, 0) << i;
    std::fill(ids.begin(), ids.end(), 3);
  }
  EXPECT_GT(planner.stats().copies, 100);
}

/// Ranks with other options would send tokens to slots that do not hold their expert.
TEST(PlannerCopies, RanksWithOtherOptionsFindOut) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1});
  const ReplicateOptions target{.target = 1.5};
  const ReplicateOptions large{.min_tokens = 8};
  const ReplicateOptions domains{.num_domains = 2};
  for (const PlannerOptions& other : {with_copies(0), with_copies(2), with_copies(1, target),
                                      with_copies(1, large), with_copies(1, domains)}) {
    InProcessGroup group(2);
    Planner one(p, 0, with_copies(1), group.member(0));
    Planner two(p, 1, other, group.member(1));
    std::vector<std::int32_t> ids;
    std::thread peer([&] {
      std::vector<std::int32_t> none;
      EXPECT_THROW(two.run(none, none), ExchangeError);
    });
    EXPECT_THROW(one.run(ids, ids), ExchangeError);
    peer.join();
  }
}

TEST(PlannerCopies, SayWhatIsWrong) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1});
  const auto make = [&p](const PlannerOptions& how) {
    return [&p, how] { Planner(p, 0, how, std::make_shared<GivenCounts>(2, 0)); };
  };
  expect_refused(make(with_copies(-1)), "dynamic_slots: -1 is not between 0 and 8");
  expect_refused(make(with_copies(9)), "dynamic_slots: 9 is not between 0 and 8");
  PlannerOptions how = with_copies(1);
  how.staleness = 1;
  expect_refused(make(how), "staleness: 1 with 1 dynamic slots, expected 0");
  how = with_copies(1);
  how.cost = weights_only_model();
  expect_refused(make(how), "cost: is given with 1 dynamic slots");
  how = with_copies(1);
  how.solve.solver = Solver::kFlow;
  expect_refused(make(how), "solver: is flow with 1 dynamic slots, expected auto");
  expect_refused(make(with_copies(1, {.target = 0.5})), "target: 0.5");
  expect_refused(make(with_copies(1, {.min_tokens = 0})), "min_tokens: 0");
  expect_refused(make(with_copies(1, {.num_domains = 3})), "num_domains: 3");
  Planner without(p, 0, with_copies(0), std::make_shared<GivenCounts>(2, 0));
  expect_refused([&] { without.last_copies(); }, "dynamic_slots: is 0, expected at least 1");
  expect_refused([&] { without.slot_is_new(); }, "dynamic_slots: is 0, expected at least 1");
}

}  // namespace
}  // namespace lplb
