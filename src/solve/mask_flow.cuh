// SPDX-License-Identifier: MIT
#pragma once

#include "solve/sweep.cuh"

// flow_cpu.cc for a team of a warp (up to 32 ranks) or of kMaskThreads (up to 128 ranks), step by
// step with the same result. Thread g owns rank g, and a wave moves what is on it. Sets of ranks
// are bit masks, the same on all threads: each warp searches alone, all warps alike, with ranks l,
// 32 + l, ... in lane l, so that a level of the search is a few bit operations and a ballot for
// each word, and no warp waits for another.
namespace lplb::solvers {

inline constexpr int kFlowSweeps = 2;

/// Of sets of kWords words: the placement's.
template <class Team, int kWords, int kMostExperts>
class MaskFlow {
 public:
  static constexpr int kHeldPlaces = 4;  // of the rank, in registers

  static __host__ __device__ bool takes(const DeviceTablesHeader& h) {
    return h.mask_words == kWords && h.num_replicated <= kMostExperts;
  }

  __device__ MaskFlow(const BlockTables& tables, const BlockState& state, const Team& team)
      : t_(tables),
        s_(state),
        team_(team),
        rank_(team.thread()),
        lives_(team.thread() < tables.num_ranks &&
               tables.part_of[min(team.thread(), tables.num_ranks - 1)] != kNoPlace) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      own_[w] = rank_ / kLanes == w ? 1u << lane() : 0;
      const bool lives = rank_of(w) < t_.num_ranks && t_.part_of[known_rank(w)] != kNoPlace;
      live_[w] = __ballot_sync(~0u, lives);
    }
  }

  /// All threads of the team call it, with `want` and `fixed` filled and synchronised. At most
  /// `max_steps` >= 0 waves and raised bounds.
  __device__ __forceinline__ BlockOutcome run(int max_steps) {
    share_evenly(t_, s_, team_);
    raise_to_first_bound();
    if (any_overloaded()) sweep();
    int steps = 0;
    bool is_optimal = true;
    bool has_moved = true;
    read_loads();
#pragma unroll 1
    while (start_search()) {
      if (steps == max_steps) {
        is_optimal = false;
        break;
      }
      if (steps == 0) {
        hold_places();
        read_takes();
      }
      if (has_moved) share_reach();
      read_reach();
      const int last_level = search();
      has_moved = last_level > 0;
      if (has_moved) {
        carry(last_level);
        read_loads();
        read_takes();
      } else {
        raise_to_closure();
      }
      ++steps;
    }
    return {bound_, is_optimal ? bound_ : heaviest_load(), steps, is_optimal ? 1 : 0};
  }

 private:
  __device__ __forceinline__ int lane() const { return rank_ % kLanes; }
  /// The rank that the lane has in word w, and one to read in its place, for there may be no such.
  __device__ __forceinline__ int rank_of(int w) const { return w * kLanes + lane(); }
  __device__ __forceinline__ int known_rank(int w) const {
    return min(rank_of(w), t_.num_ranks - 1);
  }
  __device__ __forceinline__ bool is_in(const unsigned (&set)[kWords], int w) const {
    return (set[w] >> lane() & 1) != 0;
  }

  static __device__ __forceinline__ bool meet(const unsigned (&a)[kWords],
                                              const unsigned (&b)[kWords]) {
    unsigned any = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) any |= a[w] & b[w];
    return any != 0;
  }

  __device__ __forceinline__ void sweep() {
    if (!Sweeper<Team>::keeps_pairs(t_) && ExpertSweeper<Team>::takes(t_, team_)) {
      ExpertSweeper<Team> sweeper(t_, s_, team_);
      sweep_with(sweeper);
    } else {
      Sweeper<Team> sweeper(t_, s_, team_);
      sweep_with(sweeper);
    }
  }

  template <class Sweeps>
  __device__ __forceinline__ void sweep_with(Sweeps& sweeps) {
#pragma unroll 1
    for (int i = 0; i < kFlowSweeps && (i == 0 || any_overloaded()); ++i) sweeps.sweep();
    sweeps.finish();
    team_.sync();
  }

  /// Of each part the mean rounded up, of each rank its fixed load; the first of the greatest,
  /// parts before ranks.
  __device__ __forceinline__ void raise_to_first_bound() {
    if (t_.num_parts == 1 && raise_to_mean()) return;
    int* const part_load = s_.room;
    if (rank_ < t_.num_parts) part_load[rank_] = 0;
    if (rank_ == 0) {
      s_.scalars->most = -1;
      s_.scalars->first = 0x7FFFFFFF;
    }
    team_.sync();
    const int part = lives_ ? t_.part_of[rank_] : -1;
    if (lives_) atomicAdd(&part_load[part], s_.rank_load[rank_]);
    team_.sync();
    const int mean =
        rank_ < t_.num_parts ? t_.divide_up_by_few(part_load[rank_], t_.part_size[rank_]) : -1;
    const int alone = lives_ ? s_.fixed[rank_] : -1;
    bound_ = team_.max_of(max(mean, alone), s_.scalars);
    int first = mean == bound_ ? rank_ : alone == bound_ ? kMaxRanks + rank_ : 0x7FFFFFFF;
    first = team_.min_of(first, s_.scalars);
    unsigned proof[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const bool is_first =
          first == t_.part_of[known_rank(w)] || first == kMaxRanks + known_rank(w);
      proof[w] = __ballot_sync(~0u, is_first) & live_[w];
    }
    put_proof(proof);
  }

  /// Where all ranks are one part; false where a rank's fixed load is more.
  __device__ __forceinline__ bool raise_to_mean() {
    read_loads();
    bound_ = t_.divide_up_by_few(sum_over(live_), t_.num_live);
    bool is_above = false;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      is_above |= is_in(live_, w) && s_.fixed[known_rank(w)] > bound_;
    }
    put_proof(live_);
    return !__any_sync(~0u, is_above);
  }

  __device__ __forceinline__ void put_proof(const unsigned (&set)[kWords]) const {
    if (rank_ != 0) return;
#pragma unroll
    for (int w = 0; w <= kWords; ++w) {
      if (w < BlockState::words(t_.num_ranks)) s_.proof[w] = w < kWords ? set[w] : 0;
    }
  }

  /// Of the lane's ranks. No thread writes one before the next sync.
  __device__ __forceinline__ void read_loads() {
#pragma unroll
    for (int w = 0; w < kWords; ++w) load_[w] = s_.rank_load[known_rank(w)];
  }

  /// The loads of a set of ranks, together.
  __device__ __forceinline__ int sum_over(const unsigned (&set)[kWords]) const {
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) sum += is_in(set, w) ? load_[w] : 0;
    return __reduce_add_sync(~0u, sum);
  }

  __device__ __forceinline__ bool any_overloaded() const {
    return team_.any(lives_ && s_.rank_load[rank_] > bound_);
  }

  /// Who is overloaded, who has room. False where no rank is overloaded.
  __device__ __forceinline__ bool start_search() {
    unsigned any = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      over_[w] = __ballot_sync(~0u, load_[w] > bound_) & live_[w];
      labelled_[w] = __ballot_sync(~0u, load_[w] < bound_) & live_[w];
      any |= over_[w];
    }
    return any != 0;
  }

  /// What waves read of the tables, again and again.
  __device__ __forceinline__ void hold_places() {
    const int begin = lives_ ? t_.incident_begin[rank_] : 0;
    const int count = lives_ ? t_.incident_begin[rank_ + 1] - begin : 0;
    const device::SharedAddress takes = device::hold_address(s_.take);
    loads_ = device::hold_address(s_.rank_load);
    own_load_ = loads_ + 4 * static_cast<unsigned>(lives_ ? rank_ : t_.num_ranks);
    to_room_ = device::hold_address(s_.room) - loads_;
    rest_begin_ = begin + kHeldPlaces;
    rest_end_ = begin + count;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      // NOTE: a place that is not there is one that is, of an expert without ranks: nothing meets
      // it.
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

  /// Of the rank, before a wave. NOTE: these are the takes that carry() finds: a wave adds nothing
  /// to a place that gives.
  __device__ __forceinline__ void read_takes() {
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) has_[i] = device::load_shared(place_[i]);
  }

  /// Whom each rank can give to, and what it carries. A sync.
  __device__ __forceinline__ void share_reach() {
    unsigned own[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) own[w] = 0;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) own[w] |= has_[i] > 0 ? ranks_[i][w] : 0;
    }
