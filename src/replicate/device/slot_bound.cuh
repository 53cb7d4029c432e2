// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/ranks.cuh"

namespace lplb::replicas {

/// Gives the experts that other domains have, too, or alone, a place before all ranks, so that they
/// count nowhere. Ends in a barrier. Returns how many other experts there are.
__device__ inline int leave_out_shared_experts(const CopyMemory& m, const DomainRanks& ranks) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int begin = ranks.first * m.sizes.main_slots;
  const int end = begin + m.sizes.num_main();
#pragma unroll 1
  for (int slot = thread; slot < ranks.num_group_slots; slot += kCopyThreads) {
    const int e = ranks.group_slots[slot];
    if (e != kNoExpert && (slot < begin || slot >= end)) atomicMin(&m.order_of_expert[e], -1);
  }
  __syncthreads();
#pragma unroll 1
  for (int e = thread; e < m.sizes.num_logical; e += kCopyThreads) {
    if (m.order_of_expert[e] == 0x7FFFFFFF) m.order_of_expert[e] = -1;
  }
  __syncthreads();
  int confined = 0;
#pragma unroll 1
  for (int e = thread % device::kWarpSize; e < m.sizes.num_logical; e += device::kWarpSize) {
    confined += m.order_of_expert[e] >= 0 ? 1 : 0;
  }
  return __reduce_add_sync(~0u, confined);
}

/// SlotBound::raise() for a block, with a warp for each size of the set A. All threads call it
/// after the ranks are measured and synchronised. Returns the level, and in `size` the number of
/// ranks in A, which are those with order_of_rank below it; 0: there is no such bound.
template <class Ranks>
__device__ __forceinline__ typename Ranks::Level bound_by_slots(const CopyMemory& m,
                                                                const Ranks& ranks, int& size) {
  const CopySizes& sizes = m.sizes;
  const auto thread = static_cast<int>(threadIdx.x);
  // The order of the ranks and of the experts, by counting those that come before.
#pragma unroll 1
  for (int g = thread; g < sizes.num_ranks; g += kCopyThreads) {
    const int load = m.rank_load[g];
    int before = 0;
#pragma unroll 4
    for (int other = 0; other < sizes.num_ranks; ++other) {
      const int its = m.rank_load[other];
      before += m.is_alive(other) && (its < load || (its == load && other < g)) ? 1 : 0;
    }
    m.order_of_rank[g] = m.is_alive(g) ? before : sizes.num_ranks;
  }
#pragma unroll 1
  for (int e = thread; e < sizes.num_logical; e += kCopyThreads) m.order_of_expert[e] = 0x7FFFFFFF;
  if (thread == 0) m.scalars->slot_bound = 0;
  __syncthreads();
#pragma unroll 1
  for (int slot = thread; slot < sizes.num_main(); slot += kCopyThreads) {
    const int e = m.slot_expert[slot];
    if (e == kNoExpert) continue;
    atomicMin(&m.order_of_expert[e], m.order_of_rank[slot / sizes.main_slots]);
  }
  __syncthreads();
  int num_experts = sizes.num_logical;
  if constexpr (!Ranks::kAreEqual) num_experts = leave_out_shared_experts(m, ranks);
  const int listed = min(num_experts, sizes.listed(m.num_live));
#pragma unroll 1
  for (int e = thread; e < sizes.num_logical; e += kCopyThreads) {
    if (!Ranks::kAreEqual && m.order_of_expert[e] < 0) continue;
    const int want = m.want[e];
    int before = 0;
#pragma unroll 8
    for (int other = 0; other < sizes.num_logical; ++other) {
      if (!Ranks::kAreEqual && m.order_of_expert[other] < 0) continue;
      const int its = m.want[other];
      before += its > want || (its == want && other < e) ? 1 : 0;
    }
    if (before >= listed) continue;
    m.list_want[before] = want;
    m.list_order[before] = m.order_of_expert[e];
  }
  __syncthreads();

  const int lane = thread % device::kWarpSize;
#pragma unroll 1
  for (int a = 1 + thread / device::kWarpSize; a < m.num_live; a += kMostAttempts) {
    int confined = 0;  // tokens that no rank of A has
#pragma unroll 4
    for (int e = lane; e < sizes.num_logical; e += device::kWarpSize) {
      confined += m.order_of_expert[e] >= a ? m.want[e] : 0;
    }
    confined = __reduce_add_sync(~0u, confined);
    int slots = sizes.dynamic_slots * a;
    int fetched = 0;
#pragma unroll 1
    for (int first = 0; first < listed && slots > 0; first += device::kWarpSize) {
      const int i = first + lane;
      const bool is_outside = i < listed && m.list_order[i] >= a;
      const unsigned votes = __ballot_sync(~0u, is_outside);
      const bool fits = is_outside && __popc(votes & ((1u << lane) - 1)) < slots;
      fetched += __reduce_add_sync(~0u, fits ? m.list_want[i] : 0);
      slots -= min(slots, __popc(votes));
    }
    if (slots > 0 && listed < num_experts) {
      const int last = m.list_want[listed - 1];
      fetched = last > (confined - fetched) / slots ? confined : fetched + slots * last;
    }
    if constexpr (Ranks::kAreEqual) {
      if (fetched >= confined || lane != 0) continue;
      const int level = divide_up(confined - fetched, m.num_live - a);
      // The highest level; of equal ones, that of the smallest A.
      atomicMax(&m.scalars->slot_bound, (static_cast<unsigned long long>(level) << 32) |
                                            (0xFFFFFFFFu - static_cast<unsigned>(a)));
    } else {
      solvers::DeviceLevel level{-1, 0};
      if (fetched < confined) {
        level = ranks.group.raise_to_fit(
            ranks.first, ranks.first + ranks.count, confined - fetched, [&](int g) {
              return m.is_alive(g - ranks.first) && m.order_of_rank[g - ranks.first] >= a;
            });
      }
      if (lane == 0) ranks.levels[a] = level;
    }
  }
  __syncthreads();
  if constexpr (Ranks::kAreEqual) {
    const unsigned long long best = m.scalars->slot_bound;
    size =
        best == 0 ? 0 : static_cast<int>(0xFFFFFFFFu - static_cast<unsigned>(best & 0xFFFFFFFFu));
    return static_cast<int>(best >> 32);
  } else {
    size = 0;
    solvers::DeviceLevel highest{0, ranks.fastest};
#pragma unroll 1
    for (int a = 1; a < m.num_live; ++a) {
      const solvers::DeviceLevel level = ranks.levels[a];
      if (level.tokens < 0 || !ranks.above(level, highest)) continue;
      highest = level;
      size = a;
    }
    return highest;
  }
}

}  // namespace lplb::replicas
