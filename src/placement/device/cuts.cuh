// SPDX-License-Identifier: MIT
#pragma once

#include "placement/device/memory.cuh"

namespace lplb::placement {

/// The edits of a candidate: the two experts whose ranks they change, with these ranks before and
/// after. An expert of -1 is an empty slot.
template <int kWords>
struct CutChange {
  using Set = RankSet<kWords>;

  int expert[2];
  Set before[2], after[2];

  /// By how much expert `i` changes the load inside a cut, in its tokens: -1, 0 or 1.
  __device__ __forceinline__ int by(int i, const Set& member) const {
    return (after[i].is_within(member) ? 1 : 0) - (before[i].is_within(member) ? 1 : 0);
  }
};

/// A SearchCandidate's edits.
struct SearchEdits {
  int slot[2], expert[2];
  bool is_exchange;

  static constexpr unsigned kNone = 0xFFF;

  __device__ __forceinline__ explicit SearchEdits(unsigned long long edits) {
    slot[0] = static_cast<int>(edits >> 36 & 0xFFF);
    expert[0] = static_cast<int>(edits >> 24 & 0xFFF);
    slot[1] = static_cast<int>(edits >> 12 & 0xFFF);
    expert[1] = static_cast<int>(edits & 0xFFF);
    is_exchange = (edits & 0xFFFFFF) != 0xFFFFFF;
  }
  static __device__ __forceinline__ unsigned long long pack(int slot, int expert) {
    return static_cast<unsigned long long>(slot) << 36 |
           static_cast<unsigned long long>(expert) << 24 | 0xFFFFFF;
  }
  static __device__ __forceinline__ unsigned long long pack(int slot, int expert, int slot1,
                                                            int expert1) {
    return static_cast<unsigned long long>(slot) << 36 |
           static_cast<unsigned long long>(expert) << 24 |
           static_cast<unsigned long long>(slot1) << 12 | static_cast<unsigned long long>(expert1);
  }
};

/// The cuts of WindowJudge. Warp w keeps what they say of batches w, w + num_warps and so on; all
/// warps know when each was last used, lane l that of cuts l and 32 + l.
template <int kWords>
class SearchCutSet {
 public:
  using Set = RankSet<kWords>;
  using Change = CutChange<kWords>;

  __device__ __forceinline__ explicit SearchCutSet(const SearchArrays<kWords>& arrays)
      : a_(arrays) {}

  __device__ __forceinline__ void clear(int num_batches) {
    num_batches_ = num_batches;
    num_cuts_ = 0;
    clock_ = 0;
    last_use_[0] = last_use_[1] = 0;
  }

  /// WindowJudge::may_gain(), by one thread.
  __device__ __forceinline__ bool may_gain(int e, int rank) const {
    const Set ranks = a_.ranks[e];
    for (int b = 0; b < num_batches_; ++b) {
      const Set member = a_.member[a_.highest[b]];
      if (ranks.is_within(member) && !member.has(rank) && a_.want_of(b, e) > 0) return true;
    }
    return false;
  }

  /// WindowJudge::bound(), by one thread.
  __device__ __forceinline__ long long bound(const Change& change) const {
    unsigned long long more[2] = {0, 0};  // the cuts that have more of an expert inside, and less
    unsigned long long less[2] = {0, 0};
    for (int c = 0; c < num_cuts_; ++c) {
      const Set member = a_.member[c];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int by = change.by(i, member);
        more[i] |= (by > 0 ? 1ull : 0ull) << c;
        less[i] |= (by < 0 ? 1ull : 0ull) << c;
      }
    }
    const unsigned long long changed = more[0] | more[1] | less[0] | less[1];
    long long sum = 0;
    for (int b = 0; b < num_batches_; b += 4) {
      int lower[4] = {0, 0, 0, 0};
      int want[2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        want[0][i] = want_of(change, 0, b + i);
        want[1][i] = want_of(change, 1, b + i);
      }
      for (int c = 0; c < num_cuts_; ++c) {
        const int first = c * a_.padded + b;
        if ((changed >> c & 1) == 0) {
#pragma unroll
          for (int i = 0; i < 4; ++i) lower[i] = max(lower[i], a_.floor[first + i]);
          continue;
        }
        const int by_0 = static_cast<int>(more[0] >> c & 1) - static_cast<int>(less[0] >> c & 1);
        const int by_1 = static_cast<int>(more[1] >> c & 1) - static_cast<int>(less[1] >> c & 1);
        const double inverse = a_.inverse[c];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int inside = a_.inside[first + i] + by_0 * want[0][i] + by_1 * want[1][i];
          lower[i] = max(lower[i], level_of(inside, inverse));
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (b + i < num_batches_) sum += a_.weight[b + i] * lower[i];
      }
    }
    return sum;
  }

  /// The same by a warp, which leaves the lower bounds of the batches in `lower` [num_batches].
  __device__ __forceinline__ long long bound(const Change& change, int* lower) const {
    int by[2];  // of cuts `lane` and 32 + `lane`: that of expert 0, and 4 times that of expert 1
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int c = 32 * half + a_.lane;
      by[half] = 0;
      if (c < num_cuts_) {
        const Set member = a_.member[c];
        by[half] = change.by(0, member) + 4 * change.by(1, member);
      }
    }
    long long sum = 0;
    // With few batches several lanes share one, each with some of the cuts.
    const int width = num_batches_ <= 8 ? 8 : num_batches_ <= 16 ? 16 : 32;
#pragma unroll 1
    for (int first = 0; first < num_batches_; first += width) {
      const int b = first + a_.lane % width;
      const int want_0 = want_of(change, 0, b);
      const int want_1 = want_of(change, 1, b);
      int most = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll 4
        for (int i = a_.lane / width; i < 32; i += device::kWarpSize / width) {
          const int both = __shfl_sync(kAllLanes, by[half], i);
          const int c = 32 * half + i;
          if (c >= num_cuts_ || b >= num_batches_) continue;
          int level = a_.floor[c * a_.padded + b];
          if (both != 0) {
            const int by_1 = (both + 1) >> 2;  // -1, 0 or 1
            const int inside =
                a_.inside[c * a_.padded + b] + (both - 4 * by_1) * want_0 + by_1 * want_1;
            level = level_of(inside, a_.inverse[c]);
          }
          most = max(most, level);
        }
      }
#pragma unroll 1
      for (int bits = width; bits < device::kWarpSize; bits *= 2) {
        most = max(most, __shfl_xor_sync(kAllLanes, most, bits));
      }
      if (a_.lane < width && b < num_batches_) {
        lower[b] = most;
        sum += a_.weight[b] * most;
      }
    }
