// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/backend.h"
#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// What entries a count met.
struct CountStatus {
  std::int64_t counted = 0;       ///< entries in [0, num_logical)
  std::int64_t dropped = 0;       ///< entries equal to -1
  std::int64_t out_of_range = 0;  ///< all others: bad input, not counted, mapped to -1
};

// The functions here that take a backend give the same result on each. With kCuda they allocate,
// copy their arguments to the current device and the results back, and wait for that.
// (DevicePlanner plans batches that are on the device already.) With kCuda they throw CudaError if
// CUDA cannot be used, and ArgumentError for more than 2^31 - 1 entries.

/// Counts the tokens of each logical expert. `topk_idx`: any number of entries, [num_tokens,
/// num_topk] flat. `load` [num_logical] is overwritten. Throws ArgumentError if num_logical is not
/// in 1 to kMaxPhysical. O(entries).
LPLB_API CountStatus count_tokens(std::span<const std::int32_t> topk_idx, std::span<Load> load,
                                  Backend backend = Backend::kCpu);
LPLB_API CountStatus count_tokens(std::span<const std::int64_t> topk_idx, std::span<Load> load,
                                  Backend backend = Backend::kCpu);

/// Maps one rank's tokens to physical experts, so that over the whole group every replica takes
/// exactly its quota. As many tokens as possible stay on their rank: min(own tokens, own quota) for
/// each expert and rank. Of the others, as many as possible stay on their node. Equal input gives
/// equal output.
///
/// `counts` [num_ranks, num_logical]: what each rank counted. `physical_load` [num_physical]: the
/// split of their sum. `topk_idx`: the entries of rank `rank`, flat, in token order.
/// `physical_idx`, of the same length, is written, and may be the same memory; -1 stays -1, and ids
/// out of range become -1.
///
/// Throws ArgumentError, and writes nothing, if lengths disagree, a quota is negative, a dead rank
/// has a quota, quotas do not sum to the counts, or `topk_idx` does not hold what `counts` says.
/// O(entries + num_logical * num_ranks + num_physical).
LPLB_API void map_tokens(const Placement& placement, std::span<const Load> counts,
                         std::span<const Load> physical_load, Index rank,
                         std::span<const std::int32_t> topk_idx,
                         std::span<std::int32_t> physical_idx, Backend backend = Backend::kCpu);
LPLB_API void map_tokens(const Placement& placement, std::span<const Load> counts,
                         std::span<const Load> physical_load, Index rank,
                         std::span<const std::int64_t> topk_idx,
                         std::span<std::int64_t> physical_idx, Backend backend = Backend::kCpu);

/// Maps one rank's tokens if only the split of the group is known, and not the counts of the other
/// ranks. Each rank divides its own tokens of an expert in proportion to the quotas, by
/// low-discrepancy rounding: on each rank a replica is off by less than one token, in directions
/// that differ between ranks and experts. Tokens are not kept local on purpose.
///
/// Arguments as in map_tokens(). `physical_load` may be the split of another batch, because only
/// its proportions count. If it gives an expert no tokens, that expert is divided evenly over its
/// live replicas. Throws ArgumentError, and writes nothing, if lengths disagree, a quota is
/// negative, a dead rank has a quota, or the quotas of an expert sum past 2^63 - 1. O(entries +
/// num_physical).
LPLB_API void map_tokens_in_proportion(const Placement& placement,
                                       std::span<const Load> physical_load, Index rank,
                                       std::span<const std::int32_t> topk_idx,
                                       std::span<std::int32_t> physical_idx,
                                       Backend backend = Backend::kCpu);
LPLB_API void map_tokens_in_proportion(const Placement& placement,
                                       std::span<const Load> physical_load, Index rank,
                                       std::span<const std::int64_t> topk_idx,
                                       std::span<std::int64_t> physical_idx,
                                       Backend backend = Backend::kCpu);

/// How many tokens map_tokens() keeps on their own rank, and on their own node (which includes the
/// rank).
struct Locality {
  Load same_rank = 0;
  Load same_node = 0;
};
/// Counts these tokens over all ranks of the group. Arguments and errors as in map_tokens().
/// O(num_logical * num_ranks + num_physical).
LPLB_API Locality count_local(const Placement& placement, std::span<const Load> counts,
                              std::span<const Load> physical_load);

}  // namespace lplb
