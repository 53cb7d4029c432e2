// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "placement/device/args.h"
#include "placement/device/rank_set.cuh"

namespace lplb::placement {

inline constexpr unsigned kAllLanes = ~0u;

/// The start of the block's dynamic shared memory, which is what `memory` must be. NOTE: the
/// compiler must see that it is shared; through a pointer that a function is given, each access
/// would take longer.
__device__ inline unsigned char* search_memory([[maybe_unused]] unsigned char* memory) {
#ifdef __CUDA_ARCH__
  extern __shared__ uint4 search_block_memory[];
  return reinterpret_cast<unsigned char*>(search_block_memory);
#else
  return memory;
#endif
}

/// The names of what is in a block's memory; SearchMemory says what each is.
template <int kWords>
struct SearchArrays {
  using Set = RankSet<kWords>;

  int num_ranks, slots, num_slots, num_logical, padded;
  int lane, warp, num_warps;
  // A search for a path looks at `givers` ranks at once, a lane for each of their slots, or at one
  // rank in `parts`.
  int givers, parts, my_giver, my_slot;

  long long* weight;
  int* want;
  int *take, *load, *level;
  Set* member;
  double* inverse;
  int *inside, *floor, *highest;
  Set *ranks, *held;
  short *expert, *any;
  unsigned* hop;
  int *num_found, *reached;
  SearchVote* votes;
  int* lower;
  unsigned char* queue;  ///< of this warp
  unsigned* step;        ///< of this warp
  SearchScalars* scalars;
  unsigned* found;  ///< of this block
  int most_batches;

  __device__ __forceinline__ SearchArrays(const SearchArgs& args, unsigned char* given) {
    unsigned char* const memory = search_memory(given);
    const SearchMemory& at = args.at;
    num_ranks = args.sizes.num_ranks;
    slots = args.sizes.slots;
    num_slots = num_ranks * slots;
    num_logical = args.sizes.num_logical;
    most_batches = args.sizes.num_batches;
    padded = (most_batches + 3) / 4 * 4;
    const int thread = static_cast<int>(threadIdx.x);
    lane = thread % device::kWarpSize;
    // NOTE: from a lane, so that the compiler knows that it is the same in all lanes.
    warp = __shfl_sync(kAllLanes, thread / device::kWarpSize, 0);
    num_warps = static_cast<int>(blockDim.x) / device::kWarpSize;
    givers = max(1, device::kWarpSize / slots);
    parts = (slots + device::kWarpSize - 1) / device::kWarpSize;
    my_giver = parts == 1 ? lane / slots : 0;
    my_slot = parts == 1 ? lane % slots : lane;
    const auto ints = [memory](int offset) { return reinterpret_cast<int*>(memory + offset); };
    const auto sets = [memory](int offset) { return reinterpret_cast<Set*>(memory + offset); };
    weight = reinterpret_cast<long long*>(memory + at.weight);
    want = ints(at.want);
    take = ints(at.take);
    load = ints(at.load);
    level = ints(at.level);
    member = sets(at.member);
    inverse = reinterpret_cast<double*>(memory + at.inverse);
    inside = ints(at.inside);
    floor = ints(at.floor);
    highest = ints(at.highest);
    ranks = sets(at.ranks);
    held = sets(at.held);
    expert = reinterpret_cast<short*>(memory + at.expert);
    any = reinterpret_cast<short*>(memory + at.any);
    hop = reinterpret_cast<unsigned*>(memory + at.hop);
    num_found = ints(at.num_found);
    reached = ints(at.reached);
    votes = reinterpret_cast<SearchVote*>(memory + at.votes);
    lower = ints(at.lower);
    queue = memory + at.queue + warp * num_ranks;
    step = reinterpret_cast<unsigned*>(memory + at.step) + warp * num_ranks;
    scalars = reinterpret_cast<SearchScalars*>(memory + at.scalars);
    found = args.found + std::size_t{1} * blockIdx.x * most_batches * found_size();
  }

  __device__ __forceinline__ std::size_t found_size() const {
    return std::size_t{1} * num_ranks * num_ranks * (kWords + 1);
  }
  /// Cut `i` of the trial in `batch`: kWords words of the set, then the level.
  __device__ __forceinline__ unsigned* found_cut(int batch, int i) const {
    return found + batch * found_size() + std::size_t{1} * i * (kWords + 1);
  }

  __device__ __forceinline__ int want_of(int batch, int e) const {
    return want[batch * num_logical + e];
  }
  __device__ __forceinline__ int* take_of(int side, int batch) const {
    return take + (side * most_batches + batch) * num_slots;
  }
  __device__ __forceinline__ int* load_of(int side, int batch) const {
    return load + (side * most_batches + batch) * num_ranks;
  }
  __device__ __forceinline__ int& level_of(int side, int batch) const {
    return level[side * padded + batch];
  }

  static __device__ __forceinline__ int next_of(unsigned hop) {
    return static_cast<int>(hop & 0xFFFF);
  }
  static __device__ __forceinline__ int rank_of(unsigned hop) {
    return static_cast<int>(hop >> 16);
  }

  /// WindowJudge::put() and lift(), by one thread.
  __device__ __forceinline__ void put(int slot, int e) const {
    const int rank = slot / slots;
    const unsigned here = static_cast<unsigned>(slot) | static_cast<unsigned>(rank) << 16;
    expert[slot] = static_cast<short>(e);
    hop[slot] = here;
    if (e < 0) return;
    ranks[e] = ranks[e].with(rank);
    const int first = any[e];
    if (first < 0) {
      any[e] = static_cast<short>(slot);
      return;
    }
    hop[slot] = hop[first];
    hop[first] = here;
  }
  __device__ __forceinline__ void lift(int slot) const {
    const int e = expert[slot];
    if (e < 0) return;
    const int rank = slot / slots;
    int before = slot;
    while (next_of(hop[before]) != slot) before = next_of(hop[before]);
    hop[before] = hop[slot];
    any[e] = static_cast<short>(before == slot ? -1 : before);
    hop[slot] = static_cast<unsigned>(slot) | static_cast<unsigned>(rank) << 16;
    expert[slot] = -1;
    ranks[e] = ranks[e].without(rank);
  }
};

}  // namespace lplb::placement
