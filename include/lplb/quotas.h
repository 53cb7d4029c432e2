// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/exchange.h"
#include "lplb/types.h"

namespace lplb {

/// As quota_end of an expert with one replica: whatever comes goes there.
inline constexpr std::int32_t kUnlimitedQuota = 2147483647;

/// A batch's split for runtimes that choose the replica of a token themselves. Null: not wanted.
///
/// The tokens of an expert are numbered over the group, rank after rank: those of this rank begin
/// at source_prefix. Replica i (in the order of logical_to_physical) takes the numbers from
/// quota_end[i - 1] (0 for the first) to quota_end[i], exclusive: over the group it takes exactly
/// its quota. (Planner's own map meets the same quotas, and keeps more tokens local.)
///
/// Of an expert with one replica only the sum over its rank is exchanged: quota_end is
/// kUnlimitedQuota, source_prefix 0, its share 1, and alloc -1 at its rank.
///
/// A degraded batch: source_prefix 0, and quotas that divide this rank's own tokens evenly.
struct QuotaOutputs {
  /// Columns of quota_end and shares: at least the placement's.
  Index max_replicas = 0;
  std::int32_t* quota_end = nullptr;      ///< [num_logical, max_replicas], padded with the last
  std::int32_t* source_prefix = nullptr;  ///< [num_logical]
  std::int32_t* alloc = nullptr;          ///< [num_ranks, num_logical]: tokens that a rank takes
  float* shares = nullptr;         ///< [num_logical, max_replicas]: quota / tokens, padded with 0;
                                   ///< even over live replicas where there are no tokens
  std::int32_t* solved = nullptr;  ///< [1]: 1, or 0 for a degraded batch
};

/// From a split on the CPU. `all_counts` [num_ranks, layout.size()], packed; `physical_load`
/// [num_physical]: the split of their sum. Throws ArgumentError where lengths disagree, or an
/// expert has more than 2^31 - 2 tokens. O(num_logical * (num_ranks + max_replicas)).
void write_quotas(const Placement& placement, const PackedLayout& layout,
                  std::span<const Load> all_counts, std::span<const Load> physical_load, Index rank,
                  const QuotaOutputs& outputs);
/// Of a degraded batch: `own` [layout.size()], what this rank counted.
void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                       std::span<const Load> own, Index rank, const QuotaOutputs& outputs);

}  // namespace lplb
