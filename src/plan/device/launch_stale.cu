// SPDX-License-Identifier: MIT
#include "plan/device/kernels.cuh"

namespace lplb::plan {

const Kernels& stale_kernels() {
  static constexpr Kernels kKernels = make_kernels<true, false>();
  return kKernels;
}

}  // namespace lplb::plan
