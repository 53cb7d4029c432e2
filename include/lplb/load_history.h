// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// How past batches count: all alike, in a window, or with exponential decay. `window` and `decay`
/// exclude each other. With neither, every batch counts in full, for ever.
struct LoadHistoryOptions {
  Index window = 0;  ///< 0: none; else the sum of the last `window` batches
  /// In (0, 1]; 1: none. Exponential decay: each new batch multiplies the old sum by `decay`. With
  /// 0.5, batches of 8, 1 and 0 tokens give (8 * 0.5 + 1) * 0.5 + 0 = 2.5.
  double decay = 1;
};

/// The largest LoadHistoryOptions::window.
inline constexpr Index kMaxHistoryWindow = 4096;

/// Throws ArgumentError if `window` is not in 0 to kMaxHistoryWindow, `decay` is not in (0, 1], or
/// both are set (window > 0 and decay < 1).
LPLB_API void check_history(const LoadHistoryOptions& options);

/// The history: the load of past batches, for the slow loop. rebalance_experts() takes load() as it
/// is. On a GPU, DeviceCounter keeps the same figures. Not thread-safe.
class LPLB_API LoadHistory {
 public:
  /// Throws ArgumentError if num_logical is not in 1 to kMaxPhysical, or as check_history() does.
  LoadHistory(Index num_logical, const LoadHistoryOptions& options);

  /// Adds a batch. `counts` [num_logical], each 0 to 2^31 - 1. Throws ArgumentError for another
  /// length or count, with the history as it was. O(num_logical).
  void add(std::span<const Load> counts);
  /// Forgets all batches.
  void clear();

  /// The history [num_logical]. Without decay these are whole numbers, exact up to 2^53.
  const std::vector<double>& load() const { return load_; }
  /// How many batches were added since construction or clear().
  std::int64_t batches() const { return batches_; }

 private:
  LoadHistoryOptions options_;
  std::vector<double> load_;
  std::vector<std::int32_t> ring_;  // [window, num_logical]
  std::int64_t batches_ = 0;
};

}  // namespace lplb
