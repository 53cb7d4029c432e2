// SPDX-License-Identifier: MIT
#pragma once

#include "solve/sweep.cuh"

// flow_cpu.cc for one warp, step by step with the same result. Sets of ranks are bit masks of
// kWords words that all lanes hold; lane i owns the ranks i, i + 32, ...; in a search it owns the
// experts likewise, kExperts of them, and asks with a few bit operations whether a level meets
// them.
namespace lplb::solvers {

inline constexpr int kFlowSweeps = 4;

template <int kWords, int kExperts>
class WarpFlow {
 public:
  static constexpr int kMaxColours = 32;  // a bit each

  static __host__ __device__ bool takes(const DeviceTablesHeader& h) {
    return h.mask_words <= kWords && h.mask_words != 0 && h.num_colours <= kMaxColours &&
           h.num_replicated <= kExperts * kLanes;
  }

  __device__ WarpFlow(const BlockTables& tables, const BlockState& state, int lane)
      : t_(tables), s_(state), lane_(lane), team_(lane) {
    const int words = (t_.num_ranks + 31) / 32 == 1 ? 1 : 4;  // of the table
#pragma unroll
    for (int i = 0; i < kExperts; ++i) {
      const int k = i * kLanes + lane;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        ranks_[i][w] = k < t_.num_replicated && w < words ? t_.expert_ranks[k * words + w] : 0;
      }
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = w * kLanes + lane;
      const bool lives = g < t_.num_ranks && t_.part_of[g] != kNoPlace;
      live_[w] = __ballot_sync(~0u, lives);
    }
  }

