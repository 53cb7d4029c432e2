// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <set>

#include "lplb/homes.h"
#include "lplb/replicate.h"
#include "lplb/solver.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using ::testing::Each;
using ::testing::Le;

struct Window {
  Index batches, layers, experts;
  std::vector<double> loads;

  std::vector<Load> of(Index batch, Index layer) const {
    const auto first = loads.begin() + (std::ptrdiff_t{1} * batch * layers + layer) * experts;
    return {first, first + experts};
  }
};

Window random_window(std::mt19937& random, Index batches, Index layers, Index experts) {
  Window window{batches, layers, experts, {}};
  std::vector<double> mean;
  for (Index i = 0; i < layers * experts; ++i) {
    mean.push_back(static_cast<double>(1 + random() % 100) * static_cast<double>(random() % 100));
  }
  for (Index b = 0; b < batches; ++b) {
    for (const double w : mean) {
      window.loads.push_back(std::floor(w * static_cast<double>(50 + random() % 100)));
    }
  }
  return window;
}

HomesPlacement place(const Window& w, Index ranks, Index slots,
                     std::span<const Placement> from = {}, const HomesOptions& options = {}) {
  return place_homes(w.loads, w.batches, w.layers, w.experts, slots * ranks, ranks, from, options);
}

std::vector<Placement> layers_of(const HomesPlacement& placed, Index ranks,
                                 const HomesOptions& options = {}) {
  std::vector<Placement> layers;
  for (Index i = 0; i < placed.maps.num_layers; ++i) {
    layers.push_back(
        make_placement(ranks, placed.maps.num_logical, placed.maps.layer(i),
                       {.rank_speed = options.rank_speed, .rank_alive = options.rank_alive}));
  }
  return layers;
}

/// The slots of live ranks whose expert is new on its rank, counted from the contents alone.
Index count_new(const Placement& from, const Placement& to) {
  Index count = 0;
  for (Index p = 0; p < to.num_physical(); ++p) {
    const Index rank = to.rank_of(p);
    if (!to.alive(rank)) continue;
    bool had = false;
    for (const Index q : from.replicas(to.physical_to_logical[p])) {
      had = had || (from.rank_of(q) == rank && from.alive(rank));
    }
    count += had ? 0 : 1;
  }
  return count;
}

/// The largest load / speed of a rank under the exact split, relative to that of a perfect split:
/// the mean over the batches of a layer.
double imbalance_of(const Placement& placement, const Window& window, Index layer) {
  double speed = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    speed += placement.alive(g) ? placement.speed(g) : 0;
  }
  double sum = 0;
  for (Index b = 0; b < window.batches; ++b) {
    const std::vector<Load> load = window.of(b, layer);
    const auto total = static_cast<double>(std::accumulate(load.begin(), load.end(), Load{0}));
    sum += solve(placement, load).max_load * speed / total;
  }
  return sum / window.batches;
}

void expect_no_pairs(const Placement& placement) {
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    const auto first = placement.physical_to_logical.begin() + g * placement.slots_per_rank();
    const std::set<Index> on(first, first + placement.slots_per_rank());
    EXPECT_EQ(on.size(), static_cast<std::size_t>(placement.slots_per_rank())) << "rank " << g;
  }
}

TEST(PlaceHomes, HomesStayAndReplicasLowerTheImbalanceOfTheExactSplit) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    const Index ranks = 4 + 4 * (round % 2);
    const Window window = random_window(random, 4, 3, 4 * ranks);
    const HomesPlacement first = place(window, ranks, 5);
    const auto layers = layers_of(first, ranks);
    const HomesPlacement same = place(window, ranks, 5, layers);
    for (Index i = 0; i < window.layers; ++i) {
      expect_no_pairs(layers[i]);
      for (Index e = 0; e < window.experts; ++e) {  // contiguous homes, in the first slots
        EXPECT_EQ(layers[i].physical_to_logical[e / 4 * 5 + e % 4], e);
      }
      EXPECT_NEAR(first.imbalance[i], imbalance_of(layers[i], window, i), 1e-4);
      EXPECT_LE(first.judged[i], first.judged_before[i]);
      EXPECT_NEAR(same.judged_before[i], first.judged[i], 1e-9);
      EXPECT_LE(same.moves[i], 2);  // it was at its optimum for these loads
    }
  }
}

