// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.h"
#include "core/ptx.cuh"
#include "solve/device/forms.h"

// What the solvers' kernels share: the threads that work on one instance, its tables, and its state
// in shared memory. All numbers have 32 bits. Whoever fills `want` and `fixed` ensures that they
// are >= 0 and sum to at most 2^31 - 1.
//
// NOTE: a warp waits for each of its instructions, and for its code to be fetched; there is no
// other warp whose work would hide this. So loops are small and stay loops ("unroll 1"): it was
// measured that code which runs once takes longer to fetch than to run.
namespace lplb::solvers {

/// The single values that the threads of a team share.
struct BlockScalars {
  int most;         ///< the result of max_of()
  int first;        ///< the result of min_of()
  int sum;          ///< the loads of a closure
  int count;        ///< the ranks of a closure
  int grown_level;  ///< the last level of a search in which a rank was met
  int fits;         ///< cut: not 0 if the sweeps ended at the bound
  /// cut: the set that proves the bound, after what its size and load count in the choice.
  unsigned long long proof;
};
static_assert(sizeof(BlockScalars) % 16 == 0);

/// The threads that solve: one warp.
class WarpTeam {
 public:
  static constexpr bool kIsWarp = true;

  __device__ explicit WarpTeam(int thread) : thread_(thread) {}
  __device__ int thread() const { return thread_; }
  __device__ int num_threads() const { return kWarpSize; }
  /// Orders all that the team did to shared memory before it and all that the team does after it.
  __device__ void sync() const { __syncwarp(); }
  /// Whether the `predicate` of any thread holds. It is also a sync.
  __device__ bool any(bool predicate) const {
    __syncwarp();
    return __any_sync(~0u, predicate);
  }
  __device__ int max_of(int value, BlockScalars*) const { return __reduce_max_sync(~0u, value); }
  __device__ int min_of(int value, BlockScalars*) const { return __reduce_min_sync(~0u, value); }

 private:
  int thread_;
};

/// The threads that solve: the first `num_threads` of a block, a multiple of 32.
class BlockTeam {
 public:
  static constexpr bool kIsWarp = false;

  __device__ BlockTeam(int thread, int num_threads) : thread_(thread), num_threads_(num_threads) {}

  __device__ int thread() const { return thread_; }
  __device__ int num_threads() const { return num_threads_; }
  __device__ void sync() const { device::sync_team(num_threads_); }
  __device__ bool any(bool predicate) const { return device::any_in_team(num_threads_, predicate); }

  /// Reductions, with the result on all threads. NOTE: use each value of BlockScalars once, or
  /// reset it between two syncs, because all threads read it after the call.
  __device__ int max_of(int value, BlockScalars* shared) const {
    const int most = __reduce_max_sync(~0u, value);
    if (is_first_lane()) atomicMax(&shared->most, most);
    sync();
    return shared->most;
  }
  __device__ int min_of(int value, BlockScalars* shared) const {
    const int least = __reduce_min_sync(~0u, value);
    if (is_first_lane()) atomicMin(&shared->first, least);
    sync();
    return shared->first;
  }

 private:
  __device__ bool is_first_lane() const { return thread_ % kWarpSize == 0; }

  int thread_;
  int num_threads_;
};

/// The most colours that a warp can sweep in registers.
inline constexpr int kPairColours = 6;

/// The tables in shared memory. The address of each array is kept here: to read its offset from the
/// header at each use would take two dependent reads instead of one.
struct BlockTables {
  int num_ranks;
  int num_replicated;
  int num_colours;
  int num_parts;
  int num_live;
  int most_places;  ///< of an expert
  bool has_pairs;   ///< every expert has two places, and a warp can sweep all in registers
  const std::uint16_t* colour_begin;
  const std::uint16_t* place_begin;
  const std::uint16_t* place_rank;
  const std::uint16_t* incident_begin;
  const std::uint16_t* incident;
  const std::uint16_t* incident_owner;
  const std::uint16_t* part_of;
  const std::uint16_t* part_size;
  const std::uint16_t* live_rank;
  const std::uint32_t* expert_ranks;
  const std::uint16_t* live_set;
  const std::uint32_t* reciprocal;

  __device__ BlockTables(const unsigned char* image, const DeviceTablesHeader& h) {
    num_ranks = h.num_ranks;
    num_replicated = h.num_replicated;
    num_colours = h.num_colours;
    num_parts = h.num_parts;
    num_live = h.num_live;
    most_places = h.most_places;
    has_pairs = h.most_places <= 2 && h.most_experts <= kWarpSize && h.num_colours <= kPairColours;
    const auto ids = [image](int offset) {
      return reinterpret_cast<const std::uint16_t*>(image + offset);
    };
    const auto words = [image](int offset) {
      return reinterpret_cast<const std::uint32_t*>(image + offset);
    };
    colour_begin = ids(h.colour_begin);
    place_begin = ids(h.place_begin);
    place_rank = ids(h.place_rank);
    incident_begin = ids(h.incident_begin);
    incident = ids(h.incident);
    incident_owner = ids(h.incident_owner);
    part_of = ids(h.part_of);
    part_size = ids(h.part_size);
    live_rank = ids(h.live_rank);
    expert_ranks = words(h.expert_ranks);
    live_set = ids(h.live_set);
    reciprocal = words(h.reciprocal);
  }

