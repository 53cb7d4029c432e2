// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/packed_fill.cuh"
#include "replicate/device/ranks.cuh"

namespace lplb::replicas {

/// Filler::fill() for one warp, step by step, for any placement: experts may be in several slots,
/// so a rank may have the expert that it takes. Lane i has ranks i * kWords to i * kWords + kWords
/// - 1.
template <int kWords, class Ranks = EqualRanks>
class WarpFill {
 public:
  using Level = typename Ranks::Level;

  /// `attempt`: which of the block's attempts this warp makes. With `keep`, it writes the plan too.
  __device__ WarpFill(const CopyMemory& memory, const Ranks& ranks, int min_tokens, int attempt,
                      bool keep)
      : m_(memory),
        ranks_(ranks),
        min_tokens_(min_tokens),
        keep_(keep),
        lane_(threadIdx.x % device::kWarpSize) {
    left_ = m_.left + attempt * ((m_.sizes.num_main() + 3) / 4 * 4);
    held_ = m_.held + attempt * ((m_.sizes.num_dynamic() + 7) / 8 * 8);
    // NOTE: opaque, so that no step computes them again.
    own_bit_ = static_cast<unsigned>(device::opaque(1 << lane_));
    up_to_own_ = static_cast<unsigned>(device::opaque(static_cast<int>((2u << lane_) - 1)));
  }

  /// Fills for `level`. `is_clear`: the plan is without copies, so it need not be cleared. All
  /// lanes call it, after the ranks are measured and synchronised; they all get the result.
  __device__ BasicAttempt<Level> run(Level level, int detour, bool is_clear) {
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
      const int giver = first_lane(givers);
      const int first =
          __shfl_sync(~0u, (lane_ * kWords + max(from, 0)) * m_.sizes.main_slots, giver);
      const int slot = __shfl_sync(~0u, value_at(where_, from), giver);
      copies += move(from, taker, slot, tokens) ? 1 : 0;
      find_heaviest(from, first, slot, tokens);
      taker = find_taker(step + 1 == detour);
    }
    int least = 0x7FFFFFFF;
#pragma unroll
    for (int w = 0; w < kWords; ++w) least = min(least, room_of(w));
    least = __reduce_min_sync(~0u, least);
    if constexpr (Ranks::kAreEqual) {
      return {level - least, copies, least >= 0 ? 1 : 0};
    } else {
      return {highest(level), copies, least >= 0 ? 1 : 0};
    }
  }

 private:
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
  __device__ int rank_of(int w) const { return lane_ * kWords + w; }
  __device__ static int first_lane(unsigned votes) { return __ffs(static_cast<int>(votes)) - 1; }
  /// Whether this lane is the first that votes.
  __device__ bool is_first(unsigned votes) const { return (votes & up_to_own_) == own_bit_; }

  /// The room of a rank, whether it is gone or not; of a dead rank it is large.
  __device__ int room_of(int w) const { return heaviest_[w] < 0 ? room_[w] ^ kGone : room_[w]; }

  /// The largest load, if ranks are not equal.
  __device__ Level highest(Level level) const {
    Level most{-1, 0};
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      if (g >= m_.sizes.num_ranks || !m_.is_alive(g)) continue;
      most = ranks_.group.higher(most, {ranks_.capacity(g, level) - room_of(w), ranks_.first + g});
    }
    return ranks_.group.highest_of(most);
  }

  __device__ void start(Level level, bool is_clear) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = rank_of(w);
      const bool is_live = g < m_.sizes.num_ranks && m_.is_alive(g);
      room_[w] =
          is_live ? ranks_.capacity(g, level) - m_.rank_load[g] : -1;  // -1: gone, with most room
      free_[w] = m_.sizes.dynamic_slots;
      heaviest_[w] = is_live ? m_.heaviest[g] : -1;
      where_[w] = is_live ? m_.heaviest_slot[g] : 0;
    }
    if (!is_clear && keep_) m_.clear_plan(lane_, device::kWarpSize);