/// All ways to fill the replica slots, against the search.
TEST(PlaceHomes, IsNearTheBestOfAllPlacementsWithTheseHomes) {
  std::mt19937 random(2);
  int best_found = 0;
  constexpr int kRounds = 40;
  for (int round = 0; round < kRounds; ++round) {
    const Window window = random_window(random, 2, 1, 8);
    const HomesPlacement placed = place(window, 4, 3, {}, {.batches_only = true});
    double least = 1e9;
    std::vector<Index> slots = {0, 1, -1, 2, 3, -1, 4, 5, -1, 6, 7, -1};
    const std::function<void(Index)> fill = [&](Index rank) {
      if (rank == 4) {
        least = std::min(least, imbalance_of(make_placement(4, 8, slots), window, 0));
        return;
      }
      for (Index e = 0; e < 8; ++e) {
        if (e / 2 == rank) continue;
        slots[rank * 3 + 2] = e;
        fill(rank + 1);
      }
    };
    fill(0);
    EXPECT_GE(placed.imbalance[0], least - 1e-3);
    EXPECT_LE(placed.imbalance[0], least + 0.1);
    best_found += placed.imbalance[0] <= least + 2e-3;
  }
  EXPECT_GE(best_found, kRounds / 2);
}

TEST(PlaceHomes, MoreTrialsAreNeverWorseAndThreadsChangeNothing) {
  std::mt19937 random(3);
  const Window window = random_window(random, 5, 4, 32);
  std::vector<double> before;
  for (const std::int64_t trials : {0, 1, 3, 10, 30, 100, 1000}) {
    const HomesPlacement one = place(window, 8, 5, {}, {.max_trials = trials});
    const HomesPlacement three = place(window, 8, 5, {}, {.num_threads = 3, .max_trials = trials});
    EXPECT_EQ(one.maps.physical_to_logical, three.maps.physical_to_logical);
    EXPECT_EQ(one.judged, three.judged);
    EXPECT_THAT(one.trials, Each(Le(trials)));
    for (std::size_t i = 0; i < before.size(); ++i) EXPECT_LE(one.judged[i], before[i]);
    before = one.judged;
  }
  EXPECT_LT(before[0], place(window, 8, 5, {}, {.max_trials = 0}).judged[0]);
}

TEST(PlaceHomes, CountsAndLimitsMoves) {
  std::mt19937 random(4);
  const auto old = layers_of(place(random_window(random, 3, 2, 32), 8, 6), 8);
  const Window window = random_window(random, 3, 2, 32);
  double free_of_limits = 0;
  for (const std::int64_t most : {0, 1, 2, 5, -1}) {
    const HomesPlacement placed = place(window, 8, 6, old, {.max_moves = most, .min_gain = 0});
    const auto layers = layers_of(placed, 8);
    for (Index i = 0; i < 2; ++i) {
      EXPECT_EQ(placed.moves[i], count_new(old[i], layers[i]));
      Index changed = 0;  // what stays on a rank also stays in its slot
      for (Index p = 0; p < 48; ++p) {
        changed += layers[i].physical_to_logical[p] != old[i].physical_to_logical[p];
      }
      EXPECT_EQ(changed, placed.moves[i]);
      if (most >= 0) {
        EXPECT_LE(placed.moves[i], most);
      }
      EXPECT_EQ(most != 0, placed.judged[i] < placed.judged_before[i]);
      expect_no_pairs(layers[i]);
    }
    free_of_limits = placed.judged[0];
  }
  const HomesPlacement dear = place(window, 8, 6, old, {.min_gain = 10});
  EXPECT_EQ(dear.moves[0], 0);
  const HomesPlacement anew = place(window, 8, 6, old, {.restart = true});
  EXPECT_LT(std::abs(anew.judged[0] - free_of_limits), 0.05);
  EXPECT_GT(anew.moves[0], 0);
}

