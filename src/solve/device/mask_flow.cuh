// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/rank_places.cuh"
#include "solve/device/sweep.cuh"

// flow_cpu.cc for a team of one warp (up to 32 ranks) or of kMaskThreads (up to 128 ranks), step by
// step with the same result. Thread g owns rank g; in a wave it moves what this rank carries.
//
// Sets of ranks are bit masks, the same on all threads. For a search, lane l of each warp has the
// ranks l, 32 + l, ... Each warp searches alone, and all warps do the same: a level of the search
// is a few bit operations and a ballot for each word of the mask, and no warp waits for another.
namespace lplb::solvers {

inline constexpr int kFlowSweeps = 2;

/// The form for sets of ranks in kWords words, which must be mask_words of the placement.
template <class Team, int kWords, int kMostExperts>
class MaskFlow {
 public:
  static __host__ __device__ bool takes(const DeviceTablesHeader& h) {
    return h.mask_words == kWords && h.num_replicated <= kMostExperts;
  }

  __device__ MaskFlow(const BlockTables& tables, const BlockState& state, const Team& team)
      : t_(tables),
        s_(state),
        team_(team),
        rank_(team.thread()),
        lives_(team.thread() < tables.num_ranks &&
               tables.part_of[min(team.thread(), tables.num_ranks - 1)] != kNoPlace),
        places_(tables, state) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      own_[w] = rank_ / kWarpSize == w ? 1u << lane() : 0;
      const bool lives = rank_of(w) < t_.num_ranks && t_.part_of[known_rank(w)] != kNoPlace;
      live_[w] = __ballot_sync(~0u, lives);
    }
  }

  /// All threads of the team call it, after `want` and `fixed` are filled and synchronised. It
  /// takes at most `max_steps` >= 0 steps: a wave or a raised bound each.
  __device__ __forceinline__ BlockOutcome run(int max_steps) {
    share_and_sweep();
    int steps = 0;
    bool is_optimal = true;
    read_loads();
#pragma unroll 1
    while (start_search()) {
      if (steps == max_steps) {
        is_optimal = false;
        break;
      }
      // Read the rank's places only if there is something to search.
      if (steps == 0) {
        places_.hold(rank_, lives_);
        places_.read_takes();
      }
      share_reach();
      read_reach();
      const int last_level = search();
      if (last_level > 0) {
        carry(last_level);
      } else {
        draw(raise_to_closure());
      }
      read_loads();
      places_.read_takes();
      ++steps;
    }
    return {bound_, is_optimal ? bound_ : heaviest_load(), steps, is_optimal ? 1 : 0};
  }

 private:
  __device__ __forceinline__ int lane() const { return rank_ % kWarpSize; }
  /// The lane's rank in word w. It may not exist; known_rank() is one that does, to be read in its
  /// place.
  __device__ __forceinline__ int rank_of(int w) const { return w * kWarpSize + lane(); }
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

  /// Does all that needs no search: takes, loads and the bound. Ends in a sync.
  __device__ __forceinline__ void share_and_sweep() {
    // NOTE: each branch sets the bound, so that no register holds experts in the other branch.
    if (!Sweeper<Team>::keeps_pairs(t_) && ExpertSweeper<Team>::takes(t_, team_)) {
      ExpertSweeper<Team> sweeper(t_, s_, team_);
      sweeper.share();
      raise_to_first_bound();
      if (any_overloaded()) sweep_with(sweeper);
      sweeper.finish();
    } else {
      share_evenly(t_, s_, team_);
      raise_to_first_bound();
      if (any_overloaded()) {
        Sweeper<Team> sweeper(t_, s_, team_);
        sweep_with(sweeper);
        sweeper.finish();
      }
    }
    team_.sync();
  }

  template <class Sweeps>
  __device__ __forceinline__ void sweep_with(Sweeps& sweeps) {
#pragma unroll 1
    for (int i = 0; i < kFlowSweeps && (i == 0 || any_overloaded()); ++i) sweeps.sweep();
  }

  /// Sets the bound to the greatest of each part's mean, rounded up, and each rank's fixed load.
  /// The proof is the first that gives it, parts before ranks.
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

  /// The same if all ranks are one part. Returns false if a rank's fixed load is more than the
  /// mean.
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

  /// Reads the loads of the lane's ranks. No thread may write a load before the next sync.
  __device__ __forceinline__ void read_loads() {
#pragma unroll
    for (int w = 0; w < kWords; ++w) load_[w] = s_.rank_load[known_rank(w)];
  }

  /// The sum of the loads of a set of ranks.
  __device__ __forceinline__ int sum_over(const unsigned (&set)[kWords]) const {
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) sum += is_in(set, w) ? load_[w] : 0;
    return __reduce_add_sync(~0u, sum);
  }

  __device__ __forceinline__ bool any_overloaded() const {
    return team_.any(lives_ && s_.rank_load[rank_] > bound_);
  }

  /// Finds the ranks that are overloaded, and those that have room. Returns false if no rank is
  /// overloaded.
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

  /// Shares with all threads which ranks this rank can give to, and what it carries. Ends in a
  /// sync.
  __device__ __forceinline__ void share_reach() {
    unsigned own[kWords];
    places_.find_reach(own);
    // NOTE: the load and not the room, because the room changes if the bound is raised.
    if (lives_) places_.note_load();
    if constexpr (kWords == 1) {
      reach_[0][0] = own[0];
      team_.sync();
    } else {
      s_.reach[rank_] = uint4{own[0], own[1], own[2], kWords > 3 ? own[kWords - 1] : 0};
      team_.sync();
    }
  }

  /// Reads which ranks the lane's ranks can give to. NOTE: it is read for each search, so that no
  /// register holds it during a wave.
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

  /// Flow::search(). Returns the last level, or 0 if an overloaded rank was not reached. NOTE: the
  /// `nearer_` of a rank is all ranks that were met before it. It can give only to those of the
  /// level just before, because a rank that can give to an earlier one was itself met earlier.
  __device__ __forceinline__ int search() {
    label_ = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) nearer_[w] = 0;
    int level = 0;
    unsigned grown;
    unsigned pending;
    do {
      ++level;
      // NOTE: a rank that is never met gets the last level. This does no harm: it carries no more
      // than the bound, and is given nothing.
      const bool is_met = meet(labelled_, own_);
      label_ = is_met ? label_ : level;
      // The ranks that can give to a labelled one are met; the new ones are the next level.
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
    places_.find_targets(nearer_);
#pragma unroll 1
    for (int level = last_level; level > 1; --level) {
      const int left = excess_of(level);
      if (left > 0) places_.put_load(bound_ + places_.give_all(left));
      team_.sync();
    }
    const int left = excess_of(1);
    if (left > 0) places_.put_load(bound_ + places_.give_all(places_.fill_rooms(left, bound_)));
    team_.sync();
  }

  __device__ __forceinline__ int excess_of(int level) const {
    return label_ == level ? places_.load() - bound_ : 0;
  }

  /// Flow::raise_to_closure(). Returns the last level of the closure. The `nearer_` of a rank in it
  /// is the ranks of the next level.
  __device__ __forceinline__ int raise_to_closure() {
    unsigned proof[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      proof[w] = over_[w] & ~labelled_[w];
      nearer_[w] = 0;
    }
    label_ = -1;
    int level = -1;
    unsigned grown;
    do {
      ++level;
      // The ranks that a rank of the closure can give to join it; the new ones are the next level.
      unsigned joined[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) joined[w] = 0;
#pragma unroll
      for (int v = 0; v < kWords; ++v) {
#pragma unroll
        for (int w = 0; w < kWords; ++w) joined[w] |= is_in(proof, v) ? reach_[v][w] : 0;
      }
      const bool is_new = label_ < 0 && meet(proof, own_);
      label_ = is_new ? level : label_;
      grown = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        joined[w] = __reduce_or_sync(~0u, joined[w]) & ~proof[w];
        nearer_[w] = is_new ? joined[w] : nearer_[w];
        grown |= joined[w];
        proof[w] |= joined[w];
      }
    } while (grown != 0);
    // The closure is the proof: the bound is its mean, rounded up.
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) count += __popc(proof[w]);
    bound_ = t_.divide_up_by_few(sum_over(proof), count);
    put_proof(proof);
    return level;
  }

  /// Flow::draw(). Ends in a sync. NOTE: the loop runs at least once, because the reaches that are
  /// shared next need a sync before.
  __device__ __forceinline__ void draw(int last_level) {
    places_.find_targets(nearer_);
#pragma unroll 1
    for (int level = max(last_level, 1) - 1; level >= 0; --level) {
      if (label_ == level) {
        constexpr int kAll = 0x7FFFFFFF;
        const int given = kAll - places_.fill_rooms(kAll, bound_);
        places_.put_load(places_.load() - given);
        places_.note_load();
      }
      team_.sync();
    }
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
  const int rank_;  // of this thread: its number
  const bool lives_;
  int bound_ = 0;
  RankPlaces<kWords> places_;
  int label_ = 0;            // of this thread's rank
  unsigned nearer_[kWords];  // includes all ranks that this rank gives to in a wave

  // The lane's ranks, one in each word.
  int load_[kWords];                // before the step
  unsigned reach_[kWords][kWords];  // the ranks that each can give to

  unsigned own_[kWords];  // the bit of this thread's rank
  unsigned live_[kWords];
  unsigned over_[kWords];
  unsigned labelled_[kWords];
};

}  // namespace lplb::solvers
