// SPDX-License-Identifier: MIT
#pragma once

#include "solve/ipm/kernel_args.h"

namespace lplb::solvers {

/// The barrier of a block of kThreads threads.
template <int kThreads>
__device__ __forceinline__ void sync_block() {
  if constexpr (kThreads == 32) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

/// Reductions over a block of kThreads threads, in a fixed order. Each is a barrier: after it, all
/// threads see what any thread wrote to shared memory before it. `scratch`:
/// 2 * kIpmReduced doubles for each warp, in shared memory.
template <int kThreads>
class BlockReduction {
 public:
  __device__ explicit BlockReduction(double* scratch) : scratch_(scratch) {}

  /// Combines `value` [kCount] of all threads, component c by combine(c, a, b). All threads get the
  /// result.
  template <int kCount, class Combine>
  __device__ void reduce(double (&value)[kCount], Combine combine) {
    static_assert(kCount <= kIpmReduced);
    constexpr int kWarps = kThreads / 32;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        value[c] = combine(c, value[c], __shfl_xor_sync(~0u, value[c], offset));
      }
    }
    if constexpr (kWarps > 1) {
      // NOTE: two buffers alternate, because the next reduction may begin while slow warps still
      // read this one.
      double* const buffer = scratch_ + turn_ * kIpmReduced * kWarps;
      turn_ ^= 1;
      if (threadIdx.x % 32 == 0) {
        for (int c = 0; c < kCount; ++c) buffer[threadIdx.x / 32 * kCount + c] = value[c];
      }
      sync_block<kThreads>();
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        value[c] = buffer[c];
#pragma unroll 1
        for (int w = 1; w < kWarps; ++w) value[c] = combine(c, value[c], buffer[w * kCount + c]);
      }
    } else {
      sync_block<kThreads>();
    }
  }

  template <int kCount>
  __device__ void sum(double (&value)[kCount]) {
    reduce(value, [](int, double a, double b) { return a + b; });
  }
  __device__ double sum(double value) {
    double values[1] = {value};
    sum(values);
    return values[0];
  }

 private:
  double* scratch_;
  int turn_ = 0;
};

}  // namespace lplb::solvers
