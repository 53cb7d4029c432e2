// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block.cuh"

// Reductions of numbers >= 0 over a warp. All lanes call them and get the result. The hardware has
// those of 32 bits; each of 64 bits is a few of them, in place of ten shuffles.
namespace lplb::solvers {

__device__ inline int warp_max(int value) { return __reduce_max_sync(~0u, value); }
__device__ inline int warp_min(int value) { return __reduce_min_sync(~0u, value); }
/// The sum, which must be < 2^31.
__device__ inline int warp_sum(int value) { return __reduce_add_sync(~0u, value); }

__device__ inline long long warp_max(long long value) {
  const auto high = static_cast<unsigned>(value >> 32);
  const unsigned most = __reduce_max_sync(~0u, high);
  const unsigned low = __reduce_max_sync(~0u, high == most ? static_cast<unsigned>(value) : 0u);
  return static_cast<long long>(static_cast<unsigned long long>(most) << 32 | low);
}

__device__ inline long long warp_min(long long value) {
  const auto high = static_cast<unsigned>(value >> 32);
  const unsigned least = __reduce_min_sync(~0u, high);
  const unsigned low = __reduce_min_sync(~0u, high == least ? static_cast<unsigned>(value) : ~0u);
  return static_cast<long long>(static_cast<unsigned long long>(least) << 32 | low);
}

/// The sum, which must be < 2^63. Of 26 bits of each lane, 32 lanes sum to less than 2^31.
__device__ inline long long warp_sum(long long value) {
  constexpr unsigned kMask = (1u << 26) - 1;
  const unsigned low = __reduce_add_sync(~0u, static_cast<unsigned>(value) & kMask);
  const unsigned middle = __reduce_add_sync(~0u, static_cast<unsigned>(value >> 26) & kMask);
  const unsigned high = __reduce_add_sync(~0u, static_cast<unsigned>(value >> 52));
  return (static_cast<long long>(high) << 52) + (static_cast<long long>(middle) << 26) + low;
}

}  // namespace lplb::solvers