TEST(PlaceHomes, LiveRanksSpeedsAndPinnedExperts) {
  std::mt19937 random(6);
  for (int round = 0; round < 20; ++round) {
    const Window window = random_window(random, 3, 1, 16);
    const auto old = layers_of(place(window, 4, 7), 4);
    const HomesOptions options{.pinned = {{3, 2}, {3, 0}, {15, 0}},
                               .rank_speed = {1, 2, 0.5, 1},
                               .rank_alive = {1, 1, 1, 0}};
    for (const bool has_old : {false, true}) {
      const HomesPlacement placed =
          place(window, 4, 7, has_old ? std::span(old) : std::span<const Placement>(), options);
      const Placement layer = layers_of(placed, 4, options)[0];
      expect_no_pairs(layer);
      for (const PinnedExpert& pin : options.pinned) {
        const auto first = layer.physical_to_logical.begin() + pin.rank * 7;
        EXPECT_NE(std::find(first, first + 7, pin.expert), first + 7);
      }
      EXPECT_NEAR(placed.imbalance[0], imbalance_of(layer, window, 0), 1e-3);
      if (has_old) {
        EXPECT_EQ(placed.moves[0], count_new(old[0], layer));
        for (Index e = 0; e < 12; ++e) {  // homes that live stay, unless a pin is a home already
          if (e == 3) continue;
          EXPECT_EQ(layer.physical_to_logical[e / 4 * 7 + e % 4], e) << e;
        }
      }
    }
  }
}

TEST(PlaceHomes, OtherNumbersOfRanksAndSlots) {
  std::mt19937 random(7);
  const Window window = random_window(random, 3, 1, 24);
  const auto old = layers_of(place(window, 4, 8), 4);
  for (const auto& [ranks, slots] : {std::pair{6, 5}, {8, 4}, {3, 9}, {4, 7}, {4, 10}, {5, 5}}) {
    for (const bool move_homes : {false, true}) {
      const HomesPlacement placed =
          place(window, ranks, slots, old, {.move_homes = move_homes, .restart = move_homes});
      const Placement layer = layers_of(placed, ranks)[0];
      expect_no_pairs(layer);
      EXPECT_EQ(placed.moves[0], count_new(old[0], layer)) << ranks;
    }
  }
}

/// Homes that are neighbours and hot.
TEST(PlaceHomes, HomesMayBeExchanged) {
  std::mt19937 random(8);
  for (int round = 0; round < 10; ++round) {
    Window window = random_window(random, 3, 1, 24);
    for (Index b = 0; b < 3; ++b) {
      for (Index e = 0; e < 4; ++e) window.loads[b * 24 + e] += 1e6;
    }
    const auto old = layers_of(place(random_window(random, 3, 1, 24), 6, 5), 6);
    const HomesPlacement stay = place(window, 6, 5, old);
    for (const std::int64_t most : {std::int64_t{4}, std::int64_t{-1}}) {
      const HomesPlacement moved =
          place(window, 6, 5, old, {.max_moves = most, .move_homes = true, .pinned = {{0, 0}}});
      const Placement layer = layers_of(moved, 6)[0];
      expect_no_pairs(layer);
      EXPECT_EQ(layer.physical_to_logical[0], 0);  // pinned
      EXPECT_EQ(moved.moves[0], count_new(old[0], layer));
      EXPECT_NEAR(moved.imbalance[0], imbalance_of(layer, window, 0), 1e-3);
      if (most >= 0) {
        EXPECT_LE(moved.moves[0], most);
      } else {
        EXPECT_LE(moved.judged[0], stay.judged[0]);
      }
    }
  }
}

/// Slots of all layers with an expert that is new on its rank.
Index all_moves(const HomesPlacement& placed) {
  return std::accumulate(placed.moves.begin(), placed.moves.end(), Index{0});
}

double all_judged(const HomesPlacement& placed) {
  return std::accumulate(placed.judged.begin(), placed.judged.end(), 0.0);
}

