// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/sweep.cuh"

// cut_cpu.cc for nine warps, with the same result. A set of live ranks is a bit mask of up to 8
// bits. Each thread of the last eight warps owns a set: warp w has the sets whose high bits are w.
//
//   warp 0           shares the tokens evenly, and sweeps
//   warps 1 to 8     find the bound in parallel with the even split; then they fix experts in
//                    parallel with the sweeps, on arrays of their own
//
// If the sweeps end at the bound, the others stop at the next expert. Otherwise what they fixed is
// the result.
namespace lplb::solvers {

inline constexpr int kCutSweeps = 4;
inline constexpr int kSetWarps = (1 << kMaxCutRanks) / kWarpSize;
inline constexpr int kSetThreads = kSetWarps * kWarpSize;
static_assert(kCutThreads == kWarpSize + kSetThreads);

class BlockCut {
 public:
  __device__ BlockCut(const BlockTables& tables, const BlockState& state, int thread)
      : t_(tables),
        s_(state),
        thread_(thread),
        lane_(thread % kWarpSize),
        set_(thread - kWarpSize),
        rank_(lane_ < tables.num_live ? static_cast<int>(tables.live_rank[lane_]) : -1) {}

  /// kCutThreads threads call it, after `want` and `fixed` are filled and synchronised. The first
  /// thread gets the outcome.
  __device__ __forceinline__ BlockOutcome run() {
    if (thread_ >= kWarpSize) {
      find_bound();
      fix_experts();
      return {};
    }
    return sweep();
  }

 private:
  static constexpr int kNone = 0x7FFFFFFF;
  static constexpr int kFixSlots = 3;
  static_assert(kFixSlots + kSetWarps <= kCutSlots);
  // Warp 0 waits for the others twice, and they never wait for it. NOTE: synccheck of
  // compute-sanitizer takes a barrier at which warps wait in two places of the code for one that
  // some threads miss; so the others only arrive.
  static constexpr int kSetsName = 2, kBoundName = 3, kFixedName = 4;

  // Warp 0.

  __device__ __forceinline__ BlockOutcome sweep() {
    const WarpTeam team(lane_);
    share_evenly(t_, s_, team);
    Sweeper<WarpTeam> sweeper(t_, s_, team);
    device::sync_named<kBoundName, kCutThreads>();
    bound_ = read_bound();
    bool fits = load_fits();
#pragma unroll 1
    for (int i = 0; i < kCutSweeps && !fits; ++i) {
      sweeper.sweep([&] { return load_fits(); });
      fits = load_fits();
    }
    if (fits) {
      if (lane_ == 0) device::raise_flag(&s_.scalars->fits);
      sweeper.finish();
    }
    device::sync_named<kFixedName, kCutThreads>();
    if (!fits) take_fixed();
    return {bound_, bound_, 0, 1};
  }

  __device__ __forceinline__ bool load_fits() const {
    return !__any_sync(~0u, rank_ >= 0 && s_.rank_load[rank_] > bound_);
  }

  /// The bound, after the barrier that ends find_bound() of the other warps.
  __device__ __forceinline__ int read_bound() const {
    return __reduce_max_sync(~0u, s_.slots[kFixSlots + lane_ % kSetWarps].x);
  }

  /// The first of the heaviest of the smallest sets that give the bound. NOTE: a set with bits from
  /// num_live on weighs the same as its subset without these bits, which is smaller.
  __device__ __forceinline__ void put_proof() const {
    const auto proof = static_cast<unsigned>(s_.scalars->proof & 0xFF);
#pragma unroll 1
    for (int i = lane_; i < BlockState::words(t_.num_ranks); i += kWarpSize) s_.proof[i] = 0;
    __syncwarp();
    if (rank_ >= 0 && (proof >> lane_ & 1) != 0) add_bit(s_.proof, rank_);
    __syncwarp();
  }

  /// Copies what the other warps fixed, and adds up the loads.
  __device__ __forceinline__ void take_fixed() const {
    const WarpTeam team(lane_);
    put_fixed_loads(t_, s_, team);
    __syncwarp();
    const int places = t_.place_begin[t_.num_replicated];
#pragma unroll 1
    for (int i = lane_; i < places; i += kWarpSize) {
      const int first = s_.met[i / 2];
      const int tokens = !fixes_pairs() ? s_.fixed_take[i]
                         : (i & 1) == 0 ? first
                                        : s_.want[i / 2] - first;
      s_.take[i] = tokens;
      atomicAdd(&s_.rank_load[t_.place_rank[i]], tokens);
    }
    __syncwarp();
  }

