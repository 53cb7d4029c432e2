// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block.cuh"

namespace lplb::solvers {

/// The places of a thread's rank, and what a wave moves from them. For MaskFlow, with sets of ranks
/// in kWords words. The first few places are "held" in registers.
template <int kWords>
class RankPlaces {
 public:
  static constexpr int kHeldPlaces = 4;

  __device__ RankPlaces(const BlockTables& tables, const BlockState& state)
      : t_(tables), s_(state) {}

  /// Reads from the tables what every wave needs for this rank.
  __device__ __forceinline__ void hold(int rank, bool lives) {
    const int begin = lives ? t_.incident_begin[rank] : 0;
    const int count = lives ? t_.incident_begin[rank + 1] - begin : 0;
    const device::SharedAddress takes = device::hold_address(s_.take);
    loads_ = device::hold_address(s_.rank_load);
    own_load_ = loads_ + 4 * static_cast<unsigned>(lives ? rank : t_.num_ranks);
    to_room_ = device::hold_address(s_.room) - loads_;
    rest_begin_ = begin + kHeldPlaces;
    rest_end_ = begin + count;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      // NOTE: a place that does not exist is replaced by one that does, of an expert without ranks,
      // so that no search meets it.
      const int at = count > 0 ? begin + min(i, count - 1) : 0;
      const int k = t_.incident_owner[at];
      place_[i] = takes + 4 * t_.incident[at];
      first_[i] = takes + 4 * t_.place_begin[k];
      before_[i] = 0;
      int sum = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        ranks_[i][w] = i < count ? t_.expert_ranks[k * kWords + w] : 0;
        before_[i] |= static_cast<unsigned>(sum) << 8 * w;
        sum += __popc(ranks_[i][w]);
      }
    }
  }

  /// Reads the tokens of the held places. NOTE: it is called before a wave; in a wave, nothing is
  /// added to a place that gives.
  __device__ __forceinline__ void read_takes() {
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) has_[i] = device::load_shared(place_[i]);
  }

  /// The ranks that this rank can give to.
  __device__ __forceinline__ void find_reach(unsigned (&reach)[kWords]) const {
#pragma unroll
    for (int w = 0; w < kWords; ++w) reach[w] = 0;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) reach[w] |= has_[i] > 0 ? ranks_[i][w] : 0;
    }
