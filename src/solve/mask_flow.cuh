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
  static constexpr int kHeldPlaces = 4;  // of the rank, in registers

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
    const int begin = lives_ ? t_.incident_begin[rank_] : 0;
    const int end = lives_ ? t_.incident_begin[rank_ + 1] : 0;
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      const bool is_place = begin + i < end;
      held_place_[i] = is_place ? t_.incident[begin + i] : 0;
      held_owner_[i] = is_place ? t_.incident_owner[begin + i] : -1;
    }
  }

  /// All threads of the team call it, with `want` and `fixed` filled and synchronised. At most
  /// `max_steps` >= 0 waves and raised bounds.
  __device__ __forceinline__ BlockOutcome run(int max_steps) {
    share_evenly(t_, s_, team_);
    raise_to_first_bound();
    Sweeper<Team> sweeper(t_, s_, team_);
#pragma unroll 1
    for (int i = 0; i < kFlowSweeps && any_overloaded(); ++i) {
      if (!team_.any(sweeper.sweep())) break;
    }
    sweeper.finish();
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

  /// Flow::search(): the last level, or 0 where an overloaded rank was not reached.
  __device__ __forceinline__ int search() {
    unsigned ranks[kExperts][kWords];
    unsigned givers[kExperts][kWords];
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
#pragma unroll 1
    for (int level = 0;; ++level) {
      unsigned met_ranks[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        met_ranks[w] = 0;
        if (rank_ == 0) s_.level_set[level * kWords + w] = frontier[w];
      }
#pragma unroll
      for (int i = 0; i < kExperts; ++i) {
        // NOTE: an expert that was met has no ranks any more.
        const bool met = meet(ranks[i], frontier);
        if (met) s_.met[rank_ + i * kThreads] = level;
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
          met_ranks[w] |= met ? givers[i][w] : 0;
          ranks[i][w] = met ? 0 : ranks[i][w];
        }
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
          if (level == 1) left = give_all(level - 1, left, true);
          if (left > 0) left = give_all(level - 1, left, false);
          s_.rank_load[rank_] = bound_ + left;
        }
      }
      team_.sync();
    }
  }

  /// NOTE: only this thread writes the takes of the rank's places in this level, and those that it
  /// gives to are of ranks that nobody reads in it.
  __device__ __forceinline__ int give_all(int met_level, int left, bool within_room) {
    unsigned eligible = 0;  // bit i: held place i may give
#pragma unroll
    for (int i = 0; i < kHeldPlaces; ++i) {
      const bool is_place = held_owner_[i] >= 0;
      const int met = is_place ? s_.met[held_owner_[i]] : -1;
      const int has = is_place ? s_.take[held_place_[i]] : 0;
      eligible |= met == met_level && has > 0 ? 1u << i : 0;
    }
    const int begin = t_.incident_begin[rank_];
#pragma unroll 1
    for (; eligible != 0 && left > 0; eligible &= eligible - 1) {
      const int i = begin + __ffs(eligible) - 1;
      left = give(t_.incident[i], t_.incident_owner[i], met_level, left, within_room);
    }
    const int end = t_.incident_begin[rank_ + 1];
#pragma unroll 1
    for (int i = begin + kHeldPlaces; i < end && left > 0; ++i) {
      const int k = t_.incident_owner[i];
      if (s_.met[k] == met_level) left = give(t_.incident[i], k, met_level, left, within_room);
    }
    return left;
  }

  /// From a place of expert k to its places on ranks of the level in which it was met: within room
  /// to each, else to the first. Returns what is left.
  __device__ __forceinline__ int give(int from, int k, int met_level, int left, bool within_room) {
    int before = t_.place_begin[k];  // of the word's places
    int has = s_.take[from];
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const unsigned ranks = t_.expert_ranks[k * kWords + w];
      unsigned here = ranks & s_.level_set[met_level * kWords + w];
#pragma unroll 1
      for (; here != 0 && left > 0; here &= here - 1) {
        const int taker = w * 32 + __ffs(here) - 1;
        const unsigned bit = here & (0u - here);
        const int tokens = min(min(left, has), within_room ? s_.room[taker] : left);
        if (tokens == 0) continue;
        atomicAdd(&s_.take[before + __popc(ranks & (bit - 1))], tokens);
        atomicAdd(&s_.rank_load[taker], tokens);
        atomicOr(&s_.givers[k * kWords + w], bit);
        has -= tokens;
        left -= tokens;
        if (has == 0) break;
        if (!within_room) break;
      }
      before += __popc(ranks);
      if (!within_room && (ranks & s_.level_set[met_level * kWords + w]) != 0) break;
    }
    s_.take[from] = has;
    if (has == 0) {
      atomicAnd(&s_.givers[k * kWords + rank_ / 32 % kWords], ~(1u << (rank_ % 32)));
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
    int count = 0;
    bool is_inside = false;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      count += __popc(proof_[w]);
      is_inside |= (proof_[w] & own_[w]) != 0;
    }
    const int load = team_.sum_of(is_inside ? s_.rank_load[rank_] : 0, s_.scalars);
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
  int label_ = -1;  // of the rank
  int held_place_[kHeldPlaces];
  int held_owner_[kHeldPlaces];  // -1: no place
  unsigned own_[kWords];         // the rank's bit
  unsigned over_[kWords];
  unsigned labelled_[kWords];
  unsigned proof_[kWords];
};

}  // namespace lplb::solvers
