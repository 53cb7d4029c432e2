// SPDX-License-Identifier: MIT
#pragma once

#include "solve/sweep.cuh"

// flow_cpu.cc for a team of a warp (up to 32 ranks) or of 128 threads (up to 128 ranks), step by
// step with the same result. Sets of ranks are bit masks that all threads hold; thread g owns rank
// g and the experts g, g + threads, ..., and asks with a few bit operations whether a level of the
// search meets them.
namespace lplb::solvers {

inline constexpr int kFlowSweeps = 2;

template <class Team, int kExperts>
class MaskFlow {
 public:
  static constexpr int kWords = Team::kWords;
  static constexpr int kThreads = kWords * kLanes;

  static __host__ __device__ bool takes(const DeviceTablesHeader& h) {
    return h.mask_words == kWords && h.num_replicated <= kExperts * kThreads;
  }

  __device__ MaskFlow(const BlockTables& tables, const BlockState& state, const Team& team)
      : t_(tables),
        s_(state),
        team_(team),
        rank_(team.thread()),
        lives_(team.thread() < tables.num_ranks &&
               tables.part_of[min(team.thread(), tables.num_ranks - 1)] != kNoPlace) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) own_[w] = rank_ / 32 == w ? 1u << (rank_ % 32) : 0;
  }

  /// All threads of the team call it, with `want` and `fixed` filled and synchronised. At most
  /// `max_steps` >= 0 waves and raised bounds.
  __device__ __forceinline__ BlockOutcome run(int max_steps) {
    if (rank_ < 3 * 8) s_.scalars->words[rank_ / 8][rank_ % 8] = 0;
    share_evenly(t_, s_, team_);
    raise_to_first_bound();
#pragma unroll 1
    for (int i = 0; i < kFlowSweeps && any_overloaded(); ++i) {
      if (!team_.any(sweep(t_, s_, team_))) break;
    }
    int steps = 0;
    bool is_optimal = true;
#pragma unroll 1
    while (start_search()) {
      if (steps == max_steps) {
        is_optimal = false;
        break;
      }
      if (steps == 0) find_givers();
      const int last_level = search();
      if (last_level > 0) {
        carry(last_level);
      } else {
        raise_to_closure();
      }
      ++steps;
    }
    if (rank_ == 0) {
#pragma unroll
      for (int w = 0; w <= kWords; ++w) {
        if (w < BlockState::words(t_.num_ranks)) s_.proof[w] = w < kWords ? proof_[w] : 0;
      }
    }
    return {bound_, is_optimal ? bound_ : heaviest_load(), steps, is_optimal ? 1 : 0};
  }

 private:
  static __device__ __forceinline__ bool meet(const unsigned (&a)[kWords],
                                              const unsigned (&b)[kWords]) {
    unsigned any = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) any |= a[w] & b[w];
    return any != 0;
  }

  /// Calls body(k) for the experts that this thread owns.
  template <class Body>
  __device__ __forceinline__ void for_experts(Body body) const {
#pragma unroll
    for (int i = 0; i < kExperts; ++i) {
      if (rank_ + i * kThreads < t_.num_replicated) body(rank_ + i * kThreads);
    }
  }

  /// Of each part the mean rounded up, of each rank its fixed load; the first of the greatest,
  /// parts before ranks.
  __device__ __forceinline__ void raise_to_first_bound() {
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
        rank_ < t_.num_parts ? t_.divide_up(part_load[rank_], t_.part_size[rank_]) : -1;
    const int alone = lives_ ? s_.fixed[rank_] : -1;
    bound_ = team_.max_of(max(mean, alone), s_.scalars);
    int first = mean == bound_ ? rank_ : alone == bound_ ? kMaxRanks + rank_ : 0x7FFFFFFF;
    first = team_.min_of(first, s_.scalars);
    unsigned unused[kWords];
    team_.ballots(lives_ && (first == part || first == kMaxRanks + rank_), false, proof_, unused,
                  s_.scalars);
  }

  __device__ __forceinline__ bool any_overloaded() const {
    return team_.any(lives_ && s_.rank_load[rank_] > bound_);
  }

  /// Who is overloaded, who has room. False where no rank is overloaded.
  __device__ __forceinline__ bool start_search() {
    const int room = lives_ ? bound_ - s_.rank_load[rank_] : 0;
    if (lives_) s_.room[rank_] = room;
    label_ = room > 0 ? 0 : -1;
    for_experts([&](int k) { s_.met[k] = -1; });
    team_.ballots(room<0, room> 0, over_, labelled_, s_.scalars);
    unsigned any = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) any |= over_[w];
    return any != 0;
  }

  /// `givers` of all experts; from then on waves keep them.
  __device__ __forceinline__ void find_givers() {
    for_experts([&](int k) {
      unsigned givers[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) givers[w] = 0;
      const int end = t_.place_begin[k + 1];
#pragma unroll 1
      for (int p = t_.place_begin[k]; p < end; ++p) {
        const int rank = t_.place_rank[p];
        const unsigned bit = s_.take[p] > 0 ? 1u << (rank % 32) : 0;
#pragma unroll
        for (int w = 0; w < kWords; ++w) givers[w] |= kWords == 1 || rank / 32 == w ? bit : 0;
      }
#pragma unroll
      for (int w = 0; w < kWords; ++w) s_.givers[k * kWords + w] = givers[w];
    });
    team_.sync();
  }

  /// Expert k is met at `level` on the ranks `here`: the first is its target.
  __device__ __forceinline__ void set_target(int k, int level, const unsigned (&ranks)[kWords],
                                             const unsigned (&here)[kWords]) const {
    int before = 0;  // places before the target
    int taker = 0;
    bool found = false;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const unsigned first = here[w] & (0u - here[w]);
      before += found ? 0 : __popc(ranks[w] & (first - 1));
      taker = !found && first != 0 ? w * 32 + __ffs(first) - 1 : taker;
      found |= first != 0;
    }
    s_.met[k] = level;
    s_.target[k] = t_.place_begin[k] + before;
    s_.taker[k] = taker;
  }

  /// Flow::search(): the last level, or 0 where an overloaded rank was not reached.
  __device__ __forceinline__ int search() {
    unsigned ranks[kExperts][kWords];
    unsigned givers[kExperts][kWords];  // emptied once the expert is met
#pragma unroll
    for (int i = 0; i < kExperts; ++i) {
      const int k = rank_ + i * kThreads;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const bool is_expert = k < t_.num_replicated;
        ranks[i][w] = is_expert ? t_.expert_ranks[k * kWords + w] : 0;
        givers[i][w] = is_expert ? s_.givers[k * kWords + w] : 0;
      }
    }
    unsigned frontier[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) frontier[w] = labelled_[w];
    unsigned is_met = 0;  // bit i: expert i of this thread
