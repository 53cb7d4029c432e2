// SPDX-License-Identifier: MIT
#pragma once

namespace lplb::solvers {

/// Reductions over a block of kThreads threads, in a fixed order. Each is a barrier: after it, all
/// threads see what any thread wrote to shared memory before it. `scratch`: 6 doubles for each
/// warp, in shared memory.
template <int kThreads>
class Block {
 public:
  __device__ explicit Block(double* scratch) : scratch_(scratch) {}

  /// Combines `value` [kCount] of all threads, component c by combine(c, a, b). All threads get the
  /// result.
  template <int kCount, class Combine>
  __device__ void reduce(double (&value)[kCount], Combine combine) {
    constexpr int kWarps = kThreads / 32;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        value[c] = combine(c, value[c], __shfl_xor_sync(0xFFFFFFFF, value[c], offset));
      }
    }
    if constexpr (kWarps > 1) {
      // NOTE: two buffers alternate, because the next reduction may begin while slow warps still
      // read this one.
      double* const buffer = scratch_ + turn_ * 3 * kWarps;
      turn_ ^= 1;
      if (threadIdx.x % 32 == 0) {
        for (int c = 0; c < kCount; ++c) buffer[threadIdx.x / 32 * kCount + c] = value[c];
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        value[c] = buffer[c];
#pragma unroll 1
        for (int w = 1; w < kWarps; ++w) value[c] = combine(c, value[c], buffer[w * kCount + c]);
      }
    } else {
      __syncthreads();
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
  template <int kCount>
  __device__ void min(double (&value)[kCount]) {
    reduce(value, [](int, double a, double b) { return fmin(a, b); });
  }

 private:
  double* scratch_;
  int turn_ = 0;
};

}  // namespace lplb::solvers
