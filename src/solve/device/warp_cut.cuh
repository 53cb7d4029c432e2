// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/sweep.cuh"

// cut_cpu.cc for two warps, step by step with the same result. One warp finds the bound while the
// other one shares the tokens evenly; then the other one goes on alone. A set of live ranks is a
// bit mask of up to 8 bits; set s is in register s / 32 of lane s % 32. Lane i < num_live owns live
// rank i.
namespace lplb::solvers {

inline constexpr int kCutSweeps = 4;
inline constexpr int kCutThreads = 2 * kWarpSize;

class WarpCut {
 public:
  __device__ WarpCut(const BlockTables& tables, const BlockState& state, int thread)
      : t_(tables),
        s_(state),
        thread_(thread),
        lane_(thread % kWarpSize),
        rank_(lane_ < tables.num_live ? static_cast<int>(tables.live_rank[lane_]) : -1) {}

  /// kCutThreads threads call it, after `want` and `fixed` are filled and synchronised. The first
  /// warp gets the outcome.
  __device__ __forceinline__ BlockOutcome run() {
    const BlockTeam both(thread_, kCutThreads);
    if (thread_ >= kWarpSize) {
      sum_confined_loads();
      raise_bound();
      both.arrive();
      return {};
    }
    const WarpTeam team(lane_);
    share_evenly(t_, s_, team);
    Sweeper<WarpTeam> sweeper(t_, s_, team);
    both.sync();
    bound_ = s_.scalars->most;
#pragma unroll 1
    for (int i = 0; i < kCutSweeps && !fits(); ++i) {
      sweeper.sweep([&] { return fits(); });
    }
    sweeper.finish();
    load_ = rank_ >= 0 ? s_.rank_load[rank_] : 0;
    if (!fits_in_registers()) {
      make_slacks();
      // NOTE: stop when all ranks fit: the experts that are not fixed yet would not change.
#pragma unroll 1
      for (int k = 0; k < t_.num_replicated && !fits_in_registers(); ++k) fix_expert(k);
      if (rank_ >= 0) s_.rank_load[rank_] = load_;
      __syncwarp();
    }
    return {bound_, bound_, 0, 1};
  }

 private:
  static constexpr int kSets = 8;  // sets in each lane

  __device__ __forceinline__ int set_of(int i) const { return i * kWarpSize + lane_; }
  /// How many ranks set_of(i) has in addition to those in the lane's number.
  __device__ static constexpr int more_ranks(int i) { return (i & 1) + (i >> 1 & 1) + (i >> 2); }

  /// confined_[i] = load of the experts whose places all lie in set_of(i): a sum over its subsets.
  __device__ __forceinline__ void sum_confined_loads() {
#pragma unroll
    for (int i = 0; i < kSets; ++i) s_.sets[set_of(i)] = 0;
    __syncwarp();
    if (rank_ >= 0) {
      s_.sets[1 << lane_] = s_.fixed[rank_];
      s_.label[rank_] = lane_;
    }
    __syncwarp();
    // NOTE: all lanes run every iteration. If the lanes of a warp diverge, its shuffles are slow:
    // one call at a time.
#pragma unroll 1
    for (int first = 0; first < t_.num_replicated; first += kWarpSize) {
      const int k = first + lane_;
      if (k < t_.num_replicated) atomicAdd(&s_.sets[t_.live_set[k]], s_.want[k]);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kSets; ++i) confined_[i] = s_.sets[set_of(i)];
      // Sum over the bits of a set: the low ones are in the lane's number, the high ones in the
      // register's.
#pragma unroll
    for (int bit = 1; bit < kWarpSize; bit *= 2) {
#pragma unroll
      for (int i = 0; i < kSets; ++i) {
        const int without = __shfl_xor_sync(~0u, confined_[i], bit);
        confined_[i] += (lane_ & bit) != 0 ? without : 0;
      }
    }
#pragma unroll
    for (int bit = 1; bit < kSets; bit *= 2) {
#pragma unroll
      for (int i = 0; i < kSets; ++i) {
        if ((i & bit) != 0) confined_[i] += confined_[i & ~bit];
      }
    }
#pragma unroll
    for (int i = 0; i < kSets; ++i) s_.sets[set_of(i)] = confined_[i];
  }

  /// The bound T: the greatest ceil(confined / ranks) of a set. The proof: of the sets that give it
  /// the smallest, of these the heaviest, of these the first. NOTE: a set with bits from num_live
  /// on weighs the same as its subset without these bits, which is smaller.
  __device__ __forceinline__ void raise_bound() {
    // Only the heaviest of this lane's sets of each size counts. Their sizes differ by up to 3.
    const int least_size = __popc(lane_);
    int heaviest[4] = {};
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      heaviest[more_ranks(i)] = max(heaviest[more_ranks(i)], confined_[i]);
    }
    int level[4];
    int most = 0;
#pragma unroll
    for (int more = 0; more < 4; ++more) {
      const int size = least_size + more;
      level[more] = size == 0 ? -1 : t_.divide_up_by_few(heaviest[more], max(size, 1));
      most = max(most, level[more]);
    }
    const int bound = __reduce_max_sync(~0u, most);
    if (lane_ == 0) s_.scalars->most = bound;
    // The least size of a set that gives the bound, the greatest load of these, and the first of
    // these.
    int size = kMaxCutRanks;
#pragma unroll
    for (int more = 3; more >= 0; --more) size = level[more] == bound ? least_size + more : size;
    size = __reduce_min_sync(~0u, size);
    int load = 0;
#pragma unroll
    for (int more = 0; more < 4; ++more) load = least_size + more == size ? heaviest[more] : load;
    load = __reduce_max_sync(~0u, load);
    int first = 1 << kMaxCutRanks;
#pragma unroll
    for (int i = kSets - 1; i >= 0; --i) {
      if (least_size + more_ranks(i) == size && confined_[i] == load) first = set_of(i);
    }
    const int proof = __reduce_min_sync(~0u, first);
#pragma unroll 1
    for (int i = lane_; i < BlockState::words(t_.num_ranks); i += kWarpSize) s_.proof[i] = 0;
    __syncwarp();
    if (rank_ >= 0 && (proof >> lane_ & 1) != 0) add_bit(s_.proof, rank_);
    __syncwarp();
  }

