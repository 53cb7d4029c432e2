// SPDX-License-Identifier: MIT
#pragma once

#include "solve/sweep.cuh"

// cut_cpu.cc for one warp, step by step with the same result. Set s of live ranks (a bit mask of up
// to 8) is in register s / 32 of lane s % 32.
namespace lplb::solvers {

inline constexpr int kCutSweeps = 4;

template <bool kHeld>
class WarpCut {
 public:
  __device__ WarpCut(const BlockTables& tables, const BlockState& state, const Team<true>& team)
      : t_(tables), s_(state), team_(team), tiles_(tables, state, team) {}

  /// As BlockFlow::run(); has no steps to count.
  __device__ BlockOutcome run() {
    sum_confined_loads();
    raise_bound();
    tiles_.share_evenly();
    for (int i = 0; i < kCutSweeps && !fits(); ++i) tiles_.sweep();
    if (!fits()) {
      make_slacks();
      fix_experts();
    }
    int most = team_.lane() < t_.num_live ? s_.rank_load[t_.live_rank[team_.lane()]] : 0;
    most = __reduce_max_sync(~0u, most);
    return {bound_, most, 0, 1};
  }

 private:
  static constexpr int kSets = 8;  // a lane

  __device__ int set_of(int i) const { return i * kLanes + team_.lane(); }

  /// Lane i < num_live of the warp owns live rank i: its bit.
  __device__ int bit_of(int rank) const { return 1 << s_.label[rank]; }

  /// The load of the experts whose places all lie in a set: a sum over subsets.
  __device__ void sum_confined_loads() {
    const int lane = team_.lane();
    for (int i = 0; i < kSets; ++i) s_.sets[set_of(i)] = 0;
    if (lane < t_.num_live) s_.label[t_.live_rank[lane]] = lane;
    __syncwarp();
    if (lane < t_.num_live) s_.sets[1 << lane] = s_.fixed[t_.live_rank[lane]];
    __syncwarp();
    // An expert's set is kept in `met`, its first lane in `arc`.
    for (int k = lane; k < t_.num_replicated; k += kLanes) s_.met[k] = 0;
    __syncwarp();
    for (int slot = lane; slot < t_.num_tiles * kLanes; slot += kLanes) {
      const DeviceLane me = t_.lanes[slot];
      if (!is_place(me)) continue;
      atomicOr(&s_.met[me.expert], bit_of(me.rank));
      if (me.position == 0) s_.arc[me.expert] = slot;
    }
    __syncwarp();
    for (int k = lane; k < t_.num_replicated; k += kLanes) {
      atomicAdd(&s_.sets[s_.met[k]], s_.want[k]);
    }
    __syncwarp();
    for (int i = 0; i < kSets; ++i) confined_[i] = s_.sets[set_of(i)];
    for (int bit = 1; bit < kLanes; bit *= 2) {
      for (int i = 0; i < kSets; ++i) {
        const int without = __shfl_xor_sync(~0u, confined_[i], bit);
        if ((lane & bit) != 0) confined_[i] += without;
      }
    }
    for (int bit = 1; bit < kSets; bit *= 2) {
      for (int i = 0; i < kSets; ++i) {
        if ((i & bit) != 0) confined_[i] += confined_[i & ~bit];
      }
    }
  }

  /// T: the greatest ceil(confined / ranks). The proof: of the sets that give it the smallest ones,
  /// of these the heaviest, of these the first.
  /// NOTE: sets with bits beyond num_live weigh as their subset without, which is smaller.
  __device__ void raise_bound() {
    int level = 0;
    for (int i = 0; i < kSets; ++i) {
      if (set_of(i) != 0) level = max(level, ceil_div(confined_[i], __popc(set_of(i))));
    }
    bound_ = __reduce_max_sync(~0u, level);
    int size = kMaxCutRanks;
    for (int i = 0; i < kSets; ++i) {
      const int ranks = __popc(set_of(i));
      if (ranks > 0 && ceil_div(confined_[i], ranks) == bound_) size = min(size, ranks);
    }
    size = __reduce_min_sync(~0u, size);
    int load = 0;
    for (int i = 0; i < kSets; ++i) {
      if (__popc(set_of(i)) == size) load = max(load, confined_[i]);
    }
    load = __reduce_max_sync(~0u, load);
    int first = 256;
    for (int i = 0; i < kSets; ++i) {
      if (__popc(set_of(i)) == size && confined_[i] == load) first = min(first, set_of(i));
    }
    const int proof = __reduce_min_sync(~0u, first);
    for (int i = team_.lane(); i < BlockState::words(t_.num_ranks); i += kLanes) s_.proof[i] = 0;
    __syncwarp();
    if (team_.lane() < t_.num_live && (proof >> team_.lane() & 1) != 0) {
      add_bit(s_.proof, t_.live_rank[team_.lane()]);
    }
  }