TEST(PlaceHomes, BytesAreSharedAmongTheLayers) {
  std::mt19937 random(9);
  int better = 0;
  for (const bool move_homes : {false, true}) {
    const Window before = random_window(random, 2, 3, 16);
    const Window window = random_window(random, 2, 3, 16);
    const auto old = layers_of(place(before, 4, 5), 4);
    HomesOptions options{.max_trials = 60, .expert_bytes = 100, .move_homes = move_homes};
    const HomesPlacement free = place(window, 4, 5, old, options);
    ASSERT_GT(all_moves(free), 5);
    double last = 1e9;
    for (const Index most : {0, 1, 5, all_moves(free)}) {
      options.max_bytes = 100 * most + 99;
      const HomesPlacement placed = place(window, 4, 5, old, options);
      EXPECT_LE(all_moves(placed), most);
      EXPECT_LE(all_judged(placed), last);
      last = all_judged(placed);
      const auto layers = layers_of(placed, 4);
      for (Index i = 0; i < 3; ++i) {
        expect_no_pairs(layers[i]);
        EXPECT_EQ(placed.moves[i], count_new(old[i], layers[i]));
        EXPECT_NEAR(placed.imbalance[i], imbalance_of(layers[i], window, i), 1e-3);
        EXPECT_LE(placed.judged[i], placed.judged_before[i]);
      }
      HomesOptions other = options;
      other.num_threads = 3;
      EXPECT_EQ(place(window, 4, 5, old, other).maps.physical_to_logical,
                placed.maps.physical_to_logical);
      other.max_trials = 10;
      EXPECT_LE(last, all_judged(place(window, 4, 5, old, other)));
    }
    EXPECT_LE(last, all_judged(free));
    // Few moves are used as well as by a search of each layer that may make no more.
    for (const Index each : {1, 2, 3}) {
      HomesOptions even_options = options;
      even_options.max_bytes = -1;
      even_options.max_moves = each;
      const HomesPlacement even = place(window, 4, 5, old, even_options);
      options.max_bytes = 100 * all_moves(even);
      const HomesPlacement shared = place(window, 4, 5, old, options);
      EXPECT_LE(all_judged(shared), all_judged(even) + 1e-9);
      better += all_judged(shared) < all_judged(even) - 1e-3;
    }
  }
  EXPECT_GT(better, 2);
}

/// What a search did before its time was over is what one with as many trials does.
TEST(PlaceHomes, SecondsEndTheSearchBetweenTwoTrials) {
  std::mt19937 random(10);
  const Window window = random_window(random, 8, 1, 128);
  const HomesPlacement full = place(window, 32, 5);
  ASSERT_GT(full.trials[0], 100);
  EXPECT_EQ(place(window, 32, 5, {}, {.max_seconds = 1e9}).maps.physical_to_logical,
            full.maps.physical_to_logical);
  const HomesPlacement none = place(window, 32, 5, {}, {.max_seconds = 0});
  EXPECT_EQ(none.trials[0], 0);
  EXPECT_EQ(none.judged[0], none.judged_before[0]);
  for (const double seconds : {1e-4, 1e-3, 3e-3}) {
    const HomesPlacement some = place(window, 32, 5, {}, {.max_seconds = seconds});
    const HomesPlacement same = place(window, 32, 5, {}, {.max_trials = some.trials[0]});
    EXPECT_EQ(some.maps.physical_to_logical, same.maps.physical_to_logical);
    EXPECT_EQ(some.judged, same.judged);
  }
}

/// The largest load that replicate() leaves, relative to the mean: the mean over the batches.
double copied_imbalance(const Placement& placement, const Window& window, Index layer,
                        const ReplicateOptions& options) {
  double sum = 0;
  for (Index b = 0; b < window.batches; ++b) {
    const std::vector<Load> load = window.of(b, layer);
    const auto total = static_cast<double>(std::accumulate(load.begin(), load.end(), Load{0}));
    sum += replicate(placement, load, options).max_load * placement.num_ranks / total;
  }
  return sum / window.batches;
}

