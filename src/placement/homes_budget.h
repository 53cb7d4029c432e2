// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace lplb::placement {

/// A step of a search of a layer, with all steps of that search before it, as choose_steps() sees
/// it.
struct StepChoice {
  std::int64_t moves = 0;  ///< >= 0: of all these steps together
  std::int64_t value = 0;  ///< less is better; 0: that of no step
};

/// Chooses a step of each layer, or none, so that the values sum to the least that `max_moves`
/// moves in all allow. Of equal sums one with few moves in the last layers is taken. `layers`: what
/// there is for each layer to choose from. Returns for each layer the number of the step plus 1, or
/// 0 for none.
///
/// Dynamic programming over layers and moves: O(steps of all layers * max_moves). More steps or
/// moves never give a larger sum.
std::vector<std::size_t> choose_steps(const std::vector<std::vector<StepChoice>>& layers,
                                      std::int64_t max_moves);

using SearchClock = std::chrono::steady_clock;

/// Shares a budget of time among layers that are searched one after another on some threads: each
/// gets its part of what is left when it begins. Threads may use it at once.
class TimeShares {
 public:
  /// `seconds` >= 0; infinity: no layer has a deadline.
  TimeShares(double seconds, std::size_t num_layers, int num_threads);

  /// The deadline of a layer that begins now. Call it once for each layer.
  SearchClock::time_point next();

 private:
  SearchClock::time_point end_;
  std::atomic<std::int64_t> left_;  // layers
  std::int64_t threads_;
};

}  // namespace lplb::placement
