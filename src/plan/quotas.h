// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "lplb/quotas.h"

// Writes a split as QuotaOutputs, one expert at a time. All backends use this code, so their
// results are equal.
namespace lplb::plan {

/// How many replicas an expert has at most: with dynamic slots a copy on each rank without one.
inline Index most_replicas(const Placement& placement, Index dynamic_slots) {
  return placement.max_replicas + (dynamic_slots > 0 ? placement.num_ranks - 1 : 0);
}

/// Throws ArgumentError if the outputs have no room for the placement.
void check_quota_outputs(const Placement& placement, Index dynamic_slots,
                         const QuotaOutputs& outputs);

/// What the functions below must know of an expert.
struct QuotaExpert {
  Index logical;
  Index num_logical;
  Index num_ranks;
  Index slots_per_rank;
  const Index* physical;  ///< [num_replicas]: its slots
  Index num_replicas;
  const char* alive;  ///< [num_ranks]; null: all ranks are live
};

LPLB_HOST_DEVICE inline bool is_live(const QuotaExpert& e, Index replica) {
  return e.alive == nullptr || e.alive[e.physical[replica] / e.slots_per_rank] != 0;
}

LPLB_HOST_DEVICE inline void clear_alloc(const QuotaExpert& e, const QuotaOutputs& out) {
  if (out.alloc == nullptr) return;
  for (Index g = 0; g < e.num_ranks; ++g) out.alloc[g * e.num_logical + e.logical] = 0;
}

/// Writes an expert with one replica, on rank `home`.
LPLB_HOST_DEVICE inline void write_single(const QuotaExpert& e, Index home,
                                          const QuotaOutputs& out) {
  for (Index i = 0; i < out.max_replicas; ++i) {
    const Index at = e.logical * out.max_replicas + i;
    if (out.quota_end != nullptr) out.quota_end[at] = kUnlimitedQuota;
    if (out.shares != nullptr) out.shares[at] = i == 0 ? 1.0F : 0.0F;
    if (out.replicas != nullptr) out.replicas[at] = i == 0 ? e.physical[0] : -1;
  }
  if (out.source_prefix != nullptr) out.source_prefix[e.logical] = 0;
  clear_alloc(e, out);
  if (out.alloc != nullptr) out.alloc[home * e.num_logical + e.logical] = -1;
}

/// Writes an expert with several replicas. Replica i takes quota(i) of the `total` tokens; `prefix`
/// tokens are on lower ranks.
template <class Quota>
LPLB_HOST_DEVICE inline void write_replicated(const QuotaExpert& e, Quota quota, std::int32_t total,
                                              std::int32_t prefix, const QuotaOutputs& out) {
  Index live = 0;
  for (Index i = 0; i < e.num_replicas; ++i) live += is_live(e, i) ? 1 : 0;
  clear_alloc(e, out);
  std::int32_t end = 0;
  for (Index i = 0; i < out.max_replicas; ++i) {
    const bool exists = i < e.num_replicas;
    const std::int32_t tokens = exists ? quota(i) : 0;
    end += tokens;
    const Index at = e.logical * out.max_replicas + i;
    if (out.quota_end != nullptr) out.quota_end[at] = end;
    if (out.replicas != nullptr) out.replicas[at] = exists ? e.physical[i] : -1;
    if (out.shares != nullptr) {
      float share = 0;
      if (total > 0) {
        share = static_cast<float>(static_cast<double>(tokens) / total);
      } else if (exists && is_live(e, i)) {
        share = static_cast<float>(1.0 / live);
      }
      out.shares[at] = share;
    }
    if (out.alloc != nullptr && exists) {
      out.alloc[e.physical[i] / e.slots_per_rank * e.num_logical + e.logical] += tokens;
    }
  }
  if (out.source_prefix != nullptr) out.source_prefix[e.logical] = prefix;
}

/// How many of `tokens` a replica takes if they are divided evenly over the live replicas:
/// the remainder goes to the live replicas from the (turn % live)-th on. map::divide_evenly() has
/// the same rule.
LPLB_HOST_DEVICE inline std::int32_t even_quota(const QuotaExpert& e, Index replica,
                                                std::int32_t tokens, Index turn) {
  if (!is_live(e, replica)) return 0;
  Index live = 0;
  Index before = 0;
  for (Index i = 0; i < e.num_replicas; ++i) {
    if (!is_live(e, i)) continue;
    before += i < replica ? 1 : 0;
    ++live;
  }
  const Index place = live - turn % live + before;
  return tokens / live + (place % live < tokens % live ? 1 : 0);
}

}  // namespace lplb::plan