/// Copies stay in their domain, so a hot domain needs replicas elsewhere, and nothing else needs
/// any.
TEST(PlaceHomes, JudgedByWhatDynamicSlotsLeave) {
  std::mt19937 random(11);
  double split = 0, copied = 0;
  Index split_moves = 0, copied_moves = 0;
  for (int round = 0; round < 4; ++round) {
    Window window = random_window(random, 4, 2, 48);
    const Index domains = round % 2 == 0 ? 2 : 4;
    for (std::size_t i = 0; i < window.loads.size(); ++i) {
      if (i % 48 < 48U / domains) window.loads[i] *= 1 + domains / 2.0;
      window.loads[i] = std::floor(window.loads[i]);
    }
    const auto old = layers_of(place(random_window(random, 4, 2, 48), 12, 5), 12);
    const HomesOptions options{.dynamic_slots = 1, .num_domains = domains};
    const HomesPlacement by_split = place(window, 12, 5, old);
    const HomesPlacement by_copies = place(window, 12, 5, old, options);
    split_moves += all_moves(by_split);
    copied_moves += all_moves(by_copies);
    for (Index i = 0; i < 2; ++i) {
      const ReplicateOptions how{.dynamic_slots = 1, .num_domains = domains};
      split += copied_imbalance(layers_of(by_split, 12)[i], window, i, how) - 1;
      const Placement layer = layers_of(by_copies, 12)[i];
      expect_no_pairs(layer);
      const double mean = copied_imbalance(layer, window, i, how);
      EXPECT_NEAR(by_copies.imbalance[i], mean, 1e-3);
      EXPECT_EQ(by_copies.moves[i], count_new(old[i], layer));
      copied += mean - 1;
    }
    if (round > 0) continue;
    HomesOptions other = options;
    other.num_threads = 2;
    EXPECT_EQ(place(window, 12, 5, old, other).maps.physical_to_logical,
              by_copies.maps.physical_to_logical);
    other.max_trials = 5;
    EXPECT_GE(all_judged(place(window, 12, 5, old, other)), all_judged(by_copies));
  }
  EXPECT_LT(copied, 0.5 * split);
  EXPECT_LE(copied_moves, split_moves);
}

TEST(PlaceHomes, PackedHomesAreLevel) {
  const Window window{1, 1, 8, {100, 90, 80, 70, 1, 1, 1, 1}};
  const HomesPlacement contiguous = place(window, 4, 2);
  const HomesPlacement packed = place(window, 4, 2, {}, {.move_homes = true});
  EXPECT_NEAR(contiguous.imbalance[0], 190 * 4 / 344.0, 1e-4);
  EXPECT_NEAR(packed.imbalance[0], 101 * 4 / 344.0, 1e-4);
}

TEST(PlaceHomes, LayersAndBatchesWithoutLoad) {
  Window window{2, 2, 4, {0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}};
  const HomesPlacement placed = place(window, 2, 3);
  EXPECT_EQ(placed.judged[0], 1.0);
  EXPECT_EQ(placed.trials[0], 0);
  EXPECT_NEAR(placed.imbalance[1], 1.0, 1e-4);
  const auto old = layers_of(placed, 2);
  window.loads.assign(16, 0.0);
  const HomesPlacement idle = place(window, 2, 3, old);
  EXPECT_EQ(idle.maps.physical_to_logical, placed.maps.physical_to_logical);
}

TEST(PlaceHomes, RefusesWhatDoesNotFit) {
  const Window w{1, 1, 4, {1, 2, 3, 4}};
  using lplb::testing::expect_refused;
  const auto refused = [&](const char* argument, const HomesOptions& options, Index ranks,
                           Index slots) {
    expect_refused([&] { place(w, ranks, slots, {}, options); }, argument);
  };
  refused("num_replicas", {}, 2, 1);
  refused("num_replicas", {}, 2, 5);
  refused("max_trials", {.max_trials = -1}, 2, 2);
  refused("min_gain", {.min_gain = -1}, 2, 2);
  refused("max_seconds", {.max_seconds = -1}, 2, 2);
  refused("max_seconds", {.max_seconds = std::nan("")}, 2, 2);
  refused("expert_bytes", {.max_bytes = 5}, 2, 2);
  refused("dynamic_slots", {.dynamic_slots = 9}, 2, 2);
  refused("num_domains", {.dynamic_slots = 1, .num_domains = 3}, 2, 2);
  refused("pinned", {.pinned = {{4, 0}}}, 2, 3);
  refused("pinned", {.pinned = {{0, 2}}}, 2, 3);
  refused("pinned", {.pinned = {{0, 0}, {1, 0}, {2, 0}}}, 2, 2);
  refused("pinned", {.pinned = {{0, 0}, {0, 1}}}, 2, 2);
  refused("rank_alive", {.rank_alive = {1, 0}}, 2, 3);
  expect_refused([&] { place_homes(w.loads, 2, 1, 4, 4, 2); }, "loads");
  const std::vector<Index> slots = {0, 1, 2};
  const std::vector old = {make_placement(1, 3, slots)};
  expect_refused([&] { place(w, 2, 3, old); }, "from");
}

}  // namespace
}  // namespace lplb
