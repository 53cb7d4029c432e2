// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "plan/device/quotas.cuh"

namespace lplb::plan {
namespace {

constexpr int kQuotaThreads = 128;

/// Each thread writes the quotas of one expert.
__global__ void __launch_bounds__(kQuotaThreads) quota_kernel(const __grid_constant__ QuotaArgs a) {
  write_quotas_of(a, static_cast<Index>(blockIdx.x * kQuotaThreads + threadIdx.x));
}

}  // namespace

void launch_quotas(const QuotaArgs& args, Index num_logical, cudaStream_t stream) {
  device::launch(quota_kernel,
                 {.num_blocks = (num_logical + kQuotaThreads - 1) / kQuotaThreads,
                  .num_threads = kQuotaThreads},
                 stream, args);
}

}  // namespace lplb::plan