#pragma unroll 1
    for (int i = rest_begin_; i < rest_end_; ++i) {
      if (s_.take[t_.incident[i]] == 0) continue;
      const int k = t_.incident_owner[i];
#pragma unroll
      for (int w = 0; w < kWords; ++w) own[w] |= t_.expert_ranks[k * kWords + w];
    }
    // NOTE: loads, not rooms, which are others after a raised bound.
    if (lives_) device::store_shared(own_load_ + to_room_, device::load_shared(own_load_));
    if constexpr (kWords == 1) {
      reach_[0][0] = own[0];
      team_.sync();
    } else {
      s_.reach[rank_] = uint4{own[0], own[1], own[2], kWords > 3 ? own[kWords - 1] : 0};
      team_.sync();
    }
  }

  /// The same of the lane's ranks. NOTE: at every search, so that no register holds it over a wave.
  __device__ __forceinline__ void read_reach() {
    if constexpr (kWords > 1) {
#pragma unroll
      for (int v = 0; v < kWords; ++v) {
        const uint4 reach = s_.reach[rank_of(v)];
        reach_[v][0] = reach.x;
        reach_[v][1] = reach.y;
        reach_[v][2] = reach.z;
        if (kWords > 3) reach_[v][kWords - 1] = reach.w;
      }
    }
  }

  /// Flow::search(): the last level, or 0 where an overloaded rank was not reached. NOTE: of a rank
  /// that is met `nearer_` has all that were met before, of which it can give to the last alone:
  /// who can give to one that was met before has been met before.
  __device__ __forceinline__ int search() {
    label_ = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) nearer_[w] = 0;
    int level = 0;
    unsigned grown;
    unsigned pending;
    do {
      ++level;
      // NOTE: a rank that is never met gets the last level: it has no more than the bound, and is
      // given nothing.
      const bool is_met = meet(labelled_, own_);
      label_ = is_met ? label_ : level;
      unsigned met[kWords];
#pragma unroll
      for (int v = 0; v < kWords; ++v) met[v] = __ballot_sync(~0u, meet(reach_[v], labelled_));
      grown = 0;
      pending = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        nearer_[w] = is_met ? nearer_[w] : labelled_[w];
        grown |= met[w] & ~labelled_[w];
        labelled_[w] |= met[w];
        pending |= over_[w] & ~labelled_[w];
      }
    } while (pending != 0 && grown != 0);
    label_ = lives_ ? label_ : 0;
    return pending == 0 ? level : 0;
  }

  /// Flow::carry(). Ends in a sync.
  __device__ __forceinline__ void carry(int last_level) {
    find_targets();
#pragma unroll 1
    for (int level = last_level; level > 1; --level) {
      const int left = excess_of(level);
      if (left > 0) device::store_shared(own_load_, bound_ + give_all(left));
      team_.sync();
    }
    const int left = excess_of(1);
    if (left > 0) device::store_shared(own_load_, bound_ + give_all(fill_rooms(left)));
    team_.sync();
  }

  __device__ __forceinline__ int excess_of(int level) const {
    return label_ == level ? device::load_shared(own_load_) - bound_ : 0;
  }

  /// Of each held place the target, the first of its expert's places that are nearer to room.
  /// `has_` becomes 0 where there is none.
  __device__ __forceinline__ void find_targets() {
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

  /// The first of `found`, ranks of the expert of held place i: its place, its load, whether there
  /// are others. False, and any addresses, where there is none.
  __device__ __forceinline__ bool choose_first(int i, const unsigned (&found)[kWords],
                                               device::SharedAddress& place,
                                               device::SharedAddress& load,
                                               bool& has_others) const {
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
    const unsigned below = (bits - 1) & ~bits;
    const unsigned before = __byte_perm(before_[i], 0, 0x4440 + static_cast<unsigned>(word));
    place = first_[i] + 4 * (before + static_cast<unsigned>(__popc(of & below)));
    load = loads_ + 4 * static_cast<unsigned>(kLanes * word + __popc(below));
    has_others = (others | (bits & (bits - 1))) != 0;
    return bits != 0;
  }

  /// From held place i; returns what is left.
  __device__ __forceinline__ int give(int i, device::SharedAddress to, device::SharedAddress taker,
                                      int tokens, int left) {
    has_[i] -= tokens;
    device::store_shared_if(tokens > 0, place_[i], has_[i]);
    // NOTE: 0 tokens too, for a condition here would be a branch.
    device::add_shared(to, tokens);
    device::add_shared(taker, tokens);
    return left - tokens;
  }

  /// What fits, of a rank next to room. NOTE: that was before the wave, for all givers alike.
  __device__ __forceinline__ int room_at(device::SharedAddress taker) const {
    return max(bound_ - device::load_shared(taker + to_room_), 0);
  }

  /// To all nearer places within room, of a rank next to room. Returns what is left.
  __device__ __forceinline__ int fill_rooms(int left) {
    int room[kHeldPlaces];
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) room[i] = room_at(taker_[i]);
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      left = give(i, target_[i], taker_[i], min(min(left, has_[i]), room[i]), left);
      if ((several_ >> i & 1) != 0 && left > 0 && has_[i] > 0) left = fill_others(i, left);
    }
    return give_rest(left, true);
  }

  /// The same to the places behind the target of held place i.
  __device__ __forceinline__ int fill_others(int i, int left) {
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
      left = give(i, to, taker, min(min(left, has_[i]), room_at(taker)), left);
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

  /// As much as there is, to the target of each place. Returns what is left.
  __device__ __forceinline__ int give_all(int left) {
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      left = give(i, target_[i], taker_[i], min(left, has_[i]), left);
    }
    return give_rest(left, false);
  }

  /// From the places that are not held.
  __device__ __forceinline__ int give_rest(int left, bool within_room) {
#pragma unroll 1
    for (int i = rest_begin_; i < rest_end_ && left > 0; ++i) {
      const int place = t_.incident[i];
      const int has = s_.take[place];
      if (has == 0) continue;
      const int k = t_.incident_owner[i];
      const int tokens =
          give_along(t_.place_begin[k], t_.place_begin[k + 1], min(left, has), within_room);
      s_.take[place] = has - tokens;
      left -= tokens;
    }
    return left;
  }

  /// Up to `most` tokens to the places [to, end) that are nearer to room: within room to each, else
  /// all to the first. Returns how many.
  __device__ __forceinline__ int give_along(int to, int end, int most, bool within_room) {
    int left = most;
#pragma unroll 1
    for (; to < end && left > 0; ++to) {
      const int taker = t_.place_rank[to];
      // NOTE: not nearer_[taker / 32], for which all of this object would lie in memory.
      const unsigned bit = 1u << (taker % 32);
      unsigned met = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) met |= nearer_[w] & (taker / 32 == w ? bit : 0);
      if (met == 0) continue;
      const int tokens = within_room ? min(left, bound_ - s_.room[taker]) : left;
      atomicAdd(&s_.take[to], tokens);
      atomicAdd(&s_.rank_load[taker], tokens);
      left -= tokens;
    }
    return most - left;
  }

  /// Flow::raise_to_closure().
  __device__ __forceinline__ void raise_to_closure() {
    unsigned proof[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) proof[w] = over_[w] & ~labelled_[w];
    unsigned grown;
    do {
      unsigned joined[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) joined[w] = 0;
#pragma unroll
      for (int v = 0; v < kWords; ++v) {
#pragma unroll
        for (int w = 0; w < kWords; ++w) joined[w] |= is_in(proof, v) ? reach_[v][w] : 0;
      }
      grown = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        joined[w] = __reduce_or_sync(~0u, joined[w]);
        grown |= joined[w] & ~proof[w];
        proof[w] |= joined[w];
      }
    } while (grown != 0);
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) count += __popc(proof[w]);
    bound_ = t_.divide_up_by_few(sum_over(proof), count);
    put_proof(proof);
  }

  __device__ __forceinline__ int heaviest_load() const {
    int most = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) most = max(most, is_in(live_, w) ? load_[w] : 0);
    return __reduce_max_sync(~0u, most);
  }

  const BlockTables& t_;
  const BlockState& s_;
  Team team_;
  const int rank_;  // of this thread, its number
  const bool lives_;
  int bound_ = 0;
  int label_ = 0;  // of the rank, where it is not next to none

  // Of the rank's places: the first few, and where the others are in `incident`.
  // NOTE: addresses, each in a register, so that nothing is computed where a gift waits for it.
  device::SharedAddress loads_ = 0;
  device::SharedAddress own_load_ = 0;
  device::SharedAddress to_room_ = 0;  // from a rank's load
  device::SharedAddress place_[kHeldPlaces];
  device::SharedAddress first_[kHeldPlaces];  // place of the expert
  unsigned ranks_[kHeldPlaces][kWords];       // of the expert
  unsigned before_[kHeldPlaces];              // a byte a word: ranks in the words before it
  int rest_begin_ = 0;
  int rest_end_ = 0;

  // Of the rank in a wave.
  int has_[kHeldPlaces];                       // tokens that the place may give
  device::SharedAddress target_[kHeldPlaces];  // the place that takes them
  device::SharedAddress taker_[kHeldPlaces];   // and its rank's load
  unsigned several_ = 0;                       // bit i: more than one place could take them
  unsigned nearer_[kWords];                    // the ranks that were met before it

  // Of the lane's ranks, one in each word.
  int load_[kWords];                // before the step
  unsigned reach_[kWords][kWords];  // the ranks that it can give to

  unsigned own_[kWords];  // the bit of this thread's rank
  unsigned live_[kWords];
  unsigned over_[kWords];
  unsigned labelled_[kWords];
};

}  // namespace lplb::solvers
