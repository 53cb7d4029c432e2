// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <latch>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "lplb/planner.h"
#include "support/instances.h"

// Eight ranks are eight threads, and each has a planner of its own. The tests go from topk_idx to
// physical_idx.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::SplitMix64;

constexpr Index kRanks = 8;
constexpr Index kTopk = 4;

/// The input and the results of one rank in one batch.
struct Seen {
  std::vector<std::int64_t> topk;
  std::vector<std::int64_t> physical;
  BatchStatus status = BatchStatus::kDegraded;
  Split split;
};

/// Draws the tokens of a batch on a rank. They prefer some experts, which change from batch to
/// batch. Ranks have different numbers of tokens, and some have none. Some entries are dropped.
std::vector<std::int64_t> draw_tokens(Index num_logical, Index rank, int batch) {
  SplitMix64 random(static_cast<std::uint64_t>(rank) * 1000 + static_cast<std::uint64_t>(batch));
  const Index num_tokens = random.below(6) == 0 ? 0 : 20 + random.below(200);
  std::vector<std::int64_t> topk;
  for (Index i = 0; i < num_tokens * kTopk; ++i) {
    const double u = random.unit();
    const auto hot = static_cast<Index>(u * u * u * num_logical);
    topk.push_back(random.below(50) == 0 ? -1 : (hot + batch * 3) % num_logical);
  }
  return topk;
}

/// Runs a batch on `planner`. Even ranks use int32, odd ranks int64.
void run_batch(Planner& planner, Index rank, Seen& seen) {
  seen.physical.assign(seen.topk.size(), -9);
  if (rank % 2 == 0) {
    std::vector<std::int32_t> narrow(seen.topk.begin(), seen.topk.end());
    seen.status = planner.run(narrow, narrow);
    seen.physical.assign(narrow.begin(), narrow.end());
  } else {
    seen.status = planner.run(seen.topk, seen.physical);
  }
  seen.split = planner.last_split();
}

void on_ranks(const std::function<void(Index)>& body) {
  std::vector<std::thread> threads;
  for (Index rank = 0; rank < kRanks; ++rank) threads.emplace_back(body, rank);
  for (std::thread& t : threads) t.join();
}

PlannerOptions options() {
  PlannerOptions result;
  result.max_tokens = 256;
  result.num_topk = kTopk;
  return result;
}

/// What all ranks together did in a batch.
struct Taken {
  std::vector<Load> load;      // [num_logical]
  std::vector<Load> physical;  // [num_physical]
  std::vector<Load> counts;    // [num_ranks, num_logical]
  Locality local;
};

/// Checks that every entry reached a live replica of its expert.
Taken check_tokens(const Placement& p, const std::vector<Seen>& ranks) {
  Taken taken;
  const auto num_logical = static_cast<std::size_t>(p.num_logical_experts);
  taken.load.assign(num_logical, 0);
  taken.physical.assign(p.physical_to_logical.size(), 0);
  taken.counts.assign(num_logical * kRanks, 0);
  for (Index rank = 0; rank < kRanks; ++rank) {
    const Seen& seen = ranks[rank];
    for (std::size_t i = 0; i < seen.topk.size(); ++i) {
      const std::int64_t expert = seen.topk[i];
      if (expert < 0) {
        EXPECT_EQ(seen.physical[i], -1);
        continue;
      }
      if (seen.physical[i] < 0 || seen.physical[i] >= p.num_physical()) {
        ADD_FAILURE() << "expert " << expert << " went to " << seen.physical[i];
        continue;
      }
      const auto slot = static_cast<Index>(seen.physical[i]);
      EXPECT_EQ(p.physical_to_logical[slot], expert);
      EXPECT_TRUE(p.alive(p.rank_of(slot)));
      ++taken.load[expert];
      ++taken.physical[slot];
      ++taken.counts[num_logical * rank + expert];
      taken.local.same_rank += p.rank_of(slot) == rank;
      taken.local.same_node += p.node_of(p.rank_of(slot)) == p.node_of(rank);
    }
  }
  return taken;
}

/// Checks a batch that was solved: all ranks have the same split, the tokens went as the split
/// says, and its certificate proves that it is optimal.
void check_solved(const Placement& p, const std::vector<Seen>& ranks) {
  const Taken taken = check_tokens(p, ranks);
  for (const Seen& seen : ranks) {
    ASSERT_EQ(seen.status, BatchStatus::kOptimal);
    ASSERT_EQ(seen.split.physical_load, ranks[0].split.physical_load);
    ASSERT_EQ(seen.split.bottleneck_ranks, ranks[0].split.bottleneck_ranks);
  }
  Split done = ranks[0].split;
  done.physical_load = taken.physical;
  ASSERT_EQ(verify_split(p, taken.load, done), "");
  const Locality local = count_local(p, taken.counts, taken.physical);
  ASSERT_EQ(taken.local.same_rank, local.same_rank);
  ASSERT_EQ(taken.local.same_node, local.same_node);
}

/// A cube with its experts renamed by `seed`, as a rebalance would do.
Placement renamed_cube(std::uint64_t seed) {
  const Placement cube = testing::make_workload("cube8x2", 0).placement;
  std::vector<Index> name(static_cast<std::size_t>(cube.num_logical_experts));
  std::iota(name.begin(), name.end(), 0);
  SplitMix64 random(seed);
  for (Index i = cube.num_logical_experts; i > 1; --i)
    std::swap(name[i - 1], name[random.below(i)]);
  std::vector<Index> map;
  for (const Index e : cube.physical_to_logical) map.push_back(name[e]);
  PlacementOptions nodes;
  nodes.num_nodes = 2;
  return make_placement(kRanks, cube.num_logical_experts, map, nodes);
}

