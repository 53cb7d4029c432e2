// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "plan/device/quotas_kernel.h"

namespace lplb::plan {
namespace {

constexpr int kQuotaThreads = 128;

/// Each thread writes the quotas of one expert.
__global__ void __launch_bounds__(kQuotaThreads) quota_kernel(const __grid_constant__ QuotaArgs a) {
  const Header& h = *reinterpret_cast<const Header*>(a.image);
  const bool degraded = a.trace.state[kTraceDegraded] != 0;
  const Index e = static_cast<Index>(blockIdx.x * kQuotaThreads + threadIdx.x);
  if (e == 0 && a.outputs.solved != nullptr) *a.outputs.solved = degraded ? 0 : 1;
  if (e >= h.num_logical) return;

  QuotaExpert expert{e,
                     h.num_logical,
                     h.num_ranks,
                     h.slots_per_rank,
                     nullptr,
                     0,
                     reinterpret_cast<const char*>(a.image + h.alive)};
  const int column = reinterpret_cast<const int*>(a.image + h.codes)[e + 1] >> kCodeBits;
  if (column >= h.num_replicated) {
    write_single(expert, column - h.num_replicated, a.outputs);
    return;
  }
  const auto* const begin = reinterpret_cast<const std::uint16_t*>(a.image + h.replica_begin);
  expert.physical = reinterpret_cast<const int*>(a.image + h.physical) + begin[column];
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

}  // namespace

void launch_quotas(const QuotaArgs& args, Index num_logical, cudaStream_t stream) {
  device::launch(quota_kernel,
                 {.num_blocks = (num_logical + kQuotaThreads - 1) / kQuotaThreads,
                  .num_threads = kQuotaThreads},
                 stream, args);
}

}  // namespace lplb::plan
