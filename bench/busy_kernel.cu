// SPDX-License-Identifier: MIT
#include "bench/busy_kernel.h"
#include "core/launch.cuh"
#include "core/ptx.cuh"

namespace lplb::bench {
namespace {

__global__ void busy_kernel(unsigned long long ns) {
  const unsigned long long end = device::now_ns() + ns;
  while (device::now_ns() < end) {
  }
}

}  // namespace

void launch_busy(int microseconds, cudaStream_t stream) {
  device::launch(busy_kernel, {}, stream, 1000ull * static_cast<unsigned>(microseconds));
}

}  // namespace lplb::bench
