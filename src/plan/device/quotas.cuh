// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/quotas_kernel.h"

namespace lplb::plan {

/// Writes the quotas of expert `e`, which may be past the last one. Each thread calls it.
__device__ inline void write_quotas_of(const QuotaArgs& a, Index e) {
  const Header& h = *reinterpret_cast<const Header*>(a.image);
  const bool degraded = a.trace.state[kTraceDegraded] != 0;
  if (e == 0 && a.outputs.solved != nullptr) *a.outputs.solved = degraded ? 0 : 1;
  if (e >= h.num_logical) return;

  QuotaExpert expert{e,
                     h.num_logical,
                     h.num_ranks,
                     h.slots_per_rank,
                     nullptr,
                     0,
                     reinterpret_cast<const char*>(a.image + h.alive)};
  const int code = reinterpret_cast<const int*>(a.image + h.codes)[e + 1];
  const int column = code >> kCodeBits;
  if (column >= h.num_replicated) {
    const Index only = (code & kCodeMask) - 1;
    expert.physical = &only;
    expert.num_replicas = 1;
    write_single(expert, only / h.slots_per_rank, a.outputs);
    return;
  }
  // With dynamic slots the batch has replicas of its own, unless it is degraded.
  const bool has_copies = a.trace.physical != nullptr && !degraded;
  const auto* const begin = has_copies
                                ? a.trace.replica_begin
                                : reinterpret_cast<const std::uint16_t*>(a.image + h.replica_begin);
  const int* const physical =
      has_copies ? a.trace.physical : reinterpret_cast<const int*>(a.image + h.physical);
  expert.physical = physical + begin[column];
  expert.num_replicas = begin[column + 1] - begin[column];
  if (degraded) {
    const int own = a.trace.own[column];
    write_replicated(
        expert, [&](Index i) { return even_quota(expert, i, own, e + a.rank); }, own, 0, a.outputs);
    return;
  }
  int prefix = 0;
  for (int row = 0; row < a.row; ++row) prefix += a.all_counts[row * h.num_columns + column];
  write_replicated(
      expert, [&](Index i) { return a.trace.quota[expert.physical[i]]; },
      a.trace.group_counts[column], prefix, a.outputs);
}

}  // namespace lplb::plan
