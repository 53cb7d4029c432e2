// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.h"
#include "core/ptx.cuh"
#include "solve/device/forms.h"

// What the solvers' kernels share: the threads that work on one instance, its tables and its state
// in shared memory. All numbers are 32-bit: whoever fills `want` and `fixed` sees to it that they
// are not negative and sum to 2^31 - 1 at most.
// NOTE: one warp waits for each instruction and for its code, which no other warp hides. So loops
// are small and stay loops ("unroll 1"): measured, code that runs once is fetched slower than it
// runs.
namespace lplb::solvers {

/// Single values that the threads of a team share.
struct BlockScalars {
  int most;         ///< of a reduction
  int first;        ///< of a reduction
  int sum;          ///< of a cut
  int count;        ///< of a cut
  int grown_level;  ///< the last level of a search that met a rank
  int unused[3];
};
static_assert(sizeof(BlockScalars) % 16 == 0);

/// The threads that solve: one warp.
class WarpTeam {
 public:
  static constexpr bool kIsWarp = true;

  __device__ explicit WarpTeam(int thread) : thread_(thread) {}
  __device__ int thread() const { return thread_; }
  __device__ int num_threads() const { return kWarpSize; }
  /// Orders all that the team did to shared memory before it with all that it does after.
  __device__ void sync() const { __syncwarp(); }
  /// Whether any thread's `predicate` holds. A sync.
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
  /// Its part of the others' next sync(), without waiting.
  __device__ void arrive() const { device::arrive_at_team(num_threads_); }
  __device__ bool any(bool predicate) const { return device::any_in_team(num_threads_, predicate); }

  /// Reductions, on all threads. NOTE: each value of BlockScalars is used once, or reset between
  /// two syncs, since all threads read it after the call.
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

/// Colours that a warp can sweep in registers.
inline constexpr int kPairColours = 6;

/// The tables in shared memory, each array's address at hand: a kernel that asked the header for it
/// at every turn would wait for two reads instead of one.
struct BlockTables {
  int num_ranks;
  int num_replicated;
  int num_colours;
  int num_parts;
  int num_live;
  int most_places;  ///< of an expert
  bool has_pairs;  ///< no expert has more than two places, no colour more experts than a warp lanes
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

  /// n / count for 0 <= n < 2^31, count >= 1, rounded down. The product with the rounded reciprocal
  /// is at most one too small.
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

/// One instance in shared memory: in, out, scratch. Made by carve() from one block of bytes;
/// bytes() says how many.
struct BlockState {
  int* want;        // in: [K]
  int* fixed;       // in: [num_ranks]
  int* take;        // out: [num_places]
  int* rank_load;   // out: [num_ranks]; then that of nobody, 0x7FFFFFFF
  unsigned* proof;  // out: [num_ranks / 32 + 1], a bit a rank

  int* room;        // [num_ranks + 1], tokens that fit before a wave; mask_flow.cuh: the loads then
  int* label;       // [num_ranks], distance to room, -1: none; cut: number among the live
  int* met;         // [K], the level in which a search met the expert, -1: not yet
  int* target;      // [K], the place that its tokens may go to
  unsigned* marks;  // [2][num_ranks / 32 + 1], ranks met in a level
  int* sets;        // cut: [256]
  uint4* reach;     // [kMaskThreads] where sets of ranks are more than one word
  BlockScalars* scalars;

  LPLB_HOST_DEVICE static int words(int num_ranks) { return num_ranks / 32 + 1; }

  LPLB_HOST_DEVICE static int reach_bytes(const DeviceTablesHeader& h) {
    return h.mask_words > 1 ? kMaskThreads * static_cast<int>(sizeof(uint4)) : 0;
  }

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    return static_cast<int>(sizeof(BlockScalars)) + reach_bytes(h) +
           4 * (3 * h.num_replicated + 4 * h.num_ranks + 2 + h.num_places + 3 * words(h.num_ranks) +
                (h.num_live <= kMaxCutRanks ? 256 : 0));
  }

  /// `memory` is aligned to 16 bytes.
  __device__ static BlockState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    BlockState s;
    s.scalars = reinterpret_cast<BlockScalars*>(memory);
    s.reach = reinterpret_cast<uint4*>(memory + sizeof(BlockScalars));
    int* next = reinterpret_cast<int*>(memory + sizeof(BlockScalars) + reach_bytes(h));
    const auto take = [&next](int size) {
      int* array = next;
      next += size;
      return array;
    };
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
    s.sets = take(h.num_live <= kMaxCutRanks ? 256 : 0);
    return s;
  }
};

/// What a solver returns in registers, alike on all threads of its team.
struct BlockOutcome {
  int bound;     ///< no split is below it; `proof` says why
  int max_load;  ///< of rank_load
  int steps;
  int is_optimal;
};

/// `value`, the same on all lanes of a warp, in a register that the compiler knows to be uniform:
/// branches on it need no convergence barrier.
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
