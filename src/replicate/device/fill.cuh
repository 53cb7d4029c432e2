// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "replicate/device/args.h"
#include "replicate/device/memory.cuh"

namespace lplb::replicas {

/// Filler::fill() for one warp, step by step: lane i has ranks i * kWords to i * kWords + kWords
/// - 1. kReplicated: experts may be in several slots, so a rank may have the expert that it takes.
///
/// NOTE: a plan has about as many steps as ranks, and the time of a step is that of its chain of
/// instructions that wait for each other. So the lanes of the giver and the taker do what concerns
/// their ranks by themselves, each notes its half of a copy, and nobody else is told. A lane looks
/// through the slots of its rank alone if they are few. The next step's taker is looked for while
/// these are on their way.
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
    first_left_ = device::hold_address(left_);
    note_ = device::hold_address(m_.source);
#pragma unroll
    for (int i = 0; i < kFewSlots; ++i) {
      offset_[i] = static_cast<unsigned>(device::opaque(4 * min(i, m_.sizes.main_slots - 1)));
    }
    to_tokens_ = device::hold_address(m_.plan_dynamic) - device::hold_address(m_.dynamic_expert);
  }

  /// Fills for `level`. `is_clear`: the plan is without copies, so it need not be cleared. All
  /// lanes call it, after the ranks are measured and synchronised; they all get the result.
  __device__ Attempt run(int level, int detour, bool is_clear) {
    start(level, is_clear);
    int copies = 0;
    const int most_steps = m_.sizes.num_ranks + m_.sizes.num_main();
    Taker taker = find_taker(detour == 0);
#pragma unroll 1
    for (int step = 0; taker.room >= min_tokens_ && step < most_steps; ++step) {
      // The most overloaded rank whose heaviest slot fills the room gives.
      int tokens = taker.room;
      int key = most_over(tokens);
      int top = __reduce_max_sync(~0u, key);
      int from = over_word(top, tokens);
      if (top == 0) {  // there is none: the overloaded rank with the heaviest slot
        key = most_weight();
        top = __reduce_max_sync(~0u, key);
        if (top < min_tokens_) break;
        from = weight_word(top);
        tokens = top;
      }
      const unsigned givers = __ballot_sync(~0u, key == top);
      if (!is_first(givers)) from = kNobody;
      const bool is_copy = move(from, taker, givers, tokens, copies);
      copies += is_copy ? 1 : 0;
      const Slots slots = take_off(from, givers, tokens);
      taker = find_taker(step + 1 == detour);
      find_heaviest(from, slots);
    }
    int least = 0x7FFFFFFF;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      least = min(least, heaviest_[w] < 0 ? room_[w] ^ kGone : room_[w]);
    }
    least = __reduce_min_sync(~0u, least);
    if (keep_ && !kReplicated) name_experts();
    return {level - least, copies, least >= 0 ? 1 : 0};
  }

 private:
  static constexpr int kHalf = kFewSlots / 2;
  static constexpr int kNobody = -1;  // no word of this lane
  /// This bit is set in the room of a rank that has no free slot, so that it does not take. It has
  /// room, so it does not give either: its heaviest slot is -1.
  static constexpr int kGone = -0x7FFFFFFF - 1;

  /// Who takes in a step.
  struct Taker {
    int room;        ///< on all lanes; less than 1: nobody
    int word;        ///< of this lane, or kNobody
    unsigned votes;  ///< the first lane of these takes
  };
  /// What is left in the main slots of the giver, which begin at `first`. If they are few, its lane
  /// has them all; otherwise each lane has in left[0] the most of its slots, which is in slot `at`.
  struct Slots {
    device::SharedAddress first;
    int left[kFewSlots];
    int at;
  };

  __device__ int rank_of(int w) const { return lane_ * kWords + w; }
  __device__ static int first_lane(unsigned votes) { return __ffs(static_cast<int>(votes)) - 1; }
  /// Whether this lane is the first that votes.
  __device__ bool is_first(unsigned votes) const { return (votes & up_to_own_) == own_bit_; }

  __device__ void start(int level, bool is_clear) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      const bool is_live = g < m_.sizes.num_ranks && m_.is_alive(g);
      room_[w] = is_live ? level - m_.rank_load[g] : -1;  // -1: gone, with most room
      const int own = is_live ? g : 0;
      next_[w] = device::hold_address(m_.dynamic_expert + own * m_.sizes.dynamic_slots);
      end_[w] = next_[w] + 4 * static_cast<unsigned>(m_.sizes.dynamic_slots);
      own_[w] = first_left_ + 4 * static_cast<unsigned>(own * m_.sizes.main_slots);
      heaviest_[w] = is_live ? m_.heaviest[g] : -1;
      where_[w] = first_left_ + 4 * static_cast<unsigned>(is_live ? m_.heaviest_slot[g] : 0);
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

  /// Finds the rank with most room that has a free slot; with `detours` the second one.
  __device__ Taker find_taker(bool detours) const {
    int except = kNobody;
    Taker taker = find_taker_but(except);
    if (detours) {
      except = taker.word;
      taker = find_taker_but(except);
    }
    return taker;
  }
  __device__ Taker find_taker_but(int except) const {
    int most = kGone;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, w != except ? room_[w] : kGone);
    const int room = __reduce_max_sync(~0u, most);
    const unsigned votes = __ballot_sync(~0u, most == room);
    const int word = first_word([&](int w) { return w != except && room_[w] == room; });
    return {room, is_first(votes) ? word : kNobody, votes};
  }
  template <class IsIt>
  __device__ static int first_word(IsIt is_it) {
    int word = kWords - 1;
#pragma unroll
    for (int w = kWords - 2; w >= 0; --w) word = is_it(w) ? w : word;
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
    return first_word([&](int w) { return heaviest_[w] >= room && -room_[w] == over; });
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

  /// Moves `tokens` of the giver's heaviest slot. `from`: the word of this lane that gives, or
  /// kNobody; the first lane of `givers` gives. `copies`: how many there are. Returns whether this
  /// makes a copy.
  __device__ bool move(int from, const Taker& taker, unsigned givers, int tokens, int copies) {
    const device::SharedAddress slot = value_at(where_, from);
    const int to = taker.word;
    bool is_copy = true;
    if constexpr (kReplicated) {
      const auto given = static_cast<int>(slot - first_left_) / 4;
      is_copy = put_replicated(to, first_lane(taker.votes),
                               __shfl_sync(~0u, given, first_lane(givers)), tokens);
    } else {
      // name_experts() replaces the number of the copy by its expert.
      const device::SharedAddress at = value_at(next_, to);
      const bool notes = keep_ && to != kNobody;
      device::store_shared_if(notes, at, copies);
      device::store_shared_if(notes, at + to_tokens_, tokens);
      device::store_shared_if(keep_ && from != kNobody, note_ + 4 * static_cast<unsigned>(copies),
                              static_cast<int>(slot - first_left_));
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const bool uses_slot = to == w && is_copy;
      next_[w] += uses_slot ? 4 : 0;
      const bool is_gone = uses_slot && next_[w] == end_[w];
      room_[w] += from == w ? tokens : to == w ? -tokens : 0;
      room_[w] ^= is_gone ? kGone : 0;
      heaviest_[w] = is_gone ? -1 : heaviest_[w];
    }
    return is_copy;
  }

  /// Takes `tokens` off the giver's heaviest slot, and reads what its slots have left. NOTE: a main
  /// slot is read and written by one lane only.
  __device__ Slots take_off(int from, unsigned givers, int tokens) const {
    Slots slots;
    slots.first = value_at(own_, from);
    slots.at = lane_;
    device::SharedAddress heaviest = value_at(where_, from);
    const int main = m_.sizes.main_slots;
    if (main <= kFewSlots) {
      const bool gives = from != kNobody;
      device::store_shared_if(gives, heaviest, value_at(heaviest_, from) - tokens);
#pragma unroll
      for (int i = 0; i < kFewSlots; ++i) {
        if (i == kHalf && main <= kHalf) break;
        slots.left[i] = device::load_shared_if(gives, slots.first + offset_[i]);
      }
      return slots;
    }
    slots.first = __shfl_sync(~0u, slots.first, first_lane(givers));
    heaviest = __shfl_sync(~0u, heaviest, first_lane(givers));
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
    if (m_.sizes.main_slots <= kFewSlots) {
      find_most<0>(slots, heaviest, at);
      if (m_.sizes.main_slots > kHalf) {
        int most;
        int its;
        find_most<kHalf>(slots, most, its);
        at = most > heaviest ? its : at;
        heaviest = max(heaviest, most);
      }
    } else {
      heaviest = __reduce_max_sync(~0u, slots.left[0]);
      at = __reduce_min_sync(~0u, slots.left[0] == heaviest ? slots.at : 0x7FFFFFFF);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      heaviest_[w] = from == w ? heaviest : heaviest_[w];
      where_[w] = from == w ? slots.first + 4 * static_cast<unsigned>(at) : where_[w];
    }
  }

  /// Replaces the numbers of copies by their experts.
  __device__ void name_experts() const {
    __syncwarp();
#pragma unroll 1
    for (int i = lane_; i < m_.sizes.num_dynamic(); i += device::kWarpSize) {
      const int copy = m_.dynamic_expert[i];
      if (copy >= 0) m_.dynamic_expert[i] = m_.slot_expert[m_.source[copy] / 4];
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
  unsigned own_bit_, up_to_own_;      // of this lane; of the lanes up to this one
  device::SharedAddress first_left_;  // of left_
  device::SharedAddress note_;        // of which slot each copy comes from
  device::SharedAddress to_tokens_;   // from dynamic_expert to plan_dynamic
  int* left_;                         // [num_main]: tokens that a slot still has
  std::uint16_t* held_;               // [num_ranks, S]: the copies, with kReplicated
  // From the first of a few slots of a rank to each of them; the last one is repeated.
  device::SharedAddress offset_[kFewSlots];

  // The lane's ranks.
  int room_[kWords];  // below the level; negative: above it
  // The first free dynamic slot of the rank, and where its dynamic slots end.
  device::SharedAddress next_[kWords], end_[kWords];
  device::SharedAddress own_[kWords];    // of what its main slots have left
  int heaviest_[kWords];                 // the most tokens that a slot has left
  device::SharedAddress where_[kWords];  // of that slot
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
