// SPDX-License-Identifier: MIT
#pragma once

// Marks scalar code that all backends share. Such code does not allocate, throw, or use standard
// containers.
#ifdef __CUDACC__
#define LPLB_HOST_DEVICE __host__ __device__
#else
#define LPLB_HOST_DEVICE
#endif

// Stands before a template for host and device that calls what may be for the device alone.
#ifdef __CUDACC__
#define LPLB_CALLS_ANY _Pragma("nv_exec_check_disable")
#else
#define LPLB_CALLS_ANY
#endif

// Stands before a loop that kernels run once or twice. If the compiler unrolled it, loading its
// code would take longer than running it.
#ifdef __CUDA_ARCH__
#define LPLB_ROLLED _Pragma("unroll 1")
#else
#define LPLB_ROLLED
#endif

namespace lplb::device {

/// Lanes of a warp.
inline constexpr int kWarpSize = 32;

}  // namespace lplb::device
