// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "solve/device_tables.h"

// What the solvers' kernels share: the threads that work on one instance, and its state in shared
// memory. All numbers are 32-bit: whoever fills `want` and `fixed` sees to it that they are >= 0
// and sum to 2^31 - 1 at most.
namespace lplb::solvers {

/// The first `num_threads` threads of a block, a multiple of 32. One warp needs no barrier of the
/// block and takes a cheaper one.
template <bool kOneWarp>
class Team {
 public:
  __device__ Team(int thread, int num_threads) : thread_(thread), num_threads_(num_threads) {}

  __device__ int thread() const { return thread_; }
  __device__ int lane() const { return thread_ % kLanes; }
  __device__ int warp() const { return kOneWarp ? 0 : thread_ / kLanes; }
  __device__ int num_threads() const { return kOneWarp ? kLanes : num_threads_; }
  __device__ int num_warps() const { return kOneWarp ? 1 : num_threads_ / kLanes; }

  /// Orders all that the team did to shared memory before it with all that it does after.
  __device__ void sync() const {
    if constexpr (kOneWarp) {
      __syncwarp();
    } else {
      asm volatile("bar.sync 1, %0;" ::"r"(num_threads_) : "memory");
    }
  }

  /// sync(), and whether any thread's `predicate` holds.
  __device__ bool any(bool predicate) const {
    if constexpr (kOneWarp) {
      __syncwarp();
      return __any_sync(~0u, predicate);
    } else {
      int result;
      asm volatile(
          "{\n\t.reg .pred p, q;\n\t"
          "setp.ne.s32 p, %1, 0;\n\t"
          "bar.red.or.pred q, 1, %2, p;\n\t"
          "selp.s32 %0, 1, 0, q;\n\t}"
          : "=r"(result)
          : "r"(static_cast<int>(predicate)), "r"(num_threads_)
          : "memory");
      return result != 0;
    }
  }

 private:
  int thread_;
  int num_threads_;
};

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

/// The tables in shared memory, each array's address at hand: a kernel that asked the header for it
/// at every turn would wait for two reads instead of one.
struct BlockTables {
  int num_ranks;
  int num_replicated;
  int num_colours;
  int num_tiles;
  int num_parts;
  int num_live;
  const DeviceLane* lanes;
  const DeviceTile* tiles;
  const std::uint16_t* colour_begin;
  const std::uint16_t* incident_begin;
  const std::uint16_t* incident;
  const std::uint16_t* part_of;
  const std::uint16_t* part_size;
  const std::uint16_t* live_rank;
  const std::uint32_t* reciprocal;

  __device__ explicit BlockTables(const unsigned char* image) {
    const auto& h = *reinterpret_cast<const DeviceTablesHeader*>(image);
    num_ranks = h.num_ranks;
    num_replicated = h.num_replicated;
    num_colours = h.num_colours;
    num_tiles = h.num_tiles;
    num_parts = h.num_parts;
    num_live = h.num_live;
    lanes = reinterpret_cast<const DeviceLane*>(image + h.lanes);
    tiles = reinterpret_cast<const DeviceTile*>(image + h.tiles);
    const auto ids = [image](int offset) {
      return reinterpret_cast<const std::uint16_t*>(image + offset);
    };
    colour_begin = ids(h.colour_begin);
    incident_begin = ids(h.incident_begin);
    incident = ids(h.incident);
    part_of = ids(h.part_of);
    part_size = ids(h.part_size);
    live_rank = ids(h.live_rank);
    reciprocal = reinterpret_cast<const std::uint32_t*>(image + h.reciprocal);
  }

  /// n / count for 0 <= n < 2^31 and 1 <= count <= 32, rounded down. The product with the rounded
  /// reciprocal is at most one too small.
  __device__ int divide(int n, int count) const {
    if (count == 1) return n;
    const int quotient = static_cast<int>(__umulhi(static_cast<unsigned>(n), reciprocal[count]));
    return quotient + (n - quotient * count >= count ? 1 : 0);
  }
};

/// One instance in shared memory: in, out, scratch. Made by carve() from one block of bytes;
/// bytes() says how many.
struct BlockState {
  int* want;        // in: [K]
  int* fixed;       // in: [num_ranks]
  int* take;        // out: [num_tiles * 32]
  int* rank_load;   // out: [num_ranks]
  unsigned* proof;  // out: [num_ranks / 32 + 1], a bit a rank

