// SPDX-License-Identifier: MIT
#include "plan/device/copies.cuh"
#include "plan/device/kernels.cuh"

namespace lplb::plan {
namespace {

template <bool kExchange>
__global__ void __launch_bounds__(kThreads, 1)
    plan_with_domain_copies_kernel(const __grid_constant__ Args args) {
  plan_batch_with_copies<kExchange, true>(args, replicas::shared_memory(nullptr));
}

}  // namespace

const Kernels& domain_copy_kernels() {
  static constexpr Kernels kKernels{
      {{plan_with_domain_copies_kernel<false>, plan_with_domain_copies_kernel<true>},
       {plan_with_domain_copies_kernel<false>, plan_with_domain_copies_kernel<true>}},
      {}};
  return kKernels;
}

}  // namespace lplb::plan