  __device__ __forceinline__ bool fits() const {
    return !__any_sync(~0u, rank_ >= 0 && s_.rank_load[rank_] > bound_);
  }

  /// slack(S) = what S can carry at the bound, at most the total of the batch, less what must go
  /// there.
  __device__ __forceinline__ void make_slacks() {
#pragma unroll
    for (int i = 0; i < kSets; ++i) confined_[i] = s_.sets[set_of(i)];
    const int total = __shfl_sync(~0u, confined_[kSets - 1], kWarpSize - 1);
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      const long long room = static_cast<long long>(bound_) * __popc(set_of(i));
      slack_[i] = static_cast<int>(min(room, static_cast<long long>(total))) - confined_[i];
    }
  }

  __device__ __forceinline__ bool fits_in_registers() const {
    return !__any_sync(~0u, load_ > bound_);
  }

  /// Corrects the expert's tokens to what the slacks allow, place by place.
  __device__ __forceinline__ void fix_expert(int k) {
    const int last = t_.place_begin[k + 1] - 1;
    unsigned others = t_.live_set[k];
    int left = s_.want[k];
#pragma unroll 1
    for (int place = t_.place_begin[k]; place < last; ++place) {
      const int here = s_.label[t_.place_rank[place]];
      others &= ~(1u << here);
      const int took = s_.take[place];
      const int tokens = commit(1u << here, others, took, left);
      __syncwarp();  // all lanes have read it
      set_take(place, here, tokens);
      left -= tokens;
    }
    set_take(last, __ffs(static_cast<int>(others)) - 1, left);
  }

  /// The lane that owns rank `here` changes a take. NOTE: no other lane reads this take again.
  __device__ __forceinline__ void set_take(int place, int here, int tokens) {
    if (lane_ != here) return;
    load_ += tokens - s_.take[place];
    s_.take[place] = tokens;
  }

  /// Which of this lane's sets contain all of `ranks`: bit i stands for set_of(i). The low bits of
  /// a set are the lane's number, the high bits the register's.
  __device__ __forceinline__ unsigned holding(unsigned ranks) const {
    const unsigned low = ranks % kWarpSize;
    const unsigned registers = __byte_perm(0x88CCAAFFu, 0x80C0A0F0u, ranks / kWarpSize) & 0xFF;
    return (static_cast<unsigned>(lane_) & low) == low ? registers : 0;
  }

  /// Bit i of a word as a mask: all ones or 0.
  __device__ static unsigned spread_bit(unsigned word, int i) {
    return static_cast<unsigned>(static_cast<int>(word << (31 - i)) >> 31);
  }

  /// Fixes how many of `left` tokens `here` takes, if `others` share the rest: as near to `took` as
  /// the slacks allow. Updates the slacks.
  __device__ __forceinline__ int commit(unsigned here, unsigned others, int took, int left) {
    const unsigned with_here = holding(here);
    const unsigned with_others = holding(others);
    const unsigned takes = with_here & ~with_others;
    const unsigned rest = with_others & ~with_here;
    unsigned taking[kSets];  // all ones if the set is among them, else 0
    unsigned resting[kSets];
    unsigned high = ~0u;
    unsigned least = ~0u;
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      taking[i] = spread_bit(takes, i);
      resting[i] = spread_bit(rest, i);
      high = min(high, static_cast<unsigned>(slack_[i]) | ~taking[i]);
      least = min(least, static_cast<unsigned>(slack_[i]) | ~resting[i]);
    }
    // NOTE: slacks are >= 0, so they compare as unsigned. One set has `here` and not all others,
    // and another one all others and not `here`, so both minima exist.
    high = __reduce_min_sync(~0u, high);
    least = __reduce_min_sync(~0u, least);
    const int low = max(0, left - static_cast<int>(least));
    const int tokens = min(max(took, low), min(left, static_cast<int>(high)));
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      slack_[i] -= static_cast<int>((taking[i] & static_cast<unsigned>(tokens)) +
                                    (resting[i] & static_cast<unsigned>(left - tokens)));
    }
    return tokens;
  }

  const BlockTables& t_;
  const BlockState& s_;
  const int thread_;
  const int lane_;
  const int rank_;
  int bound_ = 0;
  int load_ = 0;  // of the rank, while experts are fixed
  int confined_[kSets];
  int slack_[kSets];
};

}  // namespace lplb::solvers
