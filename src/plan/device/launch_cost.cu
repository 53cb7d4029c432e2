// SPDX-License-Identifier: MIT
#include "plan/device/kernels.cuh"

namespace lplb::plan {

const Kernels& cost_kernels() {
  static constexpr Kernels kKernels = make_kernels<false, true>();
  return kKernels;
}

}  // namespace lplb::plan
