// SPDX-License-Identifier: MIT
#include "planner_kernels.cuh"

namespace lplb {

const PlanKernels& stale_plan_kernels() {
  static constexpr PlanKernels kKernels = make_plan_kernels<true>();
  return kKernels;
}

}  // namespace lplb
