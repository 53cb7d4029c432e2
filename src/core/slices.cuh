// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/slices.h"

// How kernels walk over topk_idx. The order of entries matters to the map, so each warp takes one
// stretch of it, a row of 32 neighbours at a time.
namespace lplb::device {

/// What stands for an id that an int cannot hold: bad input as much as the id itself.
inline constexpr int kBadId = -2;

__device__ inline int narrow_id(std::int32_t id) { return id; }
__device__ inline int narrow_id(std::int64_t id) {
  return id == static_cast<std::int32_t>(id) ? static_cast<int>(id) : kBadId;
}

/// Ids of 4 or 8 bytes, aligned as such.
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
  /// Of these, the lanes before this one.
  __device__ int before() const { return __popc(mask & ((1u << lane_id()) - 1)); }
  __device__ bool is_first() const { return before() == 0; }
};

/// Takes the next number of `counters[key]` for each lane with a key >= 0, in lane order. The whole
/// warp calls it; no other warp uses these counters.
__device__ inline int take_number(const Peers& peers, int key, int* counters) {
  const int next = key >= 0 ? counters[key] : 0;
  __syncwarp();
  if (key >= 0 && peers.is_first()) counters[key] = next + peers.count();
  __syncwarp();
  return next + peers.before();
}

}  // namespace lplb::device