#pragma unroll 4
    for (int slot = lane_; slot < m_.sizes.num_main(); slot += device::kWarpSize) {
      left_[slot] = m_.slot_tokens[slot];
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

  /// Moves `tokens` of main slot `slot`. `from`: the word of this lane that gives, or kNobody.
  /// Returns whether this makes a copy.
  __device__ bool move(int from, const Taker& taker, int slot, int tokens) {
    const int to = taker.word;
    const bool is_copy = put(to, first_lane(taker.votes), slot, tokens);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      if (to == w && is_copy) --free_[w];
      room_[w] += from == w ? tokens : to == w ? -tokens : 0;
      if (to != w || free_[w] > 0) continue;
      room_[w] ^= kGone;
      heaviest_[w] = -1;
    }
    return is_copy;
  }

  /// Takes `tokens` off main slot `slot`, and finds which of the giver's slots, from `first` on, is
  /// the heaviest now. NOTE: a main slot is read and written by one lane only.
  __device__ void find_heaviest(int from, int first, int slot, int tokens) {
    int most = -1;
    int at = 0;
#pragma unroll 1
    for (int i = first + lane_; i < first + m_.sizes.main_slots; i += device::kWarpSize) {
      const int left = left_[i] - (i == slot ? tokens : 0);
      if (i == slot) left_[i] = left;
      at = left > most ? i : at;
      most = max(most, left);
    }
    const int heaviest = __reduce_max_sync(~0u, most);
    at = __reduce_min_sync(~0u, most == heaviest ? at : 0x7FFFFFFF);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      heaviest_[w] = from == w ? heaviest : heaviest_[w];
      where_[w] = from == w ? at : where_[w];
    }
  }

  /// Puts tokens in the slot of the taker that has their expert, if there is one, or else in a
  /// dynamic slot, and returns whether it does the latter: a copy is made.
  __device__ bool put(int to, int taker, int slot, int tokens) const {
    const int main = m_.sizes.main_slots;
    const int dynamic = m_.sizes.dynamic_slots;
    const int e = m_.slot_expert[slot];
    const int rank = __shfl_sync(~0u, rank_of(max(to, 0)), taker);
    const int used = dynamic - __shfl_sync(~0u, value_at(free_, to), taker);
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
  const Ranks& ranks_;
  const int min_tokens_;
  const bool keep_;
  const int lane_;
  unsigned own_bit_, up_to_own_;  // of this lane; of the lanes up to this one
  int* left_;                     // [num_main]: tokens that a slot still has
  std::uint16_t* held_;           // [num_ranks, S]: the copies

  // The lane's ranks.
  int room_[kWords];      // below the level; negative: above it
  int free_[kWords];      // dynamic slots
  int heaviest_[kWords];  // the most tokens that a slot has left
  int where_[kWords];     // that slot
};

/// Fills by the quicker of the two classes that can.
template <int kWords>
__device__ __noinline__ Attempt fill_in_warp(const CopyArgs& args, unsigned char* memory,
                                             int attempt, int level, int detour, bool keep,
                                             bool is_clear) {
  const CopyMemory m = EqualRanks::memory(args, memory);
  if (!m.replicated && PackedFill<kWords>::fits(m.scalars->total)) {
    return PackedFill<kWords>(m, args.min_tokens, attempt, keep).run(level, detour, is_clear);
  }
  return WarpFill<kWords>(m, EqualRanks(), args.min_tokens, attempt, keep)
      .run(level, detour, is_clear);
}

/// The same for a domain with `total` tokens, in the general form.
__device__ inline __noinline__ BasicAttempt<solvers::DeviceLevel> fill_domain(
    const CopyArgs& args, unsigned char* memory, int domain, int total, int attempt,
    solvers::DeviceLevel level, int detour, bool keep) {
  const DomainRanks ranks(args, memory, domain, total);
  const CopyMemory m = ranks.memory(args, memory);
  return WarpFill<kGeneralWords, DomainRanks>(m, ranks, args.min_tokens, attempt, keep)
      .run(level, detour, false);
}

}  // namespace lplb::replicas
