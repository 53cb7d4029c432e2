// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "replicate/device/args.h"
#include "replicate/device/memory.cuh"

namespace lplb::replicas {

/// Filler::fill() for one warp, step by step, if no expert is replicated and the batch is not too
/// large: lane i has ranks i * kWords to i * kWords + kWords - 1.
///
/// A key is a number of tokens and, below it, a rank, of which the lowest counts most. So one
/// reduction of keys finds who takes or gives, and every lane knows whether it is one of its ranks.
///
/// NOTE: a plan has about as many steps as ranks, and one warp makes them alone, so what counts is
/// the instructions of a step, and how many of them wait for each other. The lanes of the giver and
/// the taker each note their half of a copy, and nobody else is told. A lane looks through the
/// slots of its rank alone if they are few. The next step's taker is found while these are on their
/// way.
template <int kWords>
class PackedFill {
 public:
  /// Whether the tokens of a batch fit in keys.
  __device__ static bool fits(int total) { return total < kMostTokens; }

  /// `attempt`: which of the block's attempts this warp makes. With `keep`, it writes the plan too.
  __device__ PackedFill(const CopyMemory& memory, int min_tokens, int attempt, bool keep)
      : m_(memory), keep_(keep), lane_(threadIdx.x % device::kWarpSize) {
    // A main slot takes what it is left with.
    left_ = keep ? m_.plan_main : m_.left + attempt * ((m_.sizes.num_main() + 3) / 4 * 4);
    least_key_ = min(min_tokens, kMostTokens) << kBits;
    // NOTE: opaque, so that no step computes them again.
    first_left_ = device::hold_address(left_);
    note_ = device::hold_address(m_.source);
    to_tokens_ = device::hold_address(m_.plan_dynamic) - device::hold_address(m_.dynamic_expert);
#pragma unroll
    for (int i = kHalf; i < kFewSlots; ++i) {
      offset_[i - kHalf] =
          static_cast<unsigned>(device::opaque(4 * min(i, m_.sizes.main_slots - 1)));
    }
  }

