// SPDX-License-Identifier: MIT
#include "replicate/device/general.cuh"
#include "replicate/device/launch.h"

namespace lplb::replicas {
namespace {

__global__ void __launch_bounds__(kCopyThreads, 1)
    general_copies_kernel(const __grid_constant__ CopyArgs args) {
  GeneralBatch(args, shared_memory(nullptr)).run();
}

}  // namespace

CopyKernel general_kernel() { return general_copies_kernel; }

}  // namespace lplb::replicas