  __device__ bool fits() const {
    const bool over =
        team_.lane() < t_.num_live && s_.rank_load[t_.live_rank[team_.lane()]] > bound_;
    return !team_.any(over);
  }

  /// slack(S) = what S can carry at the bound, at most the whole batch, less what must go there.
  __device__ void make_slacks() {
    const int total = __shfl_sync(~0u, confined_[kSets - 1], kLanes - 1);
    for (int i = 0; i < kSets; ++i) {
      const long long room = static_cast<long long>(bound_) * __popc(set_of(i));
      slack_[i] = static_cast<int>(min(room, static_cast<long long>(total))) - confined_[i];
    }
  }

  /// Corrects experts, place after place, to what the slacks allow, until all ranks fit.
  __device__ void fix_experts() {
    for (int k = 0; k < t_.num_replicated; ++k) {
      if (fits()) return;
      fix_expert(k);
    }
  }

  /// NOTE: an expert has at most 8 places here, in one tile.
  __device__ void fix_expert(int k) {
    int slot = s_.arc[k];
    int others = s_.met[k];
    int left = s_.want[k];
    for (const int last = slot + t_.lanes[slot].count - 1; slot < last; ++slot) {
      const int here = bit_of(t_.lanes[slot].rank);
      others &= ~here;
      const int took = s_.take[slot];
      const int tokens = commit(here, others, took, left);
      __syncwarp();
      set_take(slot, took, tokens);
      left -= tokens;
    }
    __syncwarp();
    set_take(slot, s_.take[slot], left);
    __syncwarp();
  }

  __device__ void set_take(int slot, int took, int tokens) const {
    if (team_.lane() != 0 || took == tokens) return;
    s_.take[slot] = tokens;
    s_.rank_load[t_.lanes[slot].rank] += tokens - took;
  }

  /// How many of `left` tokens `here` takes for good, `others` sharing the rest: as near to `took`
  /// as the slacks allow, which are updated.
  __device__ int commit(int here, int others, int took, int left) {
    int high = left;
    int least = 0x7FFFFFFF;
    unsigned takes = 0;  // bit i: set i holds `here`, not all others
    unsigned rest = 0;   // bit i: set i holds all others, not `here`
    for (int i = 0; i < kSets; ++i) {
      const int set = set_of(i);
      const bool has_here = (set & here) != 0;
      const bool has_others = (set & others) == others;
      if (has_here && !has_others) {
        high = min(high, slack_[i]);
        takes |= 1u << i;
      } else if (!has_here && has_others) {
        least = min(least, slack_[i]);
        rest |= 1u << i;
      }
    }
    high = __reduce_min_sync(~0u, high);
    const int low = max(0, left - __reduce_min_sync(~0u, least));
    const int tokens = min(max(took, low), high);
    for (int i = 0; i < kSets; ++i) {
      if ((takes >> i & 1) != 0) slack_[i] -= tokens;
      if ((rest >> i & 1) != 0) slack_[i] -= left - tokens;
    }
    return tokens;
  }

  const BlockTables& t_;
  const BlockState& s_;
  const Team<true>& team_;
  const TeamTiles<true, kHeld> tiles_;
  int bound_ = 0;
  int confined_[kSets];
  int slack_[kSets];
};

}  // namespace lplb::solvers
