// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "lplb/homes.h"
#include "lplb/replicate.h"
#include "placement/homes_test_support.h"

namespace lplb {
namespace {

using testing::all_judged;
using testing::all_moves;
using testing::count_new;
using testing::expect_no_pairs;
using testing::layers_of;
using testing::LoadWindow;
using testing::place_window;
using testing::random_window;

/// The largest load that replicate() leaves, relative to the mean: the mean over the batches.
double copied_imbalance(const Placement& placement, const LoadWindow& window, Index layer,
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
    LoadWindow window = random_window(random, 4, 2, 48);
    const Index domains = round % 2 == 0 ? 2 : 4;
    for (std::size_t i = 0; i < window.loads.size(); ++i) {
      if (i % 48 < 48U / domains) window.loads[i] *= 1 + domains / 2.0;
      window.loads[i] = std::floor(window.loads[i]);
    }
    const auto old = layers_of(place_window(random_window(random, 4, 2, 48), 12, 5), 12);
    const HomesOptions options{.dynamic_slots = 1, .num_domains = domains};
    const HomesPlacement by_split = place_window(window, 12, 5, old);
    const HomesPlacement by_copies = place_window(window, 12, 5, old, options);
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
    EXPECT_EQ(place_window(window, 12, 5, old, other).maps.physical_to_logical,
              by_copies.maps.physical_to_logical);
    other.max_trials = 5;
    EXPECT_GE(all_judged(place_window(window, 12, 5, old, other)), all_judged(by_copies));
  }
  EXPECT_LT(copied, 0.5 * split);
  EXPECT_LE(copied_moves, split_moves);
}

}  // namespace
}  // namespace lplb
