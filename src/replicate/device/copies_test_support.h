// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/replicate.h"
#include "support/instances.h"

// What the tests of the emulated kernel and those on a GPU draw alike.
namespace lplb::testing {

/// Draws slots, a target and least tokens a copy.
inline void draw_options(std::uint64_t seed, SplitMix64& random, ReplicateOptions& options) {
  options.dynamic_slots = 1 + random.below(seed % 2 == 0 ? 1 : 4);
  options.target = seed % 3 == 1 ? 1 + 0.2 * random.unit() : 1;
  options.min_tokens = seed % 4 == 1 ? 1 + random.below(100) : 1;
}

/// An instance with several domains or unequal speeds, which the quick form does not take, and its
/// options.
inline Instance general_instance(std::uint64_t seed, const RandomLimits& limits, SplitMix64& random,
                                 ReplicateOptions& options) {
  Instance instance = random_instance(1'000'000 + seed, limits);
  Placement& p = instance.placement;
  if (seed % 3 != 0) options.num_domains = draw_divisor(p.num_ranks, 8, random);
  if (options.num_domains == 1) {
    p.rank_speed.resize(static_cast<std::size_t>(p.num_ranks));
    for (double& speed : p.rank_speed) speed = 0.3 * static_cast<double>(1 + random.below(5));
  }
  draw_options(seed, random, options);
  return instance;
}

}  // namespace lplb::testing
