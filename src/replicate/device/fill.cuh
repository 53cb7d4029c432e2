// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "replicate/device/args.h"
#include "replicate/device/memory.cuh"

namespace lplb::replicas {

/// Filler::fill() for one warp, step by step: lane i has ranks i, i + 32 and so on, up to kWords of
/// them. A step takes about 200 cycles, of which most are the warp's votes.
template <int kWords>
class WarpFill {
 public:
  /// `attempt`: which of the block's attempts this warp makes.
  __device__ WarpFill(const CopyMemory& memory, int min_tokens, int attempt)
      : m_(memory), min_tokens_(min_tokens), lane_(threadIdx.x % device::kWarpSize) {
    left_ = m_.left + attempt * ((m_.sizes.num_main() + 3) / 4 * 4);
    held_ = m_.held + attempt * ((m_.sizes.num_dynamic() + 7) / 8 * 8);
  }

  /// Fills for `level`. With `keep`, writes the plan, too. All lanes call it, after the ranks are
  /// measured and synchronised; they all get the result.
  __device__ Attempt run(int level, int detour, bool keep) {
    start(level, keep);
    int copies = 0;
    const int most_steps = m_.sizes.num_ranks + m_.sizes.num_main();
#pragma unroll 1
    for (int step = 0; step < most_steps; ++step) {
      int room;
      int taker = roomiest(-1, room);
      if (step == detour && taker >= 0) taker = roomiest(taker, room);
      if (taker < 0) break;
      const int giver = choose_giver(room);
      if (giver < 0) break;
      copies += move(giver, taker, room, keep);
    }
    int least = 0x7FFFFFFF;
#pragma unroll
    for (int w = 0; w < kWords; ++w) least = min(least, lives(w) ? room_[w] : 0x7FFFFFFF);
    least = __reduce_min_sync(~0u, least);
    return {level - least, copies, least >= 0 ? 1 : 0};
  }

 private:
  __device__ bool lives(int w) const { return (live_ >> w & 1) != 0; }
  __device__ int rank_of(int w) const { return lane_ + device::kWarpSize * w; }

  __device__ void start(int level, bool keep) {
    live_ = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      const bool is_live = g < m_.sizes.num_ranks && m_.is_alive(g);
      live_ |= is_live ? 1u << w : 0;
      room_[w] = is_live ? level - m_.rank_load[g] : 0;
      free_[w] = is_live ? m_.sizes.dynamic_slots : 0;
      heaviest_[w] = is_live ? m_.heaviest[g] : -1;
      slot_[w] = is_live ? m_.heaviest_slot[g] : 0;
    }
#pragma unroll 4
    for (int slot = lane_; slot < m_.sizes.num_main(); slot += device::kWarpSize) {
      const int tokens = m_.slot_tokens[slot];
      left_[slot] = tokens;
      if (keep) m_.plan_main[slot] = tokens;
    }
    if (keep) {
#pragma unroll 1
      for (int i = lane_; i < m_.sizes.num_dynamic(); i += device::kWarpSize) {
        m_.plan_dynamic[i] = 0;
        m_.dynamic_expert[i] = -1;
      }
    }
    __syncwarp();
  }

  /// The lowest of the ranks for which is_it(w) holds on their lanes; -1: none.
  template <class IsIt>
  __device__ int first_rank(IsIt is_it) const {
    int first = -1;
#pragma unroll
    for (int w = kWords - 1; w >= 0; --w) {
      const unsigned votes = __ballot_sync(~0u, is_it(w));
      if (votes != 0) first = device::kWarpSize * w + __ffs(static_cast<int>(votes)) - 1;
    }
    return first;
  }

  /// The value of a rank that its lane has.
  __device__ int value_of(const int (&values)[kWords], int rank) const {
    int value = values[0];
#pragma unroll
    for (int w = 1; w < kWords; ++w) {
      value = rank / device::kWarpSize == w ? values[w] : value;
    }
    return __shfl_sync(~0u, value, rank % device::kWarpSize);
  }