#pragma unroll
    for (int bits = 1; bits < device::kWarpSize; bits *= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, bits);
    }
    return sum;
  }

  /// WindowJudge::move_cuts() for all edits of a change. Each warp for its batches.
  __device__ __forceinline__ void move(const Change& change) const {
#pragma unroll 1
    for (int c = a_.lane; c < num_cuts_; c += device::kWarpSize) {
      const Set member = a_.member[c];
      if (change.by(0, member) == 0 && change.by(1, member) == 0) continue;
#pragma unroll 1
      for (int b = a_.warp; b < num_batches_; b += a_.num_warps) {
        const int inside = inside_after(change, c, b);
        a_.inside[c * a_.padded + b] = inside;
        a_.floor[c * a_.padded + b] = level_of(inside, a_.inverse[c]);
      }
    }
    __syncwarp();
  }

  /// WindowJudge::keep_cut(). All warps call it; no warp may use a cut until the next barrier.
  __device__ __forceinline__ void keep(const Set& set) {
    int at = num_cuts_;
    if (num_cuts_ < kSearchCuts) {
      ++num_cuts_;
    } else {
      const unsigned least = __reduce_min_sync(kAllLanes, min(last_use_[0], last_use_[1]));
      const unsigned low = __ballot_sync(kAllLanes, last_use_[0] == least);
      const unsigned high = __ballot_sync(kAllLanes, last_use_[1] == least);
      at = low != 0 ? __ffs(static_cast<int>(low)) - 1 : 31 + __ffs(static_cast<int>(high));
    }
    use(at, ++clock_);
    const double inverse = 1.0 / static_cast<double>(set.count());
    if (a_.warp == 0 && a_.lane == 0) {
      a_.member[at] = set;
      a_.inverse[at] = inverse;
    }
#pragma unroll 1
    for (int b = a_.warp; b < num_batches_; b += a_.num_warps) {
      int sum = 0;
#pragma unroll 4
      for (int e = a_.lane; e < a_.num_logical; e += device::kWarpSize) {
        sum += a_.ranks[e].is_within(set) ? a_.want_of(b, e) : 0;
      }
      sum = __reduce_add_sync(kAllLanes, sum);
      if (a_.lane == 0) {
        a_.inside[at * a_.padded + b] = sum;
        a_.floor[at * a_.padded + b] = level_of(sum, inverse);
      }
    }
    __syncwarp();
  }

  /// WindowJudge::find_highest(), but for use_highest(). Needs a barrier before and after.
  __device__ __forceinline__ void find_highest() const {
#pragma unroll 1
    for (int b = a_.warp; b < num_batches_; b += a_.num_warps) {
      double most = -1;
      int at = 0;
      for (int c = a_.lane; c < num_cuts_; c += device::kWarpSize) {
        const double level = static_cast<double>(a_.inside[c * a_.padded + b]) * a_.inverse[c];
        at = level > most ? c : at;
        most = level > most ? level : most;
      }
#pragma unroll
      for (int bits = 1; bits < device::kWarpSize; bits *= 2) {
        const double level = __shfl_xor_sync(kAllLanes, most, bits);
        const int other = __shfl_xor_sync(kAllLanes, at, bits);
        const bool is_better = level > most || (level == most && other < at);
        at = is_better ? other : at;
        most = is_better ? level : most;
      }
      if (a_.lane == 0) a_.highest[b] = at;
    }
  }
  __device__ __forceinline__ void use_highest() {
    use(0, ++clock_);
#pragma unroll 1
    for (int b = 0; b < num_batches_; ++b) use(a_.highest[b], clock_);
  }

 private:
  __device__ __forceinline__ void use(int cut, unsigned time) {
    last_use_[0] = cut == a_.lane ? time : last_use_[0];
    last_use_[1] = cut == 32 + a_.lane ? time : last_use_[1];
  }

  static __device__ __forceinline__ int level_of(int inside, double inverse) {
    return static_cast<int>(static_cast<double>(inside) * inverse);
  }
  __device__ __forceinline__ int inside_after(const Change& change, int c, int b) const {
    int inside = a_.inside[c * a_.padded + b];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int by = change.by(i, a_.member[c]);
      if (by != 0) inside += by * a_.want_of(b, change.expert[i]);
    }
    return inside;
  }
  /// What a batch wants of expert `i`; 0 if there is no such batch or expert.
  __device__ __forceinline__ int want_of(const Change& change, int i, int b) const {
    const int e = change.expert[i];
    return e >= 0 && b < num_batches_ ? a_.want_of(b, e) : 0;
  }

  const SearchArrays<kWords> a_;
  int num_batches_ = 0;
  int num_cuts_ = 0;
  unsigned clock_ = 0;
  unsigned last_use_[2] = {0, 0};
};

}  // namespace lplb::placement