  int* room;        // [num_ranks], tokens that fit before a wave
  int* label;       // [num_ranks], distance to room, -1: none
  int* met;         // [K], whether a search has met the expert; cut: its set of ranks
  int* arc;         // [num_tiles * 32], the target that this lane's tokens go to in a wave
  unsigned* marks;  // [2][num_ranks / 32 + 1], ranks met in a level
  int* sets;        // cut: [256]
  BlockScalars* scalars;

  LPLB_HOST_DEVICE static int words(int num_ranks) { return num_ranks / 32 + 1; }

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    const int lanes = h.num_tiles * kLanes;
    return static_cast<int>(sizeof(BlockScalars)) +
           4 * (2 * h.num_replicated + 4 * h.num_ranks + 2 * lanes + 3 * words(h.num_ranks) +
                (h.num_live <= kMaxCutRanks ? 256 : 0));
  }

  /// `memory` is aligned to 16 bytes.
  __device__ static BlockState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    const int lanes = h.num_tiles * kLanes;
    BlockState s;
    s.scalars = reinterpret_cast<BlockScalars*>(memory);
    int* next = reinterpret_cast<int*>(memory + sizeof(BlockScalars));
    const auto take = [&next](int size) {
      int* array = next;
      next += size;
      return array;
    };
    s.want = take(h.num_replicated);
    s.met = take(h.num_replicated);
    s.fixed = take(h.num_ranks);
    s.rank_load = take(h.num_ranks);
    s.room = take(h.num_ranks);
    s.label = take(h.num_ranks);
    s.take = take(lanes);
    s.arc = take(lanes);
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

/// The greatest `value` of the team, on all its threads; `*shared` is 0 or below all values before.
template <bool kOneWarp>
__device__ int team_max(const Team<kOneWarp>& team, int value, int* shared) {
  const int most = __reduce_max_sync(~0u, value);
  if constexpr (kOneWarp) return most;
  if (team.lane() == 0) atomicMax(shared, most);
  team.sync();
  return *shared;
}

/// The least, likewise; `*shared` is above all values before.
template <bool kOneWarp>
__device__ int team_min(const Team<kOneWarp>& team, int value, int* shared) {
  const int least = __reduce_min_sync(~0u, value);
  if constexpr (kOneWarp) return least;
  if (team.lane() == 0) atomicMin(shared, least);
  team.sync();
  return *shared;
}

__device__ inline bool is_place(const DeviceLane& lane) { return lane.position != kNoLane; }

/// Lanes of the group of a lane whose expert has `count` places here: a power of two.
__device__ inline int group_width(int count) {
  return count >= kLanes ? kLanes : count <= 1 ? 1 : 1 << (32 - __clz(count - 1));
}

/// The lanes of that group, as a mask of the warp.
__device__ inline unsigned group_mask(int lane, int width) {
  const unsigned ones = width == kLanes ? ~0u : (1u << width) - 1;
  return ones << (lane & ~(width - 1));
}

/// a / b rounded up, both >= 0.
__device__ inline int ceil_div(int a, int b) {
  const auto n = static_cast<unsigned>(a);
  const auto d = static_cast<unsigned>(b);
  const unsigned quotient = n / d;
  return static_cast<int>(quotient + (quotient * d != n ? 1 : 0));
}

__device__ inline bool has_bit(const unsigned* set, int rank) {
  return (set[rank / 32] >> (rank % 32) & 1) != 0;
}
__device__ inline void add_bit(unsigned* set, int rank) {
  atomicOr(&set[rank / 32], 1u << (rank % 32));
}

}  // namespace lplb::solvers
