// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/types.h"

namespace lplb {

/// What is remembered of past batches. `window` and `decay` exclude each other; with neither, every
/// batch counts in full, for ever.
struct LoadHistoryOptions {
  Index window = 0;  ///< > 0: the sum of the last `window` batches, at most kMaxHistoryWindow
  double decay = 1;  ///< in (0, 1]: each batch takes what was before it down to this part
};

inline constexpr Index kMaxHistoryWindow = 4096;

/// Throws ArgumentError.
void check_history(const LoadHistoryOptions& options);

/// The load of past batches, for the slow loop: rebalance_experts() takes it as it is. On a GPU
/// DeviceCounter keeps the same figures.
class LoadHistory {
 public:
  LoadHistory(Index num_logical, const LoadHistoryOptions& options);

  /// Adds a batch: `counts` [num_logical], >= 0. O(num_logical). Throws ArgumentError.
  void add(std::span<const Load> counts);
  /// As if no batch had been.
  void clear();

  /// [num_logical]: whole numbers, and exact up to 2^53, where there is no decay.
  const std::vector<double>& load() const { return load_; }
  std::int64_t batches() const { return batches_; }

 private:
  LoadHistoryOptions options_;
  std::vector<double> load_;
  std::vector<std::int32_t> ring_;  // [window, num_logical]
  std::int64_t batches_ = 0;
};

}  // namespace lplb