#pragma unroll 1
    for (int i = rest_begin_; i < rest_end_; ++i) {
      if (s_.take[t_.incident[i]] == 0) continue;
      const int k = t_.incident_owner[i];
#pragma unroll
      for (int w = 0; w < kWords; ++w) reach[w] |= t_.expert_ranks[k * kWords + w];
    }
  }

  __device__ __forceinline__ int load() const { return device::load_shared(own_load_); }
  __device__ __forceinline__ void put_load(int load) { device::store_shared(own_load_, load); }
  /// Notes the load before the wave, for fill_rooms() of other ranks.
  __device__ __forceinline__ void note_load() {
    device::store_shared(own_load_ + to_room_, load());
  }

  /// Finds the target of each held place: the first place of its expert on a rank that is `nearer`
  /// to room. If there is none, `has_` becomes 0.
  __device__ __forceinline__ void find_targets(const unsigned (&nearer)[kWords]) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) nearer_[w] = nearer[w];
    several_ = 0;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      unsigned found[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) found[w] = ranks_[i][w] & nearer_[w];
      bool has_others;
      const bool is_met = choose_first(i, found, target_[i], taker_[i], has_others);
      const device::SharedAddress nobody = loads_ + 4 * static_cast<unsigned>(t_.num_ranks);
      target_[i] = is_met ? target_[i] : nobody;
      taker_[i] = is_met ? taker_[i] : nobody;
      has_[i] = is_met ? has_[i] : 0;
      several_ |= has_others ? 1u << i : 0;
    }
  }

  /// Gives up to `left` tokens to all nearer places, within the room that their ranks have. Only
  /// for nearer ranks that have room. Returns what is left.
  __device__ __forceinline__ int fill_rooms(int left, int bound) {
    int room[kHeldPlaces];
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) room[i] = room_at(taker_[i], bound);
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      left = give(i, target_[i], taker_[i], min(min(left, has_[i]), room[i]), left);
      if ((several_ >> i & 1) != 0 && left > 0 && has_[i] > 0) left = fill_others(i, left, bound);
    }
    return give_rest(left, true, bound);
  }

  /// Gives up to `left` tokens to the target of each place. Returns what is left.
  __device__ __forceinline__ int give_all(int left) {
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      left = give(i, target_[i], taker_[i], min(left, has_[i]), left);
    }
    return give_rest(left, false, 0);
  }

 private:
  /// Finds the first of `found`, which are ranks of the expert of held place i: the address of the
  /// expert's place there and of the rank's load, and whether there are others. If `found` is
  /// empty, returns false, and the addresses mean nothing.
  __device__ __forceinline__ bool choose_first(int i, const unsigned (&found)[kWords],
                                               device::SharedAddress& place,
                                               device::SharedAddress& load,
                                               bool& has_others) const {
    // The first word with a rank in it, and what the words after it have.
    int word = kWords - 1;
    unsigned bits = found[kWords - 1];
    unsigned of = ranks_[i][kWords - 1];
    unsigned others = 0;
    unsigned behind = bits;
#pragma unroll
    for (int w = kWords - 2; w >= 0; --w) {
      const bool has_any = found[w] != 0;
      word = has_any ? w : word;
      bits = has_any ? found[w] : bits;
      of = has_any ? ranks_[i][w] : of;
      others = has_any ? behind : others;
      behind |= found[w];
    }
    // The expert's places are in the order of its ranks, so count the ranks before the one found.
    const unsigned below = (bits - 1) & ~bits;
    const unsigned before = __byte_perm(before_[i], 0, 0x4440 + static_cast<unsigned>(word));
    place = first_[i] + 4 * (before + static_cast<unsigned>(__popc(of & below)));
    load = loads_ + 4 * static_cast<unsigned>(kWarpSize * word + __popc(below));
    has_others = (others | (bits & (bits - 1))) != 0;
    return bits != 0;
  }

  /// Moves tokens from held place i to another. Returns what is left.
  __device__ __forceinline__ int give(int i, device::SharedAddress to, device::SharedAddress taker,
                                      int tokens, int left) {
    has_[i] -= tokens;
    device::store_shared_if(tokens > 0, place_[i], has_[i]);
    // NOTE: also if `tokens` is 0, because a condition here would be a branch.
    device::add_shared(to, tokens);
    device::add_shared(taker, tokens);
    return left - tokens;
  }

  /// The room of a rank that takes. NOTE: this is the room before the wave, the same for all
  /// givers.
  __device__ __forceinline__ int room_at(device::SharedAddress taker, int bound) const {
    return max(bound - device::load_shared(taker + to_room_), 0);
  }

  /// Gives within room to the places after the target of held place i. Returns what is left.
  __device__ __forceinline__ int fill_others(int i, int left, int bound) {
    unsigned found[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) found[w] = ranks_[i][w] & nearer_[w];
    bool has_others = true;
#pragma unroll 1
    while (has_others && left > 0 && has_[i] > 0) {
      drop_first(found);
      device::SharedAddress to;
      device::SharedAddress taker;
      choose_first(i, found, to, taker, has_others);
      left = give(i, to, taker, min(min(left, has_[i]), room_at(taker, bound)), left);
    }
    return left;
  }

  static __device__ __forceinline__ void drop_first(unsigned (&found)[kWords]) {
    unsigned before = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const unsigned all = found[w];
      found[w] = before == 0 ? all & (all - 1) : all;
      before |= all;
    }
  }

  /// Gives from the places that are not held. Returns what is left.
  __device__ __forceinline__ int give_rest(int left, bool within_room, int bound) {
#pragma unroll 1
    for (int i = rest_begin_; i < rest_end_ && left > 0; ++i) {
      const int place = t_.incident[i];
      const int has = s_.take[place];
      if (has == 0) continue;
      const int k = t_.incident_owner[i];
      const int tokens =
          give_along(t_.place_begin[k], t_.place_begin[k + 1], min(left, has), within_room, bound);
      s_.take[place] = has - tokens;
      left -= tokens;
    }
    return left;
  }

  /// Gives up to `most` tokens to those of the places [to, end) that are nearer to room: within
  /// room to each of them, otherwise all to the first. Returns how many.
  __device__ __forceinline__ int give_along(int to, int end, int most, bool within_room,
                                            int bound) {
    int left = most;
#pragma unroll 1
    for (; to < end && left > 0; ++to) {
      const int taker = t_.place_rank[to];
      // NOTE: not nearer_[taker / 32], because an index that is not a constant would put all of
      // this object into local memory.
      const unsigned bit = 1u << (taker % 32);
      unsigned met = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) met |= nearer_[w] & (taker / 32 == w ? bit : 0);
      if (met == 0) continue;
      const int tokens = within_room ? min(left, bound - s_.room[taker]) : left;
      atomicAdd(&s_.take[to], tokens);
      atomicAdd(&s_.rank_load[taker], tokens);
      left -= tokens;
    }
    return most - left;
  }

  const BlockTables& t_;
  const BlockState& s_;

  // The rank's places: the first few, and where the others are in `incident`. NOTE: these are
  // addresses, each in a register, so that no move of tokens waits for one to be computed.
  device::SharedAddress loads_ = 0;     // of rank_load
  device::SharedAddress own_load_ = 0;  // of this rank's load
  device::SharedAddress to_room_ = 0;   // from a rank's load to its room
  device::SharedAddress place_[kHeldPlaces];
  device::SharedAddress first_[kHeldPlaces];  // the first place of the expert
  unsigned ranks_[kHeldPlaces][kWords];       // the ranks of the expert
  unsigned before_[kHeldPlaces];  // a byte for each word: how many ranks the words before it have
  int rest_begin_ = 0;
  int rest_end_ = 0;

  // What the rank gives in a wave.
  int has_[kHeldPlaces];                       // tokens that the place may give
  device::SharedAddress target_[kHeldPlaces];  // the place that takes them
  device::SharedAddress taker_[kHeldPlaces];   // the load of its rank
  unsigned several_ = 0;                       // bit i: more than one place could take them
  unsigned nearer_[kWords];                    // the ranks that are nearer to room
};

}  // namespace lplb::solvers