  /// The whole warp calls it, with `want` and `fixed` filled and synchronised. At most `max_steps`
  /// >= 0 waves and raised bounds.
  __device__ __forceinline__ BlockOutcome run(int max_steps) {
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
      const int last_level = search();
      if (last_level > 0) {
        carry(last_level);
      } else {
        raise_to_closure();
      }
      ++steps;
    }
    if (lane_ == 0) {
#pragma unroll
      for (int w = 0; w <= kWords; ++w) {
        if (w < BlockState::words(t_.num_ranks)) s_.proof[w] = w < kWords ? proof_[w] : 0;
      }
    }
    __syncwarp();
    return {bound_, is_optimal ? bound_ : heaviest_load(), steps, is_optimal ? 1 : 0};
  }

 private:
  /// Calls body(rank, w) for the live ranks of this lane; w numbers their words.
  template <class Body>
  __device__ __forceinline__ void for_ranks(Body body) const {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      if ((live_[w] >> lane_ & 1) != 0) body(w * kLanes + lane_, w);
    }
  }

  /// Of each part the mean rounded up, of each rank its fixed load; the first of the greatest,
  /// parts before ranks.
  __device__ __forceinline__ void raise_to_first_bound() {
    int* const part_load = s_.room;
#pragma unroll 1
    for (int i = lane_; i < t_.num_parts; i += kLanes) part_load[i] = 0;
    __syncwarp();
    for_ranks([&](int g, int) { atomicAdd(&part_load[t_.part_of[g]], s_.rank_load[g]); });
    __syncwarp();
    int level = -1;
    int first = 0x7FFFFFFF;
    const auto offer = [&](int offered, int index) {
      first = offered > level ? index : first;
      level = max(level, offered);
    };
#pragma unroll 1
    for (int i = lane_; i < t_.num_parts; i += kLanes) {
      offer(t_.divide_up(part_load[i], t_.part_size[i]), i);
    }
    for_ranks([&](int g, int) { offer(s_.fixed[g], kMaxRanks + g); });
    bound_ = __reduce_max_sync(~0u, level);
    first = __reduce_min_sync(~0u, level == bound_ ? first : 0x7FFFFFFF);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = w * kLanes + lane_;
      const bool in =
          (live_[w] >> lane_ & 1) != 0 && (first == kMaxRanks + g || first == t_.part_of[g]);
      proof_[w] = __ballot_sync(~0u, in);
    }
  }

  __device__ __forceinline__ bool any_overloaded() const {
    bool over = false;
    for_ranks([&](int g, int) { over |= s_.rank_load[g] > bound_; });
    return __any_sync(~0u, over);
  }

  /// Who is overloaded, who has room. False where no rank is overloaded.
  __device__ __forceinline__ bool start_search() {
    unsigned any = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = w * kLanes + lane_;
      const bool lives = (live_[w] >> lane_ & 1) != 0;
      const int room = lives ? bound_ - s_.rank_load[g] : 0;
      if (lives) s_.room[g] = room;
      over_[w] = __ballot_sync(~0u, room < 0);
      labelled_[w] = __ballot_sync(~0u, room > 0);
      label_[w] = room > 0 ? 0 : -1;
      any |= over_[w];
    }
    __syncwarp();
    return any != 0;
  }

  /// The ranks of expert i of this lane that have tokens to give.
  __device__ __forceinline__ void find_givers(int i, unsigned (&givers)[kWords]) const {
    const int k = i * kLanes + lane_;
#pragma unroll
    for (int w = 0; w < kWords; ++w) givers[w] = 0;
    if (k >= t_.num_replicated) return;
    const int end = t_.place_begin[k + 1];
#pragma unroll 2
    for (int p = t_.place_begin[k]; p < end; ++p) {
      const int rank = t_.place_rank[p];
      const unsigned bit = s_.take[p] > 0 ? 1u << (rank % 32) : 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) givers[w] |= kWords == 1 || rank / 32 == w ? bit : 0;
    }
  }

  /// The first place of expert k whose rank is in `here`, a part of its ranks.
  __device__ __forceinline__ int first_place(int k, const unsigned (&ranks)[kWords],
                                             const unsigned (&here)[kWords]) const {
    int before = 0;
    bool found = false;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const unsigned lower = here[w] != 0 ? (here[w] & (0u - here[w])) - 1 : ~0u;
      before += found ? 0 : __popc(ranks[w] & lower);
      found |= here[w] != 0;
    }
    return t_.place_begin[k] + before;
  }

  /// Flow::search(): the last level, or 0 where an overloaded rank was not reached. Lane l keeps
  /// the colours whose experts are met in level l, as far as there are lanes.
  __device__ __forceinline__ int search() {
    unsigned givers[kExperts][kWords];
    unsigned frontier[kWords];
#pragma unroll
    for (int i = 0; i < kExperts; ++i) {
      find_givers(i, givers[i]);
      if (i * kLanes + lane_ < t_.num_replicated) s_.met[i * kLanes + lane_] = -1;
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) frontier[w] = labelled_[w];
    unsigned is_met = 0;  // bit i: expert i of this lane
#pragma unroll 1
    for (int level = 0;; ++level) {
      unsigned met_ranks[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) met_ranks[w] = 0;
#pragma unroll
      for (int i = 0; i < kExperts; ++i) {
        unsigned here[kWords];
        unsigned any = 0;
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
          here[w] = ranks_[i][w] & frontier[w];
          any |= here[w];
        }
        if (any == 0 || (is_met >> i & 1) != 0) continue;
        is_met |= 1u << i;
        const int k = i * kLanes + lane_;
        s_.met[k] = level;
        s_.target[k] = first_place(k, ranks_[i], here);
#pragma unroll
        for (int w = 0; w < kWords; ++w) met_ranks[w] |= givers[i][w];
      }
      unsigned grown = 0;
      unsigned pending = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        frontier[w] = __reduce_or_sync(~0u, met_ranks[w]) & ~labelled_[w];
        labelled_[w] |= frontier[w];
        label_[w] = (frontier[w] >> lane_ & 1) != 0 ? level + 1 : label_[w];
        grown |= frontier[w];
        pending |= over_[w] & ~labelled_[w];
      }
      if (pending == 0) return level + 1;
      if (grown == 0) return 0;
    }
  }

  /// Flow::carry().
  __device__ __forceinline__ void carry(int last_level) {
#pragma unroll 1
    for (int level = last_level; level > 0; --level) {
      bool any = false;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const int g = w * kLanes + lane_;
        if ((live_[w] >> lane_ & 1) == 0) continue;
        const int over = label_[w] == level ? max(s_.rank_load[g] - bound_, 0) : 0;
        s_.excess[g] = over;
        any |= over > 0;
      }
      __syncwarp();
      if (!__any_sync(~0u, any)) continue;
      if (level == 1) give(0, true);
      give(level - 1, false);
    }
  }

  /// Each rank's excess to its places in their order, one a colour, and from there to the targets
  /// of the experts that were met in `met_level`. NOTE: the ranks of a colour differ.
  __device__ __forceinline__ void give(int met_level, bool within_room) {
    int end = 0;
#pragma unroll 1
    for (int colour = 1; colour <= t_.num_colours; ++colour) {
      const int begin = end;
      end = t_.colour_begin[colour];
#pragma unroll 1
      for (int k = begin + lane_; k < end; k += kLanes) {
        if (s_.met[k] == met_level) give_expert(k, within_room);
      }
      __syncwarp();
    }
  }

  __device__ __forceinline__ void give_expert(int k, bool within_room) {
    const int to = s_.target[k];
    const int taker = t_.place_rank[to];
    const int most = within_room ? s_.room[taker] : 0x7FFFFFFF;
    const int end = t_.place_begin[k + 1];
    int sum = 0;
#pragma unroll 2
    for (int from = t_.place_begin[k]; from < end; ++from) {
      const int rank = t_.place_rank[from];
      const int tokens = min(min(s_.excess[rank], s_.take[from]), most);
      if (tokens <= 0) continue;
      s_.excess[rank] -= tokens;
      s_.rank_load[rank] -= tokens;
      s_.take[from] -= tokens;
      sum += tokens;
    }
    if (sum == 0) return;
    s_.take[to] += sum;
    s_.rank_load[taker] += sum;
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
#pragma unroll
      for (int i = 0; i < kExperts; ++i) {
        unsigned givers[kWords];
        find_givers(i, givers);
        unsigned any = 0;
#pragma unroll
        for (int w = 0; w < kWords; ++w) any |= givers[w] & proof_[w];
#pragma unroll
        for (int w = 0; w < kWords; ++w) joined[w] |= any != 0 ? ranks_[i][w] : 0;
      }
      grown = 0;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        joined[w] = __reduce_or_sync(~0u, joined[w]) & ~proof_[w];
        proof_[w] |= joined[w];
        grown |= joined[w];
      }
    }
    int load = 0;
    int count = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      load += (proof_[w] >> lane_ & 1) != 0 ? s_.rank_load[w * kLanes + lane_] : 0;
      count += __popc(proof_[w]);
    }
    bound_ = t_.divide_up(__reduce_add_sync(~0u, load), count);
  }

  __device__ __forceinline__ int heaviest_load() const {
    int most = 0;
    for_ranks([&](int g, int) { most = max(most, s_.rank_load[g]); });
    return __reduce_max_sync(~0u, most);
  }

  const BlockTables& t_;
  const BlockState& s_;
  const int lane_;
  const WarpTeam team_;
  int bound_ = 0;
  unsigned ranks_[kExperts][kWords];  // of the experts of this lane
  unsigned live_[kWords];
  unsigned over_[kWords];
  unsigned labelled_[kWords];
  unsigned proof_[kWords];
  int label_[kWords];  // of the ranks of this lane
};

}  // namespace lplb::solvers