  /// n / count, rounded down, for 0 <= n < 2^31 and count >= 1. The product with the rounded
  /// reciprocal is at most one too small.
  __device__ int divide(int n, int count) const {
    if (count > kMostReciprocal) return static_cast<int>(static_cast<unsigned>(n) / count);
    return divide_by_few(n, count);
  }

  /// The same for count <= kMostReciprocal, without a branch.
  __device__ int divide_by_few(int n, int count) const {
    return divide_by_few(n, count, reciprocal[count]);
  }
  __device__ static int divide_by_few(int n, int count, unsigned of_count) {
    const int quotient = static_cast<int>(__umulhi(static_cast<unsigned>(n), of_count));
    return quotient + (n - quotient * count >= count ? 1 : 0);
  }

  /// The same, rounded up.
  __device__ int divide_up(int n, int count) const {
    const int quotient = divide(n, count);
    return quotient + (quotient * count != n ? 1 : 0);
  }
  __device__ int divide_up_by_few(int n, int count) const {
    const int quotient = divide_by_few(n, count);
    return quotient + (quotient * count != n ? 1 : 0);
  }
};

/// The sets of ranks of the solver cut, and the places where its warps exchange minima.
inline constexpr int kCutSets = 1 << kMaxCutRanks;
inline constexpr int kCutSlots = 16;

/// One instance in shared memory: input, output and scratch. carve() makes it from one block of
/// bytes; bytes() says how many it needs.
struct BlockState {
  int* want;        // in: [K]
  int* fixed;       // in: [num_ranks]
  int* take;        // out: [num_places]
  int* rank_load;   // out: [num_ranks + 1]; the last is nobody's: 0x7FFFFFFF
  unsigned* proof;  // out: [num_ranks / 32 + 1], a bit for each rank

  int* room;        // [num_ranks + 1], room before a wave; mask_flow.cuh: load before it
  int* label;       // [num_ranks], distance to room, -1: none; cut: number among the live
  int* met;         // [K], the level in which a search met the expert; -1: not yet
  int* target;      // [K], the place that its tokens may go to
  unsigned* marks;  // [2][num_ranks / 32 + 1], ranks met in a level
  int* sets;        // cut: [256]
  int* fixed_take;  // cut: [num_places]
  int2* slots;      // cut: [kCutSlots], minima of warps
  uint4* reach;     // [kMaskThreads], if a set of ranks has more than one word
  BlockScalars* scalars;

  LPLB_HOST_DEVICE static int words(int num_ranks) { return num_ranks / 32 + 1; }

  LPLB_HOST_DEVICE static int reach_bytes(const DeviceTablesHeader& h) {
    return h.mask_words > 1 ? kMaskThreads * static_cast<int>(sizeof(uint4)) : 0;
  }

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    return static_cast<int>(sizeof(BlockScalars)) + reach_bytes(h) +
           4 * (3 * h.num_replicated + 4 * h.num_ranks + 2 + h.num_places + 3 * words(h.num_ranks) +
                (h.num_live <= kMaxCutRanks
                     ? kCutSets + h.num_places + h.num_places % 2 + 2 * kCutSlots
                     : 0));
  }

  /// `memory` must be aligned to 16 bytes.
  __device__ static BlockState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    BlockState s;
    s.scalars = reinterpret_cast<BlockScalars*>(memory);
    s.reach = reinterpret_cast<uint4*>(memory + sizeof(BlockScalars));
    int* next = reinterpret_cast<int*>(memory + sizeof(BlockScalars) + reach_bytes(h));
    const bool has_sets = h.num_live <= kMaxCutRanks;
    const auto take = [&next](int size) {
      int* array = next;
      next += size;
      return array;
    };
    // Both are aligned to 8 bytes.
    s.slots = reinterpret_cast<int2*>(take(has_sets ? 2 * kCutSlots : 0));
    s.fixed_take = take(has_sets ? h.num_places + h.num_places % 2 : 0);
    s.want = take(h.num_replicated);
    s.met = take(h.num_replicated);
    s.target = take(h.num_replicated);
    s.fixed = take(h.num_ranks);
    s.rank_load = take(h.num_ranks + 1);
    s.room = take(h.num_ranks + 1);
    s.label = take(h.num_ranks);
    s.take = take(h.num_places);
    s.proof = reinterpret_cast<unsigned*>(take(words(h.num_ranks)));
    s.marks = reinterpret_cast<unsigned*>(take(2 * words(h.num_ranks)));
    s.sets = take(has_sets ? kCutSets : 0);
    return s;
  }
};

/// What a solver returns in registers, the same on all threads of its team.
struct BlockOutcome {
  int bound;     ///< no split is below it; `proof` says why
  int max_load;  ///< of rank_load
  int steps;
  int is_optimal;
};

/// Returns `value`, which is the same on all lanes of a warp, in a register that the compiler knows
/// to be uniform. Branches on it need no convergence barrier.
__device__ inline int uniform(int value) {
  return static_cast<int>(__reduce_or_sync(~0u, static_cast<unsigned>(value)));
}

__device__ inline bool has_bit(const unsigned* set, int rank) {
  return (set[rank / 32] >> (rank % 32) & 1) != 0;
}
__device__ inline void add_bit(unsigned* set, int rank) {
  atomicOr(&set[rank / 32], 1u << (rank % 32));
}

}  // namespace lplb::solvers
