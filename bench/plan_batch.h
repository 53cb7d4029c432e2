// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "lplb/exchange.h"
#include "lplb/mapping.h"
#include "support/instances.h"

namespace lplb::bench {

/// Rank 0's tokens, drawn with a batch's popularity, and what every rank counted. The other ranks
/// have the expected counts, rounded down; or with Singles::kEach, for small batches too, tokens
/// that are drawn as well.
struct PlanBatch {
  static constexpr Index kTopk = 8;

  std::vector<std::int32_t> topk;
  std::vector<Load> counts;
  std::vector<std::int32_t> packed;

  PlanBatch(const Placement& p, const std::vector<Load>& popularity, std::int64_t num_tokens,
            std::uint64_t seed, Singles singles = Singles::kSummed) {
    std::vector<Load> until(popularity.size());
    std::partial_sum(popularity.begin(), popularity.end(), until.begin());
    testing::SplitMix64 random(seed);
    const auto draw = [&] {
      const Load at = random.between(1, until.back());
      return std::lower_bound(until.begin(), until.end(), at) - until.begin();
    };
    topk.resize(static_cast<std::size_t>(num_tokens * kTopk));
    for (std::int32_t& id : topk) id = static_cast<std::int32_t>(draw());
    const PackedLayout layout(p, singles);
    std::vector<Load> row(popularity.size()), own(layout.size());
    for (Index g = 0; g < p.num_ranks; ++g) {
      if (g == 0) {
        count_tokens(topk, row);
      } else if (singles == Singles::kEach) {
        std::fill(row.begin(), row.end(), 0);
        for (std::size_t i = 0; i < topk.size(); ++i) ++row[draw()];
      } else {
        std::transform(popularity.begin(), popularity.end(), row.begin(),
                       [&](Load w) { return w * num_tokens * kTopk / until.back(); });
      }
      counts.insert(counts.end(), row.begin(), row.end());
      layout.pack(row, own);
      packed.insert(packed.end(), own.begin(), own.end());
    }
  }
};

}  // namespace lplb::bench
