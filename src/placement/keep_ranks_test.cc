// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <random>

#include "lplb/placement.h"
#include "lplb/solver.h"
#include "placement/assignment.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

Placement place_by_map(const std::vector<Index>& map, Index ranks, Index logical,
                       const PlacementOptions& options = {}) {
  return make_placement(ranks, logical, map, options);
}

/// How many experts other ranks send, and how many of them other nodes.
struct Fetched {
  Index all = 0;
  Index far = 0;
  auto operator<=>(const Fetched&) const = default;
};

Fetched count_fetched(const Placement& from, const Placement& to) {
  Fetched fetched;
  for (const Move& move : plan_moves(from, to)) {
    fetched.all += move.kind != MoveKind::kSameRank;
    fetched.far += move.kind == MoveKind::kOtherNode;
  }
  return fetched;
}

/// `to` if rank g gets what `to` has on rank source[g].
Placement exchanged(const Placement& to, const std::vector<Index>& source) {
  std::vector<Index> map;
  for (const Index g : source) {
    for (Index s = 0; s < to.slots_per_rank(); ++s) {
      map.push_back(to.physical_to_logical[g * to.slots_per_rank() + s]);
    }
  }
  return place_by_map(map, to.num_ranks, to.num_logical_experts,
                      {to.num_nodes, to.rank_speed, to.rank_alive});
}

std::vector<Index> sorted_rank(const Placement& p, Index rank) {
  const auto first = p.physical_to_logical.begin() + rank * p.slots_per_rank();
  std::vector<Index> experts(first, first + p.slots_per_rank());
  std::sort(experts.begin(), experts.end());
  return experts;
}

/// Whether the exchange keeps dead ranks, speeds and, if asked, nodes together.
bool is_allowed(const Placement& to, const std::vector<Index>& source, bool keep_nodes) {
  for (Index g = 0; g < to.num_ranks; ++g) {
    if (!to.alive(g) && source[g] != g) return false;
    if (to.speed(g) != to.speed(source[g])) return false;
    for (Index h = 0; keep_nodes && h < g; ++h) {
      if (!to.alive(g) || !to.alive(h)) continue;
      if ((to.node_of(g) == to.node_of(h)) != (to.node_of(source[g]) == to.node_of(source[h]))) {
        return false;
      }
    }
  }
  return true;
}

Fetched least_of_all_exchanges(const Placement& from, const Placement& to, bool keep_nodes) {
  std::vector<Index> source(static_cast<std::size_t>(to.num_ranks));
  std::iota(source.begin(), source.end(), 0);
  std::optional<Fetched> least;
  do {
    if (!is_allowed(to, source, keep_nodes)) continue;
    const Fetched fetched = count_fetched(from, exchanged(to, source));
    if (!least || fetched < *least) least = fetched;
  } while (std::next_permutation(source.begin(), source.end()));
  return *least;
}

/// A map in which every expert is at least once on a live rank.
std::vector<Index> random_map(std::mt19937& random, Index ranks, Index slots, Index logical,
                              const std::vector<char>& alive) {
  std::vector<Index> live_slots;
  std::vector<Index> map;
  for (Index p = 0; p < ranks * slots; ++p) {
    map.push_back(static_cast<Index>(random() % logical));
    if (alive.empty() || alive[p / slots] != 0) live_slots.push_back(p);
  }
  std::shuffle(live_slots.begin(), live_slots.end(), random);
  for (Index e = 0; e < logical; ++e) map[live_slots[e]] = e;
  return map;
}

TEST(LeastAssignment, IsThatOfAllPermutations) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    const auto n = static_cast<Index>(1 + random() % 6);
    std::vector<std::int64_t> cost(static_cast<std::size_t>(n) * n);
    for (std::int64_t& c : cost) c = random() % (trial % 2 == 0 ? 4 : 1000);
    const auto sum = [&](const std::vector<Index>& column) {
      std::int64_t all = 0;
      for (Index i = 0; i < n; ++i) all += cost[i * n + column[i]];
      return all;
    };
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::int64_t least = sum(order);
    const std::vector<Index> found = placement::least_assignment(cost, n);
    ASSERT_TRUE(std::is_permutation(found.begin(), found.end(), order.begin(), order.end()));
    do {
      least = std::min(least, sum(order));
    } while (std::next_permutation(order.begin(), order.end()));
    ASSERT_EQ(sum(found), least) << n;
  }
}

