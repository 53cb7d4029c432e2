// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>

#include "lplb/placement.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::message_of;

Placement place(std::vector<Index> map, Index ranks, Index logical, Index nodes = 1,
                std::vector<char> alive = {}) {
  return make_placement(ranks, logical, map,
                        {.num_nodes = nodes, .rank_speed = {}, .rank_alive = std::move(alive)});
}

std::vector<Index> random_map(std::mt19937& random, Index slots, Index logical) {
  std::vector<Index> map;
  for (Index p = 0; p < slots; ++p) {
    map.push_back(p < logical ? p : static_cast<Index>(random() % logical));
  }
  std::shuffle(map.begin(), map.end(), random);
  return map;
}

TEST(PlanMoves, NothingToDo) {
  const Placement p = place({0, 1, 2, 0}, 2, 3);
  EXPECT_THAT(plan_moves(p, p), IsEmpty());
}

TEST(PlanMoves, NearestSourceFirstThenLowestId) {
  // Ranks 0 and 1 are node 0, ranks 2 and 3 node 1.
  const Placement from = place({0, 1, 2, 3, 4, 0, 5, 4}, 4, 6, 2);
  const Placement to = place({1, 2, 0, 3, 5, 4, 0, 4}, 4, 6, 2);
  EXPECT_THAT(plan_moves(from, to),
              ElementsAre(Move{1, 1, 0, MoveKind::kSameRank}, Move{4, 4, 5, MoveKind::kSameRank},
                          Move{2, 2, 1, MoveKind::kSameNode}, Move{0, 0, 2, MoveKind::kSameNode},
                          Move{5, 6, 4, MoveKind::kSameNode}, Move{0, 5, 6, MoveKind::kSameNode}));
  const Placement far = place({0, 1, 2, 3, 4, 0, 5, 1}, 4, 6, 2);
  EXPECT_THAT(plan_moves(from, far), ElementsAre(Move{1, 1, 7, MoveKind::kOtherNode}));
}

TEST(PlanMoves, AppliedToTheOldPlacementTheyGiveTheNew) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 200; ++trial) {
    const Placement from = place(random_map(random, 48, 30), 8, 30, 4);
    const Placement to = place(random_map(random, 48, 30), 8, 30, 4);
    const auto moves = plan_moves(from, to);
    std::vector<Index> slots = from.physical_to_logical;
    for (const Move& move : moves) {
      ASSERT_EQ(from.physical_to_logical[move.source], move.logical);
      ASSERT_NE(slots[move.target], move.logical) << "a needless move, or two into one slot";
      slots[move.target] = move.logical;
      // No replica of the old placement is nearer, and none with a lower id is equally near.
      const auto cost = [&](Index source) {
        const Index a = from.rank_of(source);
        const Index b = to.rank_of(move.target);
        return std::tuple(a != b, from.node_of(a) != to.node_of(b), source);
      };
      for (const Index other : from.replicas(move.logical)) {
        ASSERT_LE(cost(move.source), cost(other));
      }
      const auto [other_rank, other_node, source] = cost(move.source);
      ASSERT_EQ(move.kind, other_node   ? MoveKind::kOtherNode
                           : other_rank ? MoveKind::kSameNode
                                        : MoveKind::kSameRank);
    }
    ASSERT_EQ(slots, to.physical_to_logical);
    ASSERT_TRUE(std::is_sorted(moves.begin(), moves.end(), [](const Move& a, const Move& b) {
      return std::tie(a.kind, a.target) < std::tie(b.kind, b.target);
    }));
  }
}

TEST(PlanMoves, DeadRanksNeitherGiveNorReceive) {
  const std::vector<Index> map{0, 1, 1, 2, 2, 0};
  const Placement all = place(map, 3, 3);
  const Placement without_first = place({2, 1, 1, 0, 2, 0}, 3, 3, 1, {0, 1, 1});
  // Slot 0 changes, too, but its rank is dead. Expert 0 comes from the last rank.
  EXPECT_THAT(plan_moves(all, without_first), ElementsAre(Move{0, 5, 3, MoveKind::kSameNode}));
  // A rank that comes back has lost the contents of its slots.
  EXPECT_THAT(plan_moves(place(map, 3, 3, 1, {0, 1, 1}), all),
              ElementsAre(Move{0, 5, 0, MoveKind::kSameNode}, Move{1, 2, 1, MoveKind::kSameNode}));
}

