// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "replicate/device/args.h"
#include "replicate/device/memory.cuh"

namespace lplb::replicas {

/// Filler::fill() for one warp, step by step: lane i has ranks i * kWords to i * kWords + kWords
/// - 1. kReplicated: experts may be in several slots, so a rank may have the expert that it takes.
///
/// NOTE: each instruction of a step takes the warp 5 cycles, whatever it does, and a plan has about
/// as many steps as ranks. So the lanes of the giver and the taker do what concerns their ranks by
/// themselves, and nobody else is told. A main slot is read and written by one lane only.
template <int kWords, bool kReplicated>
class WarpFill {
 public:
  /// `attempt`: which of the block's attempts this warp makes. With `keep`, it writes the plan too.
  __device__ WarpFill(const CopyMemory& memory, int min_tokens, int attempt, bool keep)
      : m_(memory), min_tokens_(min_tokens), keep_(keep), lane_(threadIdx.x % device::kWarpSize) {
    left_ = m_.left + attempt * ((m_.sizes.num_main() + 3) / 4 * 4);
    held_ = m_.held + attempt * ((m_.sizes.num_dynamic() + 7) / 8 * 8);
    // Without replicated experts, a main slot takes what it is left with.
    if (keep && !kReplicated) left_ = m_.plan_main;
    // NOTE: opaque, so that no step computes them again.
    own_bit_ = static_cast<unsigned>(device::opaque(1 << lane_));
    up_to_own_ = static_cast<unsigned>(device::opaque(static_cast<int>((2u << lane_) - 1)));
    own_left_ = device::hold_address(left_ + lane_);
    to_tokens_ = device::hold_address(m_.plan_dynamic) - device::hold_address(m_.dynamic_expert);
  }

  /// Fills for `level`. `is_clear`: the plan is without copies, so it need not be cleared. All
  /// lanes call it, after the ranks are measured and synchronised; they all get the result.
  __device__ Attempt run(int level, int detour, bool is_clear) {
    start(level, is_clear);
    int copies = 0;
    const int most_steps = m_.sizes.num_ranks + m_.sizes.num_main();
#pragma unroll 1
    for (int step = 0; step < most_steps; ++step) {
      // The rank with most room takes.
      int key = most_room(kNobody);
      int room = __reduce_max_sync(~0u, key);
      if (room < min_tokens_) break;
      unsigned votes = __ballot_sync(~0u, key == room);
      int to = is_first(votes) ? room_word(room, kNobody) : kNobody;
      if (step == detour) {
        const int except = to;
        key = most_room(except);
        room = __reduce_max_sync(~0u, key);
        if (room < min_tokens_) break;
        votes = __ballot_sync(~0u, key == room);
        to = is_first(votes) ? room_word(room, except) : kNobody;
      }
      // The most overloaded rank whose heaviest slot fills the room gives.
      key = most_over(room);
      int top = __reduce_max_sync(~0u, key);
      int from = over_word(top, room);
      if (top == 0) {  // there is none: the overloaded rank with the heaviest slot
        key = most_weight();
        top = __reduce_max_sync(~0u, key);
        if (top < min_tokens_) break;
        from = weight_word(top);
      }
      const int giver = first_lane(__ballot_sync(~0u, key == top));
      copies += move(to, lane_ == giver ? from : kNobody, votes, giver, room);
    }
    int least = 0x7FFFFFFF;
#pragma unroll
    for (int w = 0; w < kWords; ++w) least = min(least, lives(w) ? room_[w] : 0x7FFFFFFF);
    least = __reduce_min_sync(~0u, least);
    if (keep_ && !kReplicated) name_experts();
    return {level - least, copies, least >= 0 ? 1 : 0};
  }

 private:
  static constexpr int kNobody = -1;  // no word of this lane

  __device__ bool lives(int w) const { return (live_ >> w & 1) != 0; }
  __device__ int rank_of(int w) const { return lane_ * kWords + w; }
  __device__ static int first_lane(unsigned votes) { return __ffs(static_cast<int>(votes)) - 1; }
  /// Whether this lane is the first that votes.
  __device__ bool is_first(unsigned votes) const { return (votes & up_to_own_) == own_bit_; }

