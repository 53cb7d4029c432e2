// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "exchange/checks.h"

namespace lplb {

GivenCounts::GivenCounts(Index num_ranks, Index rank) : num_ranks_(num_ranks), rank_(rank) {
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(rank >= 0 && rank < num_ranks, "rank", "{} is not between 0 and {}", rank,
                 num_ranks - 1);
}

void GivenCounts::set(std::span<const Load> counts, Index num_logical) {
  check_argument(num_logical >= 1 && num_logical <= kMaxPhysical, "num_logical",
                 "{} is not between 1 and {}", num_logical, kMaxPhysical);
  const auto columns = static_cast<std::size_t>(num_logical);
  check_argument(counts.size() == columns * static_cast<std::size_t>(num_ranks_), "counts",
                 "has {} entries, expected num_ranks * num_logical ({} * {})", counts.size(),
                 num_ranks_, num_logical);
  const auto bad = std::find_if(counts.begin(), counts.end(), [](Load n) { return n < 0; });
  const auto at = static_cast<std::size_t>(bad - counts.begin());
  check_argument(bad == counts.end(), "counts", "expert {} has {} tokens on rank {}, expected >= 0",
                 at % columns, bad == counts.end() ? 0 : *bad, at / columns);
  for (Index g = 0; g < num_ranks_; ++g) {
    Load sum = 0;
    for (const Load n : counts.subspan(g * columns, columns)) {
      check_argument(!__builtin_add_overflow(sum, n, &sum), "counts",
                     "the sum of rank {} passes 2^63 - 1", g);
    }
  }
  counts_.assign(counts.begin(), counts.end());
  num_logical_ = num_logical;
}

void GivenCounts::post(const PackedLayout& layout, std::span<const Load> mine) {
  exchange::check_post(*this, layout, mine);
  check_argument(!is_waiting_, "mine", "is posted before the last batch is collected");
  is_waiting_ = true;
  if (layout_.fingerprint != layout.fingerprint) layout_ = layout;
  mine_.assign(mine.begin(), mine.end());
}

ExchangeStatus GivenCounts::collect(std::span<Load> all) {
  is_waiting_ = false;  // even if this fails: the next batch may be posted then
  exchange::check_collect(*this, mine_.size(), all);
  check_argument(static_cast<std::size_t>(num_logical_) == layout_.home.size(), "counts",
                 "are set for {} experts, expected {}: call set() before the batch", num_logical_,
                 layout_.home.size());
  const auto columns = static_cast<std::size_t>(num_logical_);
  for (Index g = 0; g < num_ranks_; ++g) {
    const std::span<Load> row = all.subspan(g * layout_.size(), layout_.size());
    if (g == rank_) {
      std::copy(mine_.begin(), mine_.end(), row.begin());
    } else {
      layout_.pack(std::span<const Load>(counts_).subspan(g * columns, columns), row);
    }
  }
  mine_.clear();
  return ExchangeStatus::kComplete;
}

}  // namespace lplb