TEST(PlanMoves, ScalesUp) {
  // Two ranks become three, which have another slot each.
  const Placement from = place({0, 1, 2, 3}, 2, 4);
  const Placement to = place({0, 1, 2, 2, 3, 0, 1, 3, 0}, 3, 4);
  EXPECT_THAT(plan_moves(from, to),
              ElementsAre(Move{2, 2, 2, MoveKind::kSameNode}, Move{0, 0, 5, MoveKind::kSameNode},
                          Move{1, 1, 6, MoveKind::kSameNode}, Move{3, 3, 7, MoveKind::kSameNode},
                          Move{0, 0, 8, MoveKind::kSameNode}));
  EXPECT_EQ(keep_slots(from, place({1, 2, 0, 0, 3, 2, 1, 3, 0}, 3, 4)), to);
}

TEST(PlanMoves, RanksThatLeaveStillGive) {
  // Three ranks on three nodes become two. Rank 2 leaves, rank 0 is dead before.
  const Placement from = place({0, 1, 1, 2, 0, 2}, 3, 3, 3, {0, 1, 1});
  const Placement to = place({0, 1, 2, 1, 2, 0}, 2, 3, 2);
  EXPECT_THAT(
      plan_moves(from, to),
      ElementsAre(Move{0, 4, 0, MoveKind::kOtherNode}, Move{1, 2, 1, MoveKind::kOtherNode},
                  Move{2, 3, 2, MoveKind::kOtherNode}, Move{0, 4, 5, MoveKind::kOtherNode}));
}

/// Applies the moves rank by rank, as an engine would: what each rank holds afterwards.
void expect_moves_lead(const Placement& from, const Placement& to, const std::vector<Move>& moves) {
  using Ranks = std::vector<std::vector<Index>>;
  const auto ranks_of = [](const Placement& p) {
    Ranks ranks(p.num_ranks);
    for (Index s = 0; s < p.num_physical(); ++s) {
      ranks[s / p.slots_per_rank()].push_back(p.alive(p.rank_of(s)) ? p.physical_to_logical[s]
                                                                    : -1);
    }
    return ranks;
  };
  const Ranks old_ranks = ranks_of(from);
  Ranks now = old_ranks;
  now.resize(to.num_ranks);
  for (Index g = 0; g < to.num_ranks; ++g) {
    now[g].resize(to.slots_per_rank(), -1);
    if (to.alive(g)) continue;
    std::fill(now[g].begin(), now[g].end(), -1);
  }
  for (const Move& move : moves) {
    const Index taker = move.target / to.slots_per_rank();
    if (move.kind == MoveKind::kLost) {
      for (const Index slot : from.replicas(move.logical)) {
        const Index rank = from.rank_of(slot);
        ASSERT_TRUE(!from.alive(rank) || (rank < to.num_ranks && !to.alive(rank)));
      }
      now[taker][move.target % to.slots_per_rank()] = move.logical;
      continue;
    }
    const Index giver = move.source / from.slots_per_rank();
    ASSERT_EQ(old_ranks[giver][move.source % from.slots_per_rank()], move.logical);
    ASSERT_TRUE(giver >= to.num_ranks || to.alive(giver));
    Index& slot = now[taker][move.target % to.slots_per_rank()];
    ASSERT_NE(slot, move.logical) << "a needless move";
    slot = move.logical;
    ASSERT_EQ(move.kind == MoveKind::kSameRank, giver == taker);
  }
  ASSERT_EQ(now, ranks_of(to));
}

TEST(PlanMoves, LeadToAnyNumberOfRanksAndSlots) {
  std::mt19937 random(8);
  const auto below = [&](Index n) { return static_cast<Index>(random() % n); };
  int planned = 0;
  for (int trial = 0; trial < 500; ++trial) {
    const auto any = [&] {
      const Index nodes = 1 + below(3);
      const Index ranks = nodes * (1 + below(4));
      const Index slots = (12 + ranks - 1) / ranks + 2 + below(4);
      std::vector<char> alive(ranks, 1);
      if (trial % 2 == 0) alive[below(ranks)] = 0;
      return std::tuple(random_map(random, ranks * slots, 12), ranks, nodes, alive);
    };
    try {
      const auto make = [&] {
        const auto [map, ranks, nodes, alive] = any();
        return place(map, ranks, 12, nodes, alive);
      };
      const Placement from = make();
      const Placement to = make();
      expect_moves_lead(from, to, plan_moves(from, to));
      const Placement kept = keep_slots(from, to);
      expect_moves_lead(from, kept, plan_moves(from, kept));
      EXPECT_LE(plan_moves(from, kept).size(), plan_moves(from, to).size());
      ++planned;
    } catch (const ArgumentError& error) {  // an expert has no live replica
      ASSERT_EQ(trial % 2, 0) << error.what();
    }
  }
  EXPECT_GT(planned, 260);
}

