// SPDX-License-Identifier: MIT
#include "lplb/load_history.h"

#include <algorithm>

#include "core/check.h"
#include "count/history_rules.h"

namespace lplb {

void check_history(const LoadHistoryOptions& options) {
  check_argument(options.window >= 0 && options.window <= kMaxHistoryWindow, "window",
                 "{} is not between 0 and {}", options.window, kMaxHistoryWindow);
  check_argument(options.decay > 0 && options.decay <= 1, "decay", "{} is not > 0 and <= 1",
                 options.decay);
  check_argument(options.window == 0 || options.decay == 1, "decay",
                 "is {} beside a window of {} batches, expected one of the two", options.decay,
                 options.window);
}

LoadHistory::LoadHistory(Index num_logical, const LoadHistoryOptions& options) : options_(options) {
  check_argument(num_logical >= 1 && num_logical <= kMaxPhysical, "num_logical",
                 "{} is not between 1 and {}", num_logical, kMaxPhysical);
  check_history(options);
  load_.assign(static_cast<std::size_t>(num_logical), 0);
  ring_.assign(load_.size() * static_cast<std::size_t>(options.window), 0);
}

void LoadHistory::add(std::span<const Load> counts) {
  check_argument(counts.size() == load_.size(), "counts",
                 "has {} entries, expected num_logical ({})", counts.size(), load_.size());
  for (const Load count : counts) {
    check_argument(count >= 0 && count <= INT32_MAX, "counts", "{} is not between 0 and 2^31 - 1",
                   count);
  }
  std::int32_t* slot = nullptr;
  if (!ring_.empty()) {
    slot = &ring_[static_cast<std::size_t>(batches_ % options_.window) * load_.size()];
  }
  for (std::size_t e = 0; e < load_.size(); ++e) {
    load_[e] = count::remember(load_[e], options_.decay, static_cast<std::int32_t>(counts[e]),
                               slot == nullptr ? nullptr : slot + e);
  }
  ++batches_;
}

void LoadHistory::clear() {
  std::fill(load_.begin(), load_.end(), 0);
  std::fill(ring_.begin(), ring_.end(), 0);
  batches_ = 0;
}

}  // namespace lplb
