// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/exchange.h"
#include "lplb/export.h"
#include "lplb/replicate.h"
#include "lplb/types.h"

namespace lplb {

/// The quota_end of an expert with one replica, which takes all tokens.
inline constexpr std::int32_t kUnlimitedQuota = 2147483647;

/// The split of a batch, for runtimes that choose the replica of a token themselves. A pointer that
/// is null is not written.
///
/// The tokens of an expert are numbered over the group, rank after rank. Those of this rank begin
/// at source_prefix. Replica i, in the order of logical_to_physical, takes the numbers from
/// `quota_end[i - 1]` (0 for the first replica) to `quota_end[i]`, exclusive. So over the group it
/// takes exactly its quota. Planner's own map meets the same quotas, and keeps more tokens local.
///
/// An expert with one replica has quota_end kUnlimitedQuota, source_prefix 0, share 1, and alloc -1
/// at its rank, because only the sum of such experts over a rank is exchanged.
///
/// For a degraded batch, source_prefix is 0 and the quotas divide this rank's own tokens evenly.
///
/// With dynamic slots, the replicas of an expert are those in main slots and the copies of the
/// batch, by physical id; `replicas` says which. Each expert has its quotas, also one with a single
/// replica, because the counts of all experts are exchanged.
struct QuotaOutputs {
  /// Columns of quota_end, shares and replicas; at least Placement::max_replicas, and with dynamic
  /// slots num_ranks - 1 more.
  Index max_replicas = 0;
  std::int32_t* quota_end = nullptr;      ///< [num_logical, max_replicas]; the last one is repeated
  std::int32_t* source_prefix = nullptr;  ///< [num_logical]
  std::int32_t* alloc = nullptr;          ///< [num_ranks, num_logical]: tokens that each rank takes
  float* shares = nullptr;  ///< [num_logical, max_replicas]: quota / tokens, then 0. Even over
                            ///< the live replicas if the expert has no tokens
  std::int32_t* solved = nullptr;    ///< [1]: 1; 0: the batch is degraded
  std::int32_t* replicas = nullptr;  ///< [num_logical, max_replicas]: physical ids, then -1
};

/// Writes a split that was made on the CPU. `all_counts` [num_ranks, layout.size()]: the packed
/// counts. `physical_load` [num_physical]: the split of their sum. Throws ArgumentError if lengths
/// disagree, outputs.max_replicas is too small, or an expert has more than 2^31 - 2 tokens.
/// O(num_logical * (num_ranks + max_replicas)).
LPLB_API void write_quotas(const Placement& placement, const PackedLayout& layout,
                           std::span<const Load> all_counts, std::span<const Load> physical_load,
                           Index rank, const QuotaOutputs& outputs);
/// Writes the split of a degraded batch. `own` [layout.size()]: what this rank counted, packed.
/// Errors and cost as in write_quotas().
LPLB_API void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                                std::span<const Load> own, Index rank, const QuotaOutputs& outputs);

/// Both with dynamic slots, for a batch of a Planner. `layout` has Singles::kEach. `copies`: what
/// last_copies() gave. Physical ids are rank * (M + S) + slot. Errors and cost as above.
LPLB_API void write_quotas(const Placement& placement, const PackedLayout& layout,
                           std::span<const Load> all_counts, const Replication& copies, Index rank,
                           const QuotaOutputs& outputs);
LPLB_API void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                                std::span<const Load> own, const Replication& copies, Index rank,
                                const QuotaOutputs& outputs);

}  // namespace lplb
