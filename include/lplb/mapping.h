// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/backend.h"
#include "lplb/types.h"

namespace lplb {

/// What a count met beside valid ids.
struct CountStatus {
  std::int64_t counted = 0;       ///< entries in [0, num_logical)
  std::int64_t dropped = 0;       ///< entries equal to -1
  std::int64_t out_of_range = 0;  ///< any other: bad input, not counted, mapped to -1
};

// Every function that takes a backend gives the same result on each of them. With kCuda it copies
// its arguments to the current device and back and waits for that; it allocates. What is on the
// device already is planned by DevicePlanner. Throws CudaError where CUDA cannot be used, and
// ArgumentError for more than 2^31 - 1 entries on kCuda.

/// Counts the tokens of each logical expert: `topk_idx` any number of entries (tokens x top-k,
/// flat), `load` [num_logical] is overwritten. O(entries).
CountStatus count_tokens(std::span<const std::int32_t> topk_idx, std::span<Load> load,
                         Backend backend = Backend::kCpu);
CountStatus count_tokens(std::span<const std::int64_t> topk_idx, std::span<Load> load,
                         Backend backend = Backend::kCpu);

/// Maps one rank's tokens to physical experts so that over the whole group every replica takes
/// exactly its quota.
/// `counts` [num_ranks, num_logical]: what each rank counted. `physical_load` [num_physical]: the
/// split of their sum. `topk_idx` of rank `rank`, flat, in token order; `physical_idx`, of the same
/// length, is written (may be the same memory): -1 stays -1 and ids out of range become -1.
/// As many tokens as possible stay on their rank, then on their node: per expert and rank
/// min(own tokens, own quota), then the same per node. Equal input gives equal output.
/// Throws ArgumentError where lengths disagree, a quota is negative or a dead rank's, quotas do not
/// sum to the counts, or `topk_idx` does not hold what `counts` says; nothing is written then.
/// O(entries + num_logical * num_ranks + num_physical).
void map_tokens(const Placement& placement, std::span<const Load> counts,
                std::span<const Load> physical_load, Index rank,
                std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx,
                Backend backend = Backend::kCpu);
void map_tokens(const Placement& placement, std::span<const Load> counts,
                std::span<const Load> physical_load, Index rank,
                std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx,
                Backend backend = Backend::kCpu);

/// The same where the counts of the other ranks are not known, only the group's split: each rank
/// divides its own tokens of an expert in proportion to the quotas. A replica is off by less than
/// one token a rank, in directions that differ from rank to rank and from expert to expert; nothing
/// is kept local on purpose. `physical_load` may be of another batch: only its proportions count,
/// and an expert that it gives no tokens is divided evenly over its live replicas.
/// Throws ArgumentError where lengths disagree, a quota is negative or a dead rank's, or an
/// expert's quotas sum past 2^63 - 1. O(entries + num_physical).
void map_tokens_in_proportion(const Placement& placement, std::span<const Load> physical_load,
                              Index rank, std::span<const std::int32_t> topk_idx,
                              std::span<std::int32_t> physical_idx,
                              Backend backend = Backend::kCpu);
void map_tokens_in_proportion(const Placement& placement, std::span<const Load> physical_load,
                              Index rank, std::span<const std::int64_t> topk_idx,
                              std::span<std::int64_t> physical_idx,
                              Backend backend = Backend::kCpu);

/// Tokens that map_tokens() keeps on their own rank, and on their own node (the rank included).
struct Locality {
  Load same_rank = 0;
  Load same_node = 0;
};
/// Over all ranks of the group; arguments and errors as in map_tokens().
/// O(num_logical * num_ranks + num_physical).
Locality count_local(const Placement& placement, std::span<const Load> counts,
                     std::span<const Load> physical_load);

}  // namespace lplb
