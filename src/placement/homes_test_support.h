// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "lplb/homes.h"
#include "lplb/solver.h"

// What tests of place_homes() share.
namespace lplb::testing {

/// Loads [batches, layers, experts].
struct LoadWindow {
  Index batches, layers, experts;
  std::vector<double> loads;

  std::vector<Load> of(Index batch, Index layer) const {
    const auto first = loads.begin() + (std::ptrdiff_t{1} * batch * layers + layer) * experts;
    return {first, first + experts};
  }
};

inline LoadWindow random_window(std::mt19937& random, Index batches, Index layers, Index experts) {
  LoadWindow window{batches, layers, experts, {}};
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

inline HomesPlacement place_window(const LoadWindow& w, Index ranks, Index slots,
                                   std::span<const Placement> from = {},
                                   const HomesOptions& options = {}) {
  return place_homes(w.loads, w.batches, w.layers, w.experts, slots * ranks, ranks, from, options);
}

inline std::vector<Placement> layers_of(const HomesPlacement& placed, Index ranks,
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
inline Index count_new(const Placement& from, const Placement& to) {
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
inline double imbalance_of(const Placement& placement, const LoadWindow& window, Index layer) {
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

inline void expect_no_pairs(const Placement& placement) {
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    const auto first = placement.physical_to_logical.begin() + g * placement.slots_per_rank();
    const std::set<Index> on(first, first + placement.slots_per_rank());
    EXPECT_EQ(on.size(), static_cast<std::size_t>(placement.slots_per_rank())) << "rank " << g;
  }
}

/// Slots of all layers with an expert that is new on its rank.
inline Index all_moves(const HomesPlacement& placed) {
  return std::accumulate(placed.moves.begin(), placed.moves.end(), Index{0});
}

inline double all_judged(const HomesPlacement& placed) {
  return std::accumulate(placed.judged.begin(), placed.judged.end(), 0.0);
}

}  // namespace lplb::testing