#pragma unroll 1
    for (int level = 0;; ++level) {
      unsigned met_ranks[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) met_ranks[w] = 0;
#pragma unroll
      for (int i = 0; i < kExperts; ++i) {
        unsigned here[kWords];
#pragma unroll
        for (int w = 0; w < kWords; ++w) here[w] = ranks[i][w] & frontier[w];
        if (!meet(ranks[i], frontier) || (is_met >> i & 1) != 0) continue;
        is_met |= 1u << i;
        set_target(rank_ + i * kThreads, level, ranks[i], here);
#pragma unroll
        for (int w = 0; w < kWords; ++w) met_ranks[w] |= givers[i][w];
      }
      team_.unite(met_ranks, s_.scalars);
      unsigned grown = 0;
      unsigned pending = 0;
      bool is_mine = false;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        frontier[w] = met_ranks[w] & ~labelled_[w];
        labelled_[w] |= frontier[w];
        is_mine |= (frontier[w] & own_[w]) != 0;
        grown |= frontier[w];
        pending |= over_[w] & ~labelled_[w];
      }
      label_ = is_mine ? level + 1 : label_;
      if (pending == 0) return level + 1;
      if (grown == 0) return 0;
    }
  }

  /// Flow::carry(). Ends in a sync.
  __device__ __forceinline__ void carry(int last_level) {
    team_.sync();
#pragma unroll 1
    for (int level = last_level; level > 0; --level) {
      if (label_ == level) {
        int left = s_.rank_load[rank_] - bound_;
        if (left > 0) {
          if (level == 1) left = give(level - 1, left, true);
          if (left > 0) left = give(level - 1, left, false);
          s_.rank_load[rank_] = bound_ + left;
        }
      }
      team_.sync();
    }
  }

  /// NOTE: only this thread writes the takes of the rank's places in this level, and those that it
  /// gives to are of ranks that nobody reads in it.
  __device__ __forceinline__ int give(int met_level, int left, bool within_room) {
    const int end = t_.incident_begin[rank_ + 1];
#pragma unroll 1
    for (int i = t_.incident_begin[rank_]; i < end && left > 0; ++i) {
      const int from = t_.incident[i];
      const int k = t_.incident_owner[i];
      const int has = s_.take[from];
      const int to = s_.target[k];
      const int taker = s_.taker[k];
      if (s_.met[k] != met_level) continue;
      const int most = within_room ? s_.room[taker] : left;
      const int tokens = min(min(left, has), most);
      if (tokens == 0) continue;
      s_.take[from] = has - tokens;
      atomicAdd(&s_.take[to], tokens);
      atomicAdd(&s_.rank_load[taker], tokens);
      atomicOr(&s_.givers[k * kWords + taker / 32 % kWords], 1u << (taker % 32));
      if (tokens == has) {
        atomicAnd(&s_.givers[k * kWords + rank_ / 32 % kWords], ~(1u << (rank_ % 32)));
      }
      left -= tokens;
    }
    return left;
  }

  /// Flow::raise_to_closure().
  __device__ __forceinline__ void raise_to_closure() {
#pragma unroll
    for (int w = 0; w < kWords; ++w) proof_[w] = over_[w] & ~labelled_[w];
    unsigned grown = 1;
#pragma unroll 1
    while (grown != 0) {
      unsigned joined[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) joined[w] = 0;
      for_experts([&](int k) {
        unsigned givers = 0;
#pragma unroll
        for (int w = 0; w < kWords; ++w) givers |= s_.givers[k * kWords + w] & proof_[w];
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
          joined[w] |= givers != 0 ? t_.expert_ranks[k * kWords + w] : 0;
        }
      });
      team_.unite(joined, s_.scalars);
      grown = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        grown |= joined[w] & ~proof_[w];
        proof_[w] |= joined[w];
      }
    }
    // The loads of the ranks inside: all threads add them, each for itself.
    int load = 0;
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      count += __popc(proof_[w]);
#pragma unroll 1
      for (unsigned left = proof_[w]; left != 0; left &= left - 1) {
        load += s_.rank_load[w * 32 + __ffs(left) - 1];
      }
    }
    bound_ = t_.divide_up(load, count);
    team_.sync();
  }

  __device__ __forceinline__ int heaviest_load() {
    if (rank_ == 0) s_.scalars->most = -1;
    team_.sync();
    return team_.max_of(lives_ ? s_.rank_load[rank_] : 0, s_.scalars);
  }

  const BlockTables& t_;
  const BlockState& s_;
  Team team_;
  const int rank_;  // of this thread, its number
  const bool lives_;
  int bound_ = 0;
  int label_ = -1;        // of the rank
  unsigned own_[kWords];  // the rank's bit
  unsigned over_[kWords];
  unsigned labelled_[kWords];
  unsigned proof_[kWords];
};

}  // namespace lplb::solvers
