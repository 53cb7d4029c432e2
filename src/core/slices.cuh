// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/slices.h"

// How kernels walk over topk_idx. The map depends on the order of the entries, so each warp takes
// one stretch of them, and walks over it slice by slice.
namespace lplb::device {

/// Stands for an id that an int cannot hold. Like that id, it is bad input.
inline constexpr int kBadId = -2;

__device__ inline int narrow_id(std::int32_t id) { return id; }
__device__ inline int narrow_id(std::int64_t id) {
  return id == static_cast<std::int32_t>(id) ? static_cast<int>(id) : kBadId;
}

/// The i-th id of `ids`. Ids have 4 or 8 bytes, and are aligned to that.
__device__ inline int load_id(const void* ids, int id_bytes, long long i) {
  return id_bytes == 8 ? narrow_id(static_cast<const std::int64_t*>(ids)[i])
                       : static_cast<const std::int32_t*>(ids)[i];
}

__device__ inline void store_id(void* ids, int id_bytes, long long i, int id) {
  if (id_bytes == 8) {
    static_cast<std::int64_t*>(ids)[i] = id;
  } else {
    static_cast<std::int32_t*>(ids)[i] = id;
  }
}

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarpSize; }

/// The lanes of the warp that have the same key.
struct Peers {
  unsigned mask;

  __device__ explicit Peers(int key) : mask(__match_any_sync(~0u, key)) {}
  __device__ int count() const { return __popc(mask); }
  /// How many of these lanes are before this one.
  __device__ int before() const { return __popc(mask & ((1u << lane_id()) - 1)); }
  __device__ bool is_first() const { return before() == 0; }
};

/// Gives each lane with a key >= 0 the next number of counters[key], in the order of lanes. The
/// whole warp must call it, and no other warp may use these counters.
__device__ inline int take_number(const Peers& peers, int key, int* counters) {
  const int next = key >= 0 ? counters[key] : 0;
  __syncwarp();
  if (key >= 0 && peers.is_first()) counters[key] = next + peers.count();
  __syncwarp();
  return next + peers.before();
}

}  // namespace lplb::device