TEST(EndToEnd, EightPlannersSplitEveryBatchOptimallyAcrossRebalances) {
  constexpr int kBatches = 60;
  constexpr int kInterval = 7;
  std::vector<Placement> placements;
  for (int i = 0; i <= kBatches / kInterval; ++i) placements.push_back(renamed_cube(i));
  InProcessGroup group(kRanks);
  std::vector<std::vector<Seen>> seen(kBatches, std::vector<Seen>(kRanks));
  on_ranks([&](Index rank) {
    Planner planner(placements[0], rank, options(), group.member(rank));
    for (int batch = 0; batch < kBatches; ++batch) {
      if (batch > 0 && batch % kInterval == 0) {
        planner.update_placement(placements[batch / kInterval]);
      }
      seen[batch][rank].topk = draw_tokens(256, rank, batch);
      run_batch(planner, rank, seen[batch][rank]);
    }
    EXPECT_EQ(planner.stats().batches, kBatches);
    EXPECT_EQ(planner.stats().optimal, kBatches);
  });
  for (int batch = 0; batch < kBatches; ++batch) {
    SCOPED_TRACE(batch);
    check_solved(placements[batch / kInterval], seen[batch]);
  }
}

// Ranks g and g + 4 hold the same experts, so one of them may die.
TEST(EndToEnd, RanksDieSlowDownAndComeBack) {
  constexpr Index kSlots = 8;
  std::vector<Index> map;
  for (Index g = 0; g < kRanks; ++g) {
    for (Index i = 0; i < kSlots; ++i) map.push_back(g % 4 * kSlots + i);
  }
  std::vector<Placement> placements;
  for (const Index dead : {-1, 3, 6, -1}) {
    PlacementOptions health;
    health.num_nodes = 4;
    health.rank_alive.assign(kRanks, 1);
    if (dead >= 0) health.rank_alive[dead] = 0;
    health.rank_speed.assign(kRanks, 1.0);
    if (dead == 6) health.rank_speed[1] = 0.5;
    placements.push_back(make_placement(kRanks, 4 * kSlots, map, health));
  }
  constexpr int kBatches = 24;
  InProcessGroup group(kRanks);
  std::vector<std::vector<Seen>> seen(kBatches, std::vector<Seen>(kRanks));
  on_ranks([&](Index rank) {
    Planner planner(placements[0], rank, options(), group.member(rank));
    for (int batch = 0; batch < kBatches; ++batch) {
      if (batch % 6 == 0) planner.update_placement(placements[batch / 6]);
      seen[batch][rank].topk = draw_tokens(4 * kSlots, rank, batch);
      run_batch(planner, rank, seen[batch][rank]);
    }
  });
  for (int batch = 0; batch < kBatches; ++batch) {
    SCOPED_TRACE(batch);
    check_solved(placements[batch / 6], seen[batch]);
  }
}

TEST(EndToEnd, ALateRankCostsOneBatchAndTheGroupRecovers) {
  constexpr int kBatches = 6;
  constexpr int kLateBatch = 2;
  constexpr Index kLateRank = 5;
  const Placement placement = renamed_cube(9);
  InProcessGroup group(kRanks, 1s);
  std::latch others_gave_up(kRanks - 1);
  std::vector<std::vector<Seen>> seen(kBatches, std::vector<Seen>(kRanks));
  on_ranks([&](Index rank) {
    Planner planner(placement, rank, options(), group.member(rank));
    for (int batch = 0; batch < kBatches; ++batch) {
      seen[batch][rank].topk = draw_tokens(256, rank, batch);
      if (batch == kLateBatch && rank == kLateRank) others_gave_up.wait();
      run_batch(planner, rank, seen[batch][rank]);
      if (batch == kLateBatch && rank != kLateRank) others_gave_up.count_down();
    }
    EXPECT_EQ(planner.stats().degraded, 1);
    EXPECT_EQ(planner.stats().solved, kBatches - 1);
  });
  for (int batch = 0; batch < kBatches; ++batch) {
    SCOPED_TRACE(batch);
    if (batch != kLateBatch) {
      check_solved(placement, seen[batch]);
      continue;
    }
    const Taken taken = check_tokens(placement, seen[batch]);
    for (const Seen& rank : seen[batch]) EXPECT_EQ(rank.status, BatchStatus::kDegraded);
    // The batch was split evenly: each rank is off by less than one token for each replica.
    for (Index slot = 0; slot < placement.num_physical(); ++slot) {
      const Index e = placement.physical_to_logical[slot];
      const Load replicas = placement.replica_count[e];
      EXPECT_LT(std::abs(taken.physical[slot] * replicas - taken.load[e]), kRanks * replicas);
    }
  }
}

TEST(EndToEnd, RanksThatRebalanceDifferentlyAreToldSo) {
  InProcessGroup group(kRanks);
  std::vector<std::string> errors(kRanks);
  on_ranks([&](Index rank) {
    Planner planner(renamed_cube(1), rank, options(), group.member(rank));
    Seen seen;
    seen.topk = draw_tokens(256, rank, 1);
    run_batch(planner, rank, seen);
    if (rank == 2) planner.update_placement(renamed_cube(2));
    try {
      run_batch(planner, rank, seen);
    } catch (const ExchangeError& e) {
      errors[rank] = e.what();
    }
  });
  for (const std::string& error : errors) {
    EXPECT_THAT(error, ::testing::HasSubstr("the ranks' placements differ"));
  }
}

}  // namespace
}  // namespace lplb