  /// Fills for `level`. `is_clear`: the plan is without copies, so it need not be cleared. All
  /// lanes call it, after the ranks are measured and synchronised; they all get the result.
  __device__ Attempt run(int level, int detour, bool is_clear) {
    start(level, is_clear);
    int copies = 0;
    int taker = find_taker(detour == 0);
#pragma unroll 1
    while (taker >= least_key_) {
      // The most overloaded rank whose heaviest slot fills the room gives.
      int key[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) key[w] = heaviest_[w] >= taker ? over(w) : 0;
      int giver = __reduce_max_sync(~0u, max_of(key));
      int tokens = taker & ~kRanks;
      if (giver <= kRanks) {  // there is none: the overloaded rank with the heaviest slot
#pragma unroll
        for (int w = 0; w < kWords; ++w) key[w] = room_[w] < 0 ? heaviest_[w] - rank_of(w) : -1;
        giver = __reduce_max_sync(~0u, max_of(key));
        if (giver < least_key_) break;
        tokens = giver & ~kRanks;
      }
      int from = kNobody;
      int to = kNobody;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        from = key[w] == giver ? w : from;
        to = room_[w] == taker ? w : to;
      }
      note(from, to, copies, tokens >> kBits);
      move(from, to, tokens);
      const Slots slots = take_off(from, giver, tokens >> kBits);
      ++copies;
      taker = find_taker(copies == detour);
      find_heaviest(from, slots);
    }
    int least = 0x7FFFFFFF;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      least = min(least, heaviest_[w] < 0 ? room_[w] ^ kGone : room_[w]);
    }
    least = __reduce_min_sync(~0u, least) >> kBits;
    if (keep_) name_experts();
    return {level - least, copies, least >= 0 ? 1 : 0};
  }

 private:
  static constexpr int kBits = kWords == 1 ? 5 : kWords == 2 ? 6 : 7;
  static constexpr int kRanks = (1 << kBits) - 1;
  static constexpr int kMostTokens = (1 << (31 - kBits)) - 1;
  static constexpr int kHalf = kFewSlots / 2;
  static constexpr int kNobody = -1;  // no word of this lane
  /// This bit is set in the key of a rank that has no free slot, so that it does not take. It has
  /// room, so it does not give either: its heaviest slot is -1.
  static constexpr int kGone = -0x7FFFFFFF - 1;

  /// What is left in the main slots of the giver, which begin at `first`. If they are few, its lane
  /// has them all; otherwise each lane has in left[0] the most of its slots, which is in slot `at`.
  struct Slots {
    device::SharedAddress first;
    int left[kFewSlots];
    int at;
  };

  __device__ static bool are_few(int slots) { return slots >= kHalf && slots <= kFewSlots; }
  __device__ int rank_of(int w) const { return lane_ * kWords + w; }

  __device__ static int max_of(const int (&values)[kWords]) {
    int most = values[0];
#pragma unroll
    for (int w = 1; w < kWords; ++w) most = max(most, values[w]);
    return most;
  }

  /// The key of by how much a rank is overloaded.
  __device__ int over(int w) const {
    return static_cast<int>(twice_[w] - static_cast<unsigned>(room_[w]));
  }

  __device__ void start(int level, bool is_clear) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      const bool is_live = g < m_.sizes.num_ranks && m_.is_alive(g);
      const int own = is_live ? g : 0;
      room_[w] = (level - m_.rank_load[own]) * (kRanks + 1) + kRanks - g;
      if (!is_live) room_[w] = -1;  // gone, with most room
      twice_[w] = static_cast<unsigned>(device::opaque(2 * (kRanks - g)));
      next_[w] = device::hold_address(m_.dynamic_expert + own * m_.sizes.dynamic_slots);
      end_[w] = next_[w] + 4 * static_cast<unsigned>(m_.sizes.dynamic_slots);
      own_[w] = first_left_ + 4 * static_cast<unsigned>(own * m_.sizes.main_slots);
      heaviest_[w] = is_live ? m_.heaviest[own] << kBits | kRanks : -1;
      where_[w] = first_left_ + 4 * static_cast<unsigned>(m_.heaviest_slot[own]);
    }
    if (is_clear && keep_) return;
    if (keep_) m_.clear_plan(lane_, device::kWarpSize);
    if (!keep_) {
#pragma unroll 4
      for (int slot = lane_; slot < m_.sizes.num_main(); slot += device::kWarpSize) {
        left_[slot] = m_.slot_tokens[slot];
      }
    }
    __syncwarp();
  }

  /// The key of the rank with most room that has a free slot; with `detours` of the second one.
  __device__ int find_taker(bool detours) const {
    const int taker = __reduce_max_sync(~0u, max_of(room_));
    if (!detours) return taker;
    int others[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) others[w] = room_[w] == taker ? kGone : room_[w];
    return __reduce_max_sync(~0u, max_of(others));
  }

  /// The lanes of giver and taker note a copy, each what it knows. name_experts() puts it together.
  __device__ void note(int from, int to, int copies, int tokens) const {
    if (!keep_) return;
    const device::SharedAddress at = value_at(next_, to);
    device::store_shared_if(to != kNobody, at, copies);
    device::store_shared_if(to != kNobody, at + to_tokens_, tokens);
    device::store_shared_if(from != kNobody, note_ + 4 * static_cast<unsigned>(copies),
                            static_cast<int>(value_at(where_, from)));
  }
  __device__ void name_experts() const {
    __syncwarp();
#pragma unroll 1
    for (int i = lane_; i < m_.sizes.num_dynamic(); i += device::kWarpSize) {
      const int copy = m_.dynamic_expert[i];
      if (copy < 0) continue;
      const int offset = m_.source[copy] - static_cast<int>(first_left_);
      m_.dynamic_expert[i] = m_.slot_expert[offset / 4];
    }
  }

  /// Moves `tokens`, as in a key, in the keys of the ranks, and takes a slot of the taker.
  __device__ void move(int from, int to, int tokens) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      next_[w] += to == w ? 4 : 0;
      const bool is_gone = to == w && next_[w] == end_[w];
      room_[w] += from == w ? tokens : to == w ? -tokens : 0;
      room_[w] ^= is_gone ? kGone : 0;
      heaviest_[w] = is_gone ? -1 : heaviest_[w];
    }
  }

  /// Takes `tokens` off the giver's heaviest slot, and reads what its slots have left. NOTE: a main
  /// slot is read and written by one lane only.
  __device__ Slots take_off(int from, int giver, int tokens) const {
    Slots slots;
    const int main = m_.sizes.main_slots;
    device::SharedAddress heaviest = value_at(where_, from);
    if (are_few(main)) {
      const bool gives = from != kNobody;
      slots.first = value_at(own_, from);
      device::store_shared_if(gives, heaviest, (value_at(heaviest_, from) >> kBits) - tokens);
#pragma unroll
      for (int i = 0; i < kFewSlots; ++i) {
        if (i == kHalf && main == kHalf) break;
        slots.left[i] = device::load_shared_if(
            gives, slots.first + (i < kHalf ? 4 * static_cast<unsigned>(i) : offset_[i % kHalf]));
      }
      return slots;
    }
    const int rank = kRanks - (giver & kRanks);
    slots.first = first_left_ + 4 * static_cast<unsigned>(rank * main);
    slots.at = lane_;
    heaviest = __shfl_sync(~0u, heaviest, rank / kWords);
    const auto read = [&](int i) {
      const device::SharedAddress at = slots.first + 4 * static_cast<unsigned>(i);
      const int has = device::load_shared_if(i < main, at);
      const int left = i < main ? has - (at == heaviest ? tokens : 0) : -1;
      device::store_shared_if(at == heaviest, at, left);
      return left;
    };
    slots.left[0] = read(lane_);
#pragma unroll 1
    for (int i = lane_ + device::kWarpSize; i < main; i += device::kWarpSize) {
      const int left = read(i);
      slots.at = left > slots.left[0] ? i : slots.at;
      slots.left[0] = max(slots.left[0], left);
    }
    return slots;
  }

  /// Finds the most of half of the few slots, and the first that has it.
  template <int kFirst>
  __device__ static void find_most(const Slots& slots, int& most, int& at) {
    most = slots.left[kFirst];
#pragma unroll
    for (int i = 1; i < kHalf; ++i) most = max(most, slots.left[kFirst + i]);
    at = kFirst + kHalf - 1;
#pragma unroll
    for (int i = kHalf - 2; i >= 0; --i) at = slots.left[kFirst + i] == most ? kFirst + i : at;
  }

  /// Finds which of the giver's slots is the heaviest now.
  __device__ void find_heaviest(int from, const Slots& slots) {
    int heaviest;
    int at;
    if (are_few(m_.sizes.main_slots)) {
      find_most<0>(slots, heaviest, at);
      if (m_.sizes.main_slots > kHalf) {
        int most;
        int its;
        find_most<kHalf>(slots, most, its);
        at = most > heaviest ? its : at;
        heaviest = max(heaviest, most);
      }
    } else if (m_.sizes.main_slots <= device::kWarpSize) {
      const int best = __reduce_max_sync(
          ~0u, slots.left[0] * device::kWarpSize + (device::kWarpSize - 1 - lane_));
      heaviest = best / device::kWarpSize;
      at = device::kWarpSize - 1 - best % device::kWarpSize;
    } else {
      heaviest = __reduce_max_sync(~0u, slots.left[0]);
      at = __reduce_min_sync(~0u, slots.left[0] == heaviest ? slots.at : 0x7FFFFFFF);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      heaviest_[w] = from == w ? heaviest << kBits | kRanks : heaviest_[w];
      where_[w] = from == w ? slots.first + 4 * static_cast<unsigned>(at) : where_[w];
    }
  }

  const CopyMemory& m_;
  const bool keep_;
  const int lane_;
  int least_key_;
  int* left_;                         // [num_main]: tokens that a slot still has
  device::SharedAddress first_left_;  // left_
  device::SharedAddress note_;        // which slot each copy comes from
  device::SharedAddress to_tokens_;   // from dynamic_expert to plan_dynamic
  // From the first of a few slots to those of the second half; the last slot is repeated.
  device::SharedAddress offset_[kHalf];

  // The lane's ranks.
  int room_[kWords];        // key of the room below the level; negative: above it
  unsigned twice_[kWords];  // the key of no tokens, doubled
  // The first free dynamic slot of a rank, and where its dynamic slots end.
  device::SharedAddress next_[kWords], end_[kWords];
  device::SharedAddress own_[kWords];    // what its main slots have left
  int heaviest_[kWords];                 // key of the most tokens that a slot has left, of rank 0
  device::SharedAddress where_[kWords];  // that slot
};

}  // namespace lplb::replicas