TEST(PlanMoves, AnExpertOfWhichAllReplicasAreLostComesFromElsewhere) {
  const Placement from = place({0, 1, 2, 2, 2, 2}, 2, 3);
  const Placement to = place({2, 2, 2, 0, 1, 2}, 2, 3, 1, {0, 1});
  EXPECT_THAT(plan_moves(from, to),
              ElementsAre(Move{0, -1, 3, MoveKind::kLost}, Move{1, -1, 4, MoveKind::kLost}));
}

TEST(PlanMoves, RefusesPlacementsThatDoNotMatch) {
  const Placement from = place({0, 1, 2, 0}, 2, 3);
  const auto refusal = [&](const Placement& to) {
    const std::string message = message_of<ArgumentError>([&] { plan_moves(from, to); });
    EXPECT_EQ(message_of<ArgumentError>([&] { keep_slots(from, to); }), message);
    return message;
  };
  EXPECT_EQ(refusal(place({0, 1, 2, 3}, 2, 4)),
            "to: has 4 logical experts, expected 3 as `from` has");
  EXPECT_EQ(refusal({}).substr(0, 38), "to: has sizes that do not fit each oth");
}

TEST(KeepSlots, ExpertsStayWhereTheyWere) {
  const Placement from = place({0, 1, 2, 3, 4, 0}, 2, 5);
  const Placement to = place({1, 4, 0, 0, 2, 3}, 2, 5);
  const Placement kept = keep_slots(from, to);
  EXPECT_THAT(kept.physical_to_logical, ElementsAre(0, 1, 4, 3, 2, 0));
  EXPECT_THAT(plan_moves(from, kept),
              ElementsAre(Move{4, 4, 2, MoveKind::kSameNode}, Move{2, 2, 4, MoveKind::kSameNode}));
}

TEST(KeepSlots, ReplicasOnOneRankAreCounted) {
  // Rank 0 had two replicas of expert 0 and keeps one. It gets a second one of expert 1.
  const Placement kept = keep_slots(place({0, 0, 1, 2}, 1, 3), place({1, 1, 2, 0}, 1, 3));
  EXPECT_THAT(kept.physical_to_logical, ElementsAre(0, 1, 1, 2));
}

TEST(KeepSlots, RanksHoldTheSameExpertsAndNoMoveStaysInARankThatHadThem) {
  std::mt19937 random(6);
  for (int trial = 0; trial < 200; ++trial) {
    const Placement from = place(random_map(random, 48, 30), 8, 30, 2);
    const Placement to = place(random_map(random, 48, 30), 8, 30, 2, {1, 1, 1, 1, 1, 1, 1, 1});
    const Placement kept = keep_slots(from, to);
    EXPECT_EQ(kept.num_nodes, to.num_nodes);
    EXPECT_EQ(kept.rank_alive, to.rank_alive);
    for (Index g = 0; g < 8; ++g) {
      const auto rank = [g](const Placement& p) {
        std::vector<Index> experts(p.physical_to_logical.begin() + g * 6,
                                   p.physical_to_logical.begin() + g * 6 + 6);
        std::sort(experts.begin(), experts.end());
        return experts;
      };
      ASSERT_EQ(rank(kept), rank(to));
      // As many slots are unchanged as the rank's old and new experts have in common.
      std::vector<Index> common;
      const auto old_experts = rank(from);
      const auto new_experts = rank(to);
      std::set_intersection(old_experts.begin(), old_experts.end(), new_experts.begin(),
                            new_experts.end(), std::back_inserter(common));
      Index unchanged = 0;
      for (Index s = g * 6; s < g * 6 + 6; ++s) {
        unchanged += kept.physical_to_logical[s] == from.physical_to_logical[s];
      }
      ASSERT_EQ(unchanged, static_cast<Index>(common.size()));
    }
    ASSERT_LE(plan_moves(from, kept).size(), plan_moves(from, to).size());
  }
}

}  // namespace
}  // namespace lplb
