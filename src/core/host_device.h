// SPDX-License-Identifier: MIT
#pragma once

// On scalar code that every backend shares: no allocation, no exceptions, no standard containers.
#ifdef __CUDACC__
#define LPLB_HOST_DEVICE __host__ __device__
#else
#define LPLB_HOST_DEVICE
#endif

// Before a loop that kernels run once or twice: unrolled, its code would take longer to come than
// to run.
#ifdef __CUDA_ARCH__
#define LPLB_ROLLED _Pragma("unroll 1")
#else
#define LPLB_ROLLED
#endif

namespace lplb::device {

/// Lanes of a warp.
inline constexpr int kWarpSize = 32;

}  // namespace lplb::device
