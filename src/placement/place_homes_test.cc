// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "lplb/homes.h"
#include "placement/homes_test_support.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using testing::count_new;
using ::testing::Each;
using testing::expect_no_pairs;
using testing::imbalance_of;
using testing::layers_of;
using ::testing::Le;
using testing::LoadWindow;
using testing::place_window;
using testing::random_window;

TEST(PlaceHomes, HomesStayAndReplicasLowerTheImbalanceOfTheExactSplit) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    const Index ranks = 4 + 4 * (round % 2);
    const LoadWindow window = random_window(random, 4, 3, 4 * ranks);
    const HomesPlacement first = place_window(window, ranks, 5);
    const auto layers = layers_of(first, ranks);
    const HomesPlacement same = place_window(window, ranks, 5, layers);
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
    const LoadWindow window = random_window(random, 2, 1, 8);
    const HomesPlacement placed = place_window(window, 4, 3, {}, {.batches_only = true});
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
  const LoadWindow window = random_window(random, 5, 4, 32);
  std::vector<double> before;
  for (const std::int64_t trials : {0, 1, 3, 10, 30, 100, 1000}) {
    const HomesPlacement one = place_window(window, 8, 5, {}, {.max_trials = trials});
    const HomesPlacement three =
        place_window(window, 8, 5, {}, {.num_threads = 3, .max_trials = trials});
    EXPECT_EQ(one.maps.physical_to_logical, three.maps.physical_to_logical);
    EXPECT_EQ(one.judged, three.judged);
    EXPECT_THAT(one.trials, Each(Le(trials)));
    for (std::size_t i = 0; i < before.size(); ++i) EXPECT_LE(one.judged[i], before[i]);
    before = one.judged;
  }
  EXPECT_LT(before[0], place_window(window, 8, 5, {}, {.max_trials = 0}).judged[0]);
}

TEST(PlaceHomes, LiveRanksSpeedsAndPinnedExperts) {
  std::mt19937 random(6);
  for (int round = 0; round < 20; ++round) {
    const LoadWindow window = random_window(random, 3, 1, 16);
    const auto old = layers_of(place_window(window, 4, 7), 4);
    const HomesOptions options{.pinned = {{3, 2}, {3, 0}, {15, 0}},
                               .rank_speed = {1, 2, 0.5, 1},
                               .rank_alive = {1, 1, 1, 0}};
    for (const bool has_old : {false, true}) {
      const HomesPlacement placed = place_window(
          window, 4, 7, has_old ? std::span(old) : std::span<const Placement>(), options);
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

/// What a search did before its time was over is what one with as many trials does.
TEST(PlaceHomes, SecondsEndTheSearchBetweenTwoTrials) {
  std::mt19937 random(10);
  const LoadWindow window = random_window(random, 8, 1, 128);
  const HomesPlacement full = place_window(window, 32, 5);
  ASSERT_GT(full.trials[0], 100);
  EXPECT_EQ(place_window(window, 32, 5, {}, {.max_seconds = 1e9}).maps.physical_to_logical,
            full.maps.physical_to_logical);
  const HomesPlacement none = place_window(window, 32, 5, {}, {.max_seconds = 0});
  EXPECT_EQ(none.trials[0], 0);
  EXPECT_EQ(none.judged[0], none.judged_before[0]);
  for (const double seconds : {1e-4, 1e-3, 3e-3}) {
    const HomesPlacement some = place_window(window, 32, 5, {}, {.max_seconds = seconds});
    const HomesPlacement same = place_window(window, 32, 5, {}, {.max_trials = some.trials[0]});
    EXPECT_EQ(some.maps.physical_to_logical, same.maps.physical_to_logical);
    EXPECT_EQ(some.judged, same.judged);
  }
}

TEST(PlaceHomes, PackedHomesAreLevel) {
  const LoadWindow window{1, 1, 8, {100, 90, 80, 70, 1, 1, 1, 1}};
  const HomesPlacement contiguous = place_window(window, 4, 2);
  const HomesPlacement packed = place_window(window, 4, 2, {}, {.move_homes = true});
  EXPECT_NEAR(contiguous.imbalance[0], 190 * 4 / 344.0, 1e-4);
  EXPECT_NEAR(packed.imbalance[0], 101 * 4 / 344.0, 1e-4);
}

TEST(PlaceHomes, LayersAndBatchesWithoutLoad) {
  LoadWindow window{2, 2, 4, {0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}};
  const HomesPlacement placed = place_window(window, 2, 3);
  EXPECT_EQ(placed.judged[0], 1.0);
  EXPECT_EQ(placed.trials[0], 0);
  EXPECT_NEAR(placed.imbalance[1], 1.0, 1e-4);
  const auto old = layers_of(placed, 2);
  window.loads.assign(16, 0.0);
  const HomesPlacement idle = place_window(window, 2, 3, old);
  EXPECT_EQ(idle.maps.physical_to_logical, placed.maps.physical_to_logical);
}

TEST(PlaceHomes, RefusesWhatDoesNotFit) {
  const LoadWindow w{1, 1, 4, {1, 2, 3, 4}};
  using testing::expect_refused;
  const auto refused = [&](const char* argument, const HomesOptions& options, Index ranks,
                           Index slots) {
    expect_refused([&] { place_window(w, ranks, slots, {}, options); }, argument);
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
  expect_refused([&] { place_window(w, 2, 3, old); }, "from");
}

}  // namespace
}  // namespace lplb