  // Warps 1 to 8.

  __device__ __forceinline__ int set_warp() const { return set_ / kWarpSize; }
  __device__ static void sync_sets() { device::sync_named<kSetsName, kSetThreads>(); }

  /// confined_ = load of the experts whose places all lie in the set: a sum over its subsets. Then
  /// the bound T: the greatest ceil(confined / ranks) of a set.
  __device__ __forceinline__ void find_bound() {
    s_.sets[set_] = 0;
    if (fixes_pairs() && set_ < t_.num_replicated) pair_slots()[set_] = int2{kNone, kNone};
    if (set_ == 0) {
      s_.scalars->fits = 0;
      s_.scalars->proof = ~0ull;
    }
    sync_sets();
    if (set_ < t_.num_live) atomicAdd(&s_.sets[1 << set_], s_.fixed[rank_]);
#pragma unroll 1
    for (int k = set_; k < t_.num_replicated; k += kSetThreads) {
      atomicAdd(&s_.sets[t_.live_set[k]], s_.want[k]);
    }
    sync_sets();
    // The high bits of a subset are a subset of the warp's number; the low ones, of the lane's.
    int confined = 0;
#pragma unroll
    for (int high = 0; high < kSetWarps; ++high) {
      confined += (high & ~set_warp()) == 0 ? s_.sets[high * kWarpSize + lane_] : 0;
    }
#pragma unroll
    for (int bit = 1; bit < kWarpSize; bit *= 2) {
      const int without = __shfl_xor_sync(~0u, confined, bit);
      confined += (lane_ & bit) != 0 ? without : 0;
    }
    const int size = __popc(static_cast<unsigned>(set_));
    const int level = size == 0 ? 0 : t_.divide_up_by_few(confined, max(size, 1));
    const int most = __reduce_max_sync(~0u, level);
    // The last set has all tokens.
    if (lane_ == kWarpSize - 1) s_.slots[kFixSlots + set_warp()] = int2{most, confined};
    if (set_ == 0) s_.slots[0] = int2{kNone, kNone};
    device::arrive_at_named<kBoundName, kCutThreads>();
    sync_sets();
    bound_ = read_bound();
    if (level == bound_ && size > 0) {
      // By size, then the heaviest, then the first.
      atomicMin(&s_.scalars->proof, static_cast<unsigned long long>(size) << 40 |
                                        static_cast<unsigned long long>(kNone - confined) << 8 |
                                        static_cast<unsigned>(set_));
    }
    // What the set can carry at the bound, at most the total of the batch, less what must go there.
    const int total = s_.slots[kFixSlots + kSetWarps - 1].y;
    const long long room = static_cast<long long>(bound_) * size;
    slack_ = static_cast<int>(min(room, static_cast<long long>(total))) - confined;
  }

  /// The even split of an expert, as share_evenly() makes it.
  __device__ __forceinline__ void share_expert(int k) const {
    const int want = s_.want[k];
    const int begin = t_.place_begin[k];
    const int count = t_.place_begin[k + 1] - begin;
    const int each = t_.divide_by_few(want, count);
    const int extra = want - each * count;
#pragma unroll 1
    for (int i = 0; i < count; ++i) s_.fixed_take[begin + i] = each + (i < extra ? 1 : 0);
  }

  /// Whether all experts have two places, and there is a thread for each.
  __device__ bool fixes_pairs() const {
    return t_.most_places == 2 && t_.num_replicated <= kSetThreads;
  }

  /// Corrects the even split expert by expert, until the sweeps have ended at the bound.
  __device__ __forceinline__ void fix_experts() {
    if (fixes_pairs()) {
      fix_pairs();
    } else {
#pragma unroll 1
      for (int k = set_; k < t_.num_replicated; k += kSetThreads) share_expert(k);
      sync_sets();
      bool goes_on = true;
#pragma unroll 1
      for (int k = 0; k < t_.num_replicated && goes_on; ++k) goes_on = fix_expert(k);
    }
    device::arrive_at_named<kFixedName, kCutThreads>();
    sync_sets();  // all sets have offered themselves as the proof
    if (set_warp() == 0) put_proof();
  }