TEST(KeepRanks, ContentsGoToTheRanksThatHaveThem) {
  const Placement from = place_by_map({0, 1, 2, 3, 4, 5}, 2, 6);
  const Placement kept = keep_ranks(from, place_by_map({3, 4, 0, 1, 2, 5}, 2, 6));
  EXPECT_THAT(kept.physical_to_logical, ElementsAre(5, 1, 2, 3, 4, 0));
}

TEST(KeepRanks, NoExchangeFetchesFewer) {
  std::mt19937 random(2);
  Index saved = 0;
  Index wider = 0;
  for (int trial = 0; trial < 120; ++trial) {
    const Index nodes = 1 + trial % 3;
    const Index slots = 3;
    PlacementOptions options{.num_nodes = nodes};
    if (trial % 4 == 1) options.rank_alive = {1, 1, 1, 1, 0, 1};
    if (trial % 4 == 2) options.rank_speed = {1, 1, 2, 1, 2, 2};
    const Index old_ranks = trial % 5 == 0 ? 4 : trial % 5 == 1 ? 8 : 6;
    const Placement from =
        place_by_map(random_map(random, old_ranks, 4, 11, {}), old_ranks, 11,
                     {.num_nodes = old_ranks == 6 ? nodes : 2, .rank_speed = {}, .rank_alive = {}});
    const Placement to =
        place_by_map(random_map(random, 6, slots, 11, options.rank_alive), 6, 11, options);
    Fetched by_node;
    for (const bool keep_nodes : {true, false}) {
      const Placement kept = keep_ranks(from, to, keep_nodes);
      const Fetched fetched = count_fetched(from, kept);
      ASSERT_EQ(fetched, least_of_all_exchanges(from, to, keep_nodes))
          << "trial " << trial << " fetches " << fetched.all << ", " << fetched.far << " far";
      saved += count_fetched(from, to).all - fetched.all;
      if (keep_nodes) by_node = fetched;
      wider += by_node.all - fetched.all;
      EXPECT_EQ(kept.rank_speed, to.rank_speed);
      EXPECT_EQ(kept.rank_alive, to.rank_alive);
      EXPECT_EQ(kept.num_nodes, to.num_nodes);
    }
  }
  EXPECT_GT(saved, 100);
  EXPECT_GT(wider, 10);
}

TEST(KeepRanks, ContentsOfARankStayTogether) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 50; ++trial) {
    const Placement from = place_by_map(random_map(random, 8, 6, 30, {}), 8, 30, {.num_nodes = 4});
    const Placement to = place_by_map(random_map(random, 8, 6, 30, {}), 8, 30, {.num_nodes = 4});
    const Placement kept = keep_ranks(from, to);
    std::vector<std::vector<Index>> want, found;
    for (Index g = 0; g < 8; ++g) {
      want.push_back(sorted_rank(to, g));
      found.push_back(sorted_rank(kept, g));
    }
    EXPECT_THAT(found, ::testing::UnorderedElementsAreArray(want));
    std::vector<Load> load(30);
    for (Load& w : load) w = static_cast<Load>(random() % 1000);
    EXPECT_EQ(solve(kept, load).max_load, solve(to, load).max_load);
    // Nothing is left to gain.
    const Placement again = keep_ranks(from, kept);
    for (Index g = 0; g < 8; ++g) EXPECT_EQ(sorted_rank(again, g), sorted_rank(kept, g));
  }
}

TEST(KeepRanks, AnExchangeOfAllRanksIsUndone) {
  std::mt19937 random(4);
  std::vector<Index> source(64);
  std::iota(source.begin(), source.end(), 0);
  const Placement from =
      place_by_map(random_map(random, 64, 5, 256, {}), 64, 256, {.num_nodes = 8});
  std::shuffle(source.begin(), source.end(), random);
  EXPECT_EQ(keep_ranks(from, exchanged(from, source), false), from);
  // Nodes in another order, and in each node the ranks in another order.
  for (Index g = 0; g < 64; ++g) source[g] = (g / 8 + 3) % 8 * 8 + (g * 5 + 1) % 8;
  EXPECT_EQ(keep_ranks(from, exchanged(from, source)), from);
}

TEST(KeepRanks, RefusesPlacementsThatDoNotMatch) {
  const Placement from = place_by_map({0, 1, 2, 0}, 2, 3);
  lplb::testing::expect_refused([&] { keep_ranks(from, place_by_map({0, 1, 2, 3}, 2, 4)); }, "to");
  lplb::testing::expect_refused([&] { keep_ranks({}, from); }, "from");
}

}  // namespace
}  // namespace lplb
