// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lplb/homes.h"
#include "placement/homes_test_support.h"

namespace lplb {
namespace {

using testing::all_judged;
using testing::all_moves;
using testing::count_new;
using testing::expect_no_pairs;
using testing::imbalance_of;
using testing::layers_of;
using testing::LoadWindow;
using testing::place_window;
using testing::random_window;

TEST(PlaceHomes, CountsAndLimitsMoves) {
  std::mt19937 random(4);
  const auto old = layers_of(place_window(random_window(random, 3, 2, 32), 8, 6), 8);
  const LoadWindow window = random_window(random, 3, 2, 32);
  double free_of_limits = 0;
  for (const std::int64_t most : {0, 1, 2, 5, -1}) {
    const HomesPlacement placed =
        place_window(window, 8, 6, old, {.max_moves = most, .min_gain = 0});
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
  const HomesPlacement dear = place_window(window, 8, 6, old, {.min_gain = 10});
  EXPECT_EQ(dear.moves[0], 0);
  const HomesPlacement anew = place_window(window, 8, 6, old, {.restart = true});
  EXPECT_LT(std::abs(anew.judged[0] - free_of_limits), 0.05);
  EXPECT_GT(anew.moves[0], 0);
}

TEST(PlaceHomes, OtherNumbersOfRanksAndSlots) {
  std::mt19937 random(7);
  const LoadWindow window = random_window(random, 3, 1, 24);
  const auto old = layers_of(place_window(window, 4, 8), 4);
  for (const auto& [ranks, slots] : {std::pair{6, 5}, {8, 4}, {3, 9}, {4, 7}, {4, 10}, {5, 5}}) {
    for (const bool move_homes : {false, true}) {
      const HomesPlacement placed = place_window(window, ranks, slots, old,
                                                 {.move_homes = move_homes, .restart = move_homes});
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
    LoadWindow window = random_window(random, 3, 1, 24);
    for (Index b = 0; b < 3; ++b) {
      for (Index e = 0; e < 4; ++e) window.loads[b * 24 + e] += 1e6;
    }
    const auto old = layers_of(place_window(random_window(random, 3, 1, 24), 6, 5), 6);
    const HomesPlacement stay = place_window(window, 6, 5, old);
    for (const std::int64_t most : {std::int64_t{4}, std::int64_t{-1}}) {
      const HomesPlacement moved = place_window(
          window, 6, 5, old, {.max_moves = most, .move_homes = true, .pinned = {{0, 0}}});
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

TEST(PlaceHomes, BytesAreSharedAmongTheLayers) {
  std::mt19937 random(9);
  int better = 0;
  for (const bool move_homes : {false, true}) {
    const LoadWindow before = random_window(random, 2, 3, 16);
    const LoadWindow window = random_window(random, 2, 3, 16);
    const auto old = layers_of(place_window(before, 4, 5), 4);
    HomesOptions options{.max_trials = 60, .expert_bytes = 100, .move_homes = move_homes};
    const HomesPlacement free = place_window(window, 4, 5, old, options);
    ASSERT_GT(all_moves(free), 5);
    double last = 1e9;
    for (const Index most : {0, 1, 5, all_moves(free)}) {
      options.max_bytes = 100 * most + 99;
      const HomesPlacement placed = place_window(window, 4, 5, old, options);
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
      EXPECT_EQ(place_window(window, 4, 5, old, other).maps.physical_to_logical,
                placed.maps.physical_to_logical);
      other.max_trials = 10;
      EXPECT_LE(last, all_judged(place_window(window, 4, 5, old, other)));
    }
    EXPECT_LE(last, all_judged(free));
    // Few moves are used as well as by a search of each layer that may make no more.
    for (const Index each : {1, 2, 3}) {
      HomesOptions even_options = options;
      even_options.max_bytes = -1;
      even_options.max_moves = each;
      const HomesPlacement even = place_window(window, 4, 5, old, even_options);
      options.max_bytes = 100 * all_moves(even);
      const HomesPlacement shared = place_window(window, 4, 5, old, options);
      EXPECT_LE(all_judged(shared), all_judged(even) + 1e-9);
      better += all_judged(shared) < all_judged(even) - 1e-3;
    }
  }
  EXPECT_GT(better, 2);
}

}  // namespace
}  // namespace lplb