  /// The rank but `except` with most room and a free slot; -1 if none has room for a copy.
  __device__ int roomiest(int except, int& room) const {
    const auto can_take = [&](int w) { return free_[w] > 0 && rank_of(w) != except; };
    int most = -1;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, can_take(w) ? room_[w] : -1);
    room = __reduce_max_sync(~0u, most);
    if (room < min_tokens_) return -1;
    return first_rank([&](int w) { return can_take(w) && room_[w] == room; });
  }

  /// The most overloaded rank whose heaviest slot fills the room, or else the overloaded rank with
  /// the heaviest one; -1 if no slot has enough for a copy.
  __device__ int choose_giver(int room) const {
    const auto fills = [&](int w) { return room_[w] < 0 && heaviest_[w] >= room; };
    int over = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) over = max(over, fills(w) ? -room_[w] : 0);
    over = __reduce_max_sync(~0u, over);
    if (over > 0) return first_rank([&](int w) { return fills(w) && room_[w] == -over; });
    int most = -1;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, room_[w] < 0 ? heaviest_[w] : -1);
    most = __reduce_max_sync(~0u, most);
    if (most < min_tokens_) return -1;
    return first_rank([&](int w) { return room_[w] < 0 && heaviest_[w] == most; });
  }

  /// Moves what fits of the giver's heaviest slot. Returns how many copies this makes.
  __device__ int move(int giver, int taker, int room, bool keep) {
    const int slot = value_of(slot_, giver);
    const int has = value_of(heaviest_, giver);
    const int tokens = min(room, has);
    const int used = m_.sizes.dynamic_slots - value_of(free_, taker);
    const int holder = m_.replicated ? find(taker, used, m_.slot_expert[slot]) : -1;
    const bool is_copy = holder < 0;
    if (lane_ == 0) {
      left_[slot] = has - tokens;
      if (is_copy && m_.replicated) {
        held_[taker * m_.sizes.dynamic_slots + used] = m_.slot_expert[slot];
      }
      if (keep) put(slot, taker, is_copy ? m_.sizes.main_slots + used : holder, is_copy, tokens);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      room_[w] += rank_of(w) == giver ? tokens : 0;
      room_[w] -= rank_of(w) == taker ? tokens : 0;
      free_[w] -= rank_of(w) == taker && is_copy ? 1 : 0;
    }
    __syncwarp();
    find_heaviest(giver);
    return is_copy ? 1 : 0;
  }

  /// Finds the slot that has the giver's most tokens now.
  __device__ void find_heaviest(int giver) {
    const int first = giver * m_.sizes.main_slots;
    int most = -1;
    int at = 0x7FFFFFFF;
#pragma unroll 1
    for (int i = lane_; i < m_.sizes.main_slots; i += device::kWarpSize) {
      const int tokens = left_[first + i];
      at = tokens > most ? first + i : at;
      most = max(most, tokens);
    }
    const int heaviest = __reduce_max_sync(~0u, most);
    at = __reduce_min_sync(~0u, most == heaviest ? at : 0x7FFFFFFF);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      heaviest_[w] = rank_of(w) == giver ? heaviest : heaviest_[w];
      slot_[w] = rank_of(w) == giver ? at : slot_[w];
    }
  }

  /// The first slot of `rank` that has expert `e`, main slots first; -1: none.
  __device__ int find(int rank, int used, int e) const {
    const int main = m_.sizes.main_slots;
    int at = 0x7FFFFFFF;
#pragma unroll 1
    for (int i = lane_; i < main + used; i += device::kWarpSize) {
      const int here = i < main ? m_.slot_expert[rank * main + i]
                                : held_[rank * m_.sizes.dynamic_slots + i - main];
      if (here == e) at = min(at, i);
    }
    at = __reduce_min_sync(~0u, at);
    return at == 0x7FFFFFFF ? -1 : at;
  }

  /// Notes in the plan that slot `to` of the taker gets tokens.
  __device__ void put(int from, int taker, int to, bool is_copy, int tokens) const {
    const int main = m_.sizes.main_slots;
    atomicAdd(&m_.plan_main[from], -tokens);
    if (to < main) {
      atomicAdd(&m_.plan_main[taker * main + to], tokens);
      return;
    }
    const int at = taker * m_.sizes.dynamic_slots + to - main;
    if (is_copy) m_.dynamic_expert[at] = m_.slot_expert[from];
    atomicAdd(&m_.plan_dynamic[at], tokens);
  }

  const CopyMemory& m_;
  const int min_tokens_;
  const int lane_;
  int* left_;            // [num_main]: tokens that a slot still has
  std::uint16_t* held_;  // [num_ranks, S]: the copies, if experts are replicated

  // The lane's ranks.
  unsigned live_ = 0;
  int room_[kWords];      // below the level; negative: above it
  int free_[kWords];      // dynamic slots
  int heaviest_[kWords];  // the most tokens that a slot has left
  int slot_[kWords];      // that slot
};

/// WarpFill::run() as a function of its own. NOTE: as a part of the kernel, the arrays of lanes
/// with several ranks were in local memory.
template <int kWords>
__device__ __noinline__ Attempt fill_in_warp(const CopyArgs& args, unsigned char* memory,
                                             int attempt, int level, int detour, bool keep) {
  CopyMemory m(memory, args.sizes, args.layout);
  m.open();
  return WarpFill<kWords>(m, args.min_tokens, attempt).run(level, detour, keep);
}

}  // namespace lplb::replicas