  __device__ void start(int level, bool is_clear) {
    live_ = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      const bool is_live = g < m_.sizes.num_ranks && m_.is_alive(g);
      live_ |= is_live ? 1u << w : 0;
      room_[w] = is_live ? level - m_.rank_load[g] : 0;
      const int slots = is_live ? m_.sizes.dynamic_slots : 0;
      next_[w] = device::hold_address(m_.dynamic_expert + (is_live ? g : 0) * slots);
      end_[w] = next_[w] + 4 * static_cast<unsigned>(slots);
      heaviest_[w] = is_live ? m_.heaviest[g] : -1;
      where_[w] = is_live ? pack(g * m_.sizes.main_slots, m_.heaviest_slot[g]) : 0;
    }
    if (!is_clear && keep_) m_.clear_plan(lane_, device::kWarpSize);
    if (!is_clear || kReplicated) {
#pragma unroll 4
      for (int slot = lane_; slot < m_.sizes.num_main(); slot += device::kWarpSize) {
        left_[slot] = m_.slot_tokens[slot];
      }
    }
    __syncwarp();
  }

  /// Where a rank's main slots begin, and one of them.
  __device__ static int pack(int first, int slot) { return first << 16 | slot; }

  /// The most room of the lane's ranks that have a free slot, but for word `except`.
  __device__ int most_room(int except) const {
    int most = -1;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      most = max(most, next_[w] != end_[w] && w != except ? room_[w] : -1);
    }
    return most;
  }
  /// The first word of the lane with that room.
  __device__ int room_word(int room, int except) const {
    return first_word(
        [&](int w) { return next_[w] != end_[w] && w != except && room_[w] == room; });
  }
  template <class IsIt>
  __device__ static int first_word(IsIt is_it) {
    int word = 0;
#pragma unroll
    for (int w = kWords - 1; w >= 0; --w) word = is_it(w) ? w : word;
    return word;
  }

  /// By how much the lane's ranks are overloaded whose heaviest slot fills `room`; 0: none is.
  __device__ int most_over(int room) const {
    int most = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, heaviest_[w] >= room ? -room_[w] : 0);
    return most;
  }
  __device__ int over_word(int over, int room) const {
    return first_word([&](int w) { return -room_[w] == over && heaviest_[w] >= room; });
  }
  /// The most tokens of a slot of the lane's overloaded ranks.
  __device__ int most_weight() const {
    int most = -1;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, room_[w] < 0 ? heaviest_[w] : -1);
    return most;
  }
  __device__ int weight_word(int weight) const {
    return first_word([&](int w) { return room_[w] < 0 && heaviest_[w] == weight; });
  }

  /// The value of word `w` of this lane, if that is one.
  template <class T>
  __device__ static T value_at(const T (&values)[kWords], int w) {
    T value = values[0];
#pragma unroll
    for (int i = 1; i < kWords; ++i) value = w == i ? values[i] : value;
    return value;
  }

  /// Moves what fits of the giver's heaviest slot. `to` and `from`: the words of this lane that
  /// take and give, or kNobody; `takers`: the first lane of these takes. Returns how many copies
  /// this makes.
  __device__ int move(int to, int from, unsigned takers, int giver, int room) {
    const int has = __shfl_sync(~0u, value_at(heaviest_, from), giver);
    const int where = __shfl_sync(~0u, value_at(where_, from), giver);
    const int first = where >> 16;
    const int slot = where & 0xFFFF;
    const int tokens = min(room, has);
    bool is_copy = true;
    if constexpr (kReplicated) is_copy = put_replicated(to, first_lane(takers), slot, tokens);
    if constexpr (!kReplicated) {
      // name_experts() replaces the slot by its expert.
      const device::SharedAddress at = value_at(next_, to);
      const bool notes = keep_ && to >= 0;
      device::store_shared_if(notes, at, slot);
      device::store_shared_if(notes, at + to_tokens_, tokens);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      room_[w] += from == w ? tokens : to == w ? -tokens : 0;
      next_[w] += to == w && is_copy ? 4 : 0;
    }
    // Find what is the giver's heaviest slot now.
    int heaviest;
    int next;
    if (m_.sizes.main_slots <= device::kWarpSize) {
      const device::SharedAddress at = own_left_ + 4 * static_cast<unsigned>(first);
      const bool gives = first + lane_ == slot;
      device::store_shared_if(gives, at, has - tokens);
      int left = -1;
      if (lane_ < m_.sizes.main_slots) left = gives ? has - tokens : device::load_shared(at);
      heaviest = __reduce_max_sync(~0u, left);
      next = first_lane(__ballot_sync(~0u, left == heaviest));
    } else {
      int most = -1;
      int at = 0;
#pragma unroll 1
      for (int i = lane_; i < m_.sizes.main_slots; i += device::kWarpSize) {
        const int left = take_off(first + i, slot, has - tokens);
        at = left > most ? i : at;
        most = max(most, left);
      }
      heaviest = __reduce_max_sync(~0u, most);
      next = __reduce_min_sync(~0u, most == heaviest ? at : 0x7FFFFFFF);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      heaviest_[w] = from == w ? heaviest : heaviest_[w];
      where_[w] = from == w ? pack(first, first + next) : where_[w];
    }
    return is_copy ? 1 : 0;
  }

  /// What main slot `at` has left, if `given` has `rest` left now.
  __device__ int take_off(int at, int given, int rest) const {
    if (at != given) return left_[at];
    left_[at] = rest;
    return rest;
  }

  /// Replaces the slots that copies come from by their experts.
  __device__ void name_experts() const {
    __syncwarp();
#pragma unroll 1
    for (int i = lane_; i < m_.sizes.num_dynamic(); i += device::kWarpSize) {
      const int slot = m_.dynamic_expert[i];
      if (slot >= 0) m_.dynamic_expert[i] = m_.slot_expert[slot];
    }
  }

  /// What move() does if experts are replicated: the tokens go to the slot of the taker that has
  /// the expert, if there is one. Returns whether a copy is made.
  __device__ bool put_replicated(int to, int taker, int slot, int tokens) const {
    const int main = m_.sizes.main_slots;
    const int dynamic = m_.sizes.dynamic_slots;
    const int e = m_.slot_expert[slot];
    const int rank = __shfl_sync(~0u, rank_of(max(to, 0)), taker);
    const auto used_here = static_cast<int>(value_at(next_, to) - value_at(end_, to)) / 4 + dynamic;
    const int used = __shfl_sync(~0u, used_here, taker);
    int at = 0x7FFFFFFF;
#pragma unroll 1
    for (int i = lane_; i < main + used; i += device::kWarpSize) {
      const int here =
          i < main ? m_.slot_expert[rank * main + i] : held_[rank * dynamic + i - main];
      if (here == e) at = min(at, i);
    }
    at = __reduce_min_sync(~0u, at);  // the first one, main slots first
    const bool is_copy = at == 0x7FFFFFFF;
    const int target = is_copy ? main + used : at;
    if (lane_ == 0) {
      if (is_copy) held_[rank * dynamic + used] = static_cast<std::uint16_t>(e);
      if (keep_) {
        atomicAdd(&m_.plan_main[slot], -tokens);
        const int d = rank * dynamic + target - main;
        if (is_copy) m_.dynamic_expert[d] = e;
        atomicAdd(target < main ? &m_.plan_main[rank * main + target] : &m_.plan_dynamic[d],
                  tokens);
      }
    }
    __syncwarp();
    return is_copy;
  }

  const CopyMemory& m_;
  const int min_tokens_;
  const bool keep_;
  const int lane_;
  unsigned own_bit_, up_to_own_;     // of this lane; of the lanes up to this one
  device::SharedAddress own_left_;   // of what rank 0 has left in the lane's slot
  device::SharedAddress to_tokens_;  // from dynamic_expert to plan_dynamic
  int* left_;                        // [num_main]: tokens that a slot still has
  std::uint16_t* held_;              // [num_ranks, S]: the copies, with kReplicated

  // The lane's ranks.
  unsigned live_ = 0;
  int room_[kWords];  // below the level; negative: above it
  // The first free dynamic slot of the rank, and where its dynamic slots end.
  device::SharedAddress next_[kWords], end_[kWords];
  int heaviest_[kWords];  // the most tokens that a slot has left
  int where_[kWords];     // pack() of that slot
};

/// WarpFill::run() as a function of its own, for the attempts after the first one.
template <int kWords>
__device__ __noinline__ Attempt fill_in_warp(const CopyArgs& args, unsigned char* memory,
                                             int attempt, int level, int detour, bool keep,
                                             bool is_clear) {
  CopyMemory m(memory, args.sizes, args.layout);
  m.open();
  if (m.replicated) {
    return WarpFill<kWords, true>(m, args.min_tokens, attempt, keep).run(level, detour, is_clear);
  }
  return WarpFill<kWords, false>(m, args.min_tokens, attempt, keep).run(level, detour, is_clear);
}

}  // namespace lplb::replicas
