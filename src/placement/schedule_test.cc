// SPDX-License-Identifier: MIT
#include "lplb/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "support/expect_refused.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Placement random_placement(std::mt19937& random, Index ranks, Index nodes, Index slots,
                           Index experts) {
  std::vector<Index> map;
  for (Index p = 0; p < ranks * slots; ++p) {
    map.push_back(p < experts ? p : static_cast<Index>(random() % experts));
  }
  std::shuffle(map.begin(), map.end(), random);
  return make_placement(ranks, experts, map, {.num_nodes = nodes});
}

/// The most moves that a rank sends or receives, of those of one kind between ranks.
Index largest_degree(const std::vector<Move>& moves, const Placement& from, const Placement& to,
                     MoveKind kind) {
  std::map<Index, Index> sends, receives;
  Index most = 0;
  for (const Move& move : moves) {
    if (move.kind != kind) continue;
    most =
        std::max({most, ++sends[from.rank_of(move.source)], ++receives[to.rank_of(move.target)]});
  }
  return most;
}

TEST(Schedule, RoundsAreFewestAndNoRankSendsOrReceivesTwice) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const Index nodes = 1 + static_cast<Index>(random() % 3);
    const Index ranks = nodes * (1 + static_cast<Index>(random() % 4));
    const Index slots = 1 + static_cast<Index>(random() % 9);
    const Index experts = 1 + static_cast<Index>(random() % (ranks * slots));
    const Placement from = random_placement(random, ranks, nodes, slots, experts);
    const Placement to = random_placement(random, ranks, nodes, slots, experts);
    const std::vector<Move> moves = plan_moves(from, to);
    const MoveSchedule plan = schedule(moves, from, to);

    std::set<Index> seen(plan.same_rank.begin(), plan.same_rank.end());
    for (const Index i : plan.same_rank) EXPECT_EQ(moves[i].kind, MoveKind::kSameRank);
    std::map<MoveKind, Index> rounds;
    for (const MoveRound& step : plan.rounds) {
      ++rounds[step.kind];
      std::set<Index> senders, receivers;
      EXPECT_FALSE(step.moves.empty());
      for (const Index i : step.moves) {
        EXPECT_EQ(moves[i].kind, step.kind);
        EXPECT_TRUE(seen.insert(i).second);
        EXPECT_TRUE(senders.insert(from.rank_of(moves[i].source)).second);
        EXPECT_TRUE(receivers.insert(to.rank_of(moves[i].target)).second);
      }
    }
    EXPECT_EQ(seen.size(), moves.size());
    for (const MoveKind kind : {MoveKind::kSameNode, MoveKind::kOtherNode}) {
      EXPECT_EQ(rounds[kind], largest_degree(moves, from, to, kind));
    }
  }
}

TEST(Schedule, LostMovesHaveNoRound) {
  const std::vector<Index> before = {0, 1, 2, 3};
  const std::vector<Index> after = {0, 1, 2, 3, 3, 2};
  const Placement from = make_placement(2, 4, before);
  const Placement to = make_placement(2, 4, after, {.rank_alive = {1, 1}});
  std::vector<Move> moves = plan_moves(from, to);
  moves.push_back({.logical = 1, .source = -1, .target = 5, .kind = MoveKind::kLost});
  const MoveSchedule plan = schedule(moves, from, to);
  EXPECT_THAT(plan.lost, ElementsAre(static_cast<Index>(moves.size()) - 1));
  EXPECT_THAT(schedule({}, from, to).rounds, IsEmpty());
}

TEST(Schedule, RefusesSlotsThatAreNotThere) {
  const std::vector<Index> map = {0, 1};
  const Placement p = make_placement(2, 2, map);
  const auto refused = [&](Move move) {
    lplb::testing::expect_refused([&] { schedule({&move, 1}, p, p); }, "moves: move 0");
  };
  refused({.logical = 0, .source = 2, .target = 0, .kind = MoveKind::kSameNode});
  refused({.logical = 0, .source = -1, .target = 0, .kind = MoveKind::kSameNode});
  refused({.logical = 0, .source = 0, .target = 2, .kind = MoveKind::kSameNode});
}

}  // namespace
}  // namespace lplb