  /// Where the warps exchange minima for each pair.
  __device__ int2* pair_slots() const { return reinterpret_cast<int2*>(s_.fixed_take); }

  /// fix_experts() if all experts have two places: what the first place of expert k takes becomes
  /// met[k]. The next expert is read while the warps wait for each other. NOTE: every instruction
  /// counts here, because no other warp hides its latency.
  __device__ __forceinline__ void fix_pairs() {
    const int count = t_.num_replicated;
    int next_want = s_.want[0];
    unsigned next_set = t_.live_set[0];
    int mine = 0;
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
      const int want = next_want;
      const unsigned here = next_set & (0u - next_set);
      const bool has_here = (static_cast<unsigned>(set_) & here) != 0;
      const bool has_other = (static_cast<unsigned>(set_) & (next_set ^ here)) != 0;
      const bool takes = has_here && !has_other;
      const bool rests = has_other && !has_here;
      give_minima(&pair_slots()[k].x, takes, rests);
      // NOTE: after the last expert this reads what follows, and nobody uses it.
      next_want = s_.want[k + 1];
      next_set = t_.live_set[k + 1];
      sync_sets();
      const int2 least = pair_slots()[k];
      if (least.x < 0) return;
      const int half = (want >> 1) + (want & 1);
      const int tokens = min(max(half, want - least.y), min(want, least.x));
      slack_ -= takes ? tokens : rests ? want - tokens : 0;
      mine = set_ == k ? tokens : mine;
    }
    if (set_ < count) s_.met[set_] = mine;
  }

  /// Corrects the expert's tokens to what the slacks allow, place by place. Returns false if the
  /// sweeps have ended at the bound.
  __device__ __forceinline__ bool fix_expert(int k) {
    const int last = t_.place_begin[k + 1] - 1;
    unsigned others = t_.live_set[k];
    int left = s_.want[k];
#pragma unroll 1
    for (int place = t_.place_begin[k]; place < last; ++place) {
      const unsigned here = others & (0u - others);
      others ^= here;
      const int took = s_.fixed_take[place];
      const bool has_here = (static_cast<unsigned>(set_) & here) != 0;
      const bool has_others = (static_cast<unsigned>(set_) & others) == others;
      const bool takes = has_here && !has_others;
      const bool rests = has_others && !has_here;
      give_minima(&s_.slots[turn_].x, takes, rests);
      const int2 least = take_minima();
      if (least.x < 0) return false;
      const int tokens = min(max(took, left - least.y), min(left, least.x));
      slack_ -= takes ? tokens : rests ? left - tokens : 0;
      if (set_ == 0) s_.fixed_take[place] = tokens;
      left -= tokens;
    }
    if (set_ == 0) s_.fixed_take[last] = left;
    return true;
  }

  /// Finds the least slack of the sets that take what `here` gets, and of those that take the rest.
  /// NOTE: one set has `here` and not all others, and another one all others and not `here`, so
  /// both minima exist. The first is -1 if the sweeps have ended at the bound.
  __device__ __forceinline__ void give_minima(int* slot, bool takes, bool rests) {
    const int high = __reduce_min_sync(~0u, takes ? slack_ : kNone);
    const int least = __reduce_min_sync(~0u, rests ? slack_ : kNone);
    if (lane_ < 2) atomicMin(slot + lane_, stops_ ? -1 : lane_ == 0 ? high : least);
    // NOTE: for the next expert, so that nobody waits for the answer.
    stops_ = set_ == 0 && device::is_raised(&s_.scalars->fits);
  }
  __device__ __forceinline__ int2 take_minima() {
    // Three slots take turns: in one step a slot is filled and read, in the next it rests, and then
    // it is emptied, while others fill the next one.
    const int next = turn_ == 2 ? 0 : turn_ + 1;
    if (set_ == kWarpSize) s_.slots[next] = int2{kNone, kNone};
    sync_sets();
    const int2 least = s_.slots[turn_];
    turn_ = next;
    return least;
  }

  const BlockTables& t_;
  const BlockState& s_;
  const int thread_;
  const int lane_;
  const int set_;   // of a thread of warps 1 to 8
  const int rank_;  // the live rank of this number; -1: none
  int bound_ = 0;
  int slack_ = 0;
  int turn_ = 0;        // the slot of the next minima
  bool stops_ = false;  // of the first set's thread: the sweeps have ended at the bound
};

}  // namespace lplb::solvers
