// SPDX-License-Identifier: MIT
#pragma once

#include "placement/device/cuts.cuh"

namespace lplb::placement {

/// What a search may still do.
struct SearchLimitsNow {
  long long value, moves, max_moves, least_gain, move_gain, home_gain;

  /// HomesSearch::needed().
  __device__ __forceinline__ long long needed(int more_moves, bool of_homes) const {
    return least_gain + max(more_moves, 0) * (of_homes ? home_gain : move_gain);
  }
};

/// The candidates of a round: HomesSearch's lists, made and sorted by all threads of a block.
template <int kWords>
class CandidateList {
 public:
  using Set = RankSet<kWords>;
  using Change = CutChange<kWords>;
  using Cuts = SearchCutSet<kWords>;

  __device__ __forceinline__ CandidateList(const SearchArgs& args,
                                           const SearchArrays<kWords>& arrays)
      : a_(arrays),
        raw_(args.raw + blockIdx.x * args.most_candidates),
        list_(args.list + blockIdx.x * args.most_candidates) {}

  __device__ __forceinline__ const SearchCandidate& at(int i) const { return list_[i]; }
  __device__ __forceinline__ bool is_of_homes() const { return of_homes_; }

  /// HomesSearch::is_allowed().
  __device__ __forceinline__ bool is_allowed(const SearchEdits& c) const {
    const int rank = c.slot[0] / a_.slots;
    if (a_.ranks[c.expert[0]].has(rank)) return false;
    if (!c.is_exchange) return true;
    return !a_.ranks[c.expert[1]].has(c.slot[1] / a_.slots) &&
           a_.expert[c.slot[0]] == c.expert[1] && a_.expert[c.slot[1]] == c.expert[0];
  }

  /// HomesSearch::more_moves(). Returns whether the limit of moves allows them.
  __device__ __forceinline__ bool may_move(const SearchEdits& c, const SearchLimitsNow& now,
                                           int& moves) const {
    moves = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i == 1 && !c.is_exchange) continue;
      const int rank = c.slot[i] / a_.slots;
      const int old = a_.expert[c.slot[i]];
      moves += a_.held[c.expert[i]].has(rank) ? 0 : 1;
      moves -= old < 0 || a_.held[old].has(rank) ? 0 : 1;
    }
    return moves <= 0 || now.moves + moves <= now.max_moves;
  }

  __device__ __forceinline__ Change change_of(const SearchEdits& c) const {
    Change change;
    const int rank = c.slot[0] / a_.slots;
    const int old = a_.expert[c.slot[0]];
    change.expert[0] = old;
    change.expert[1] = c.expert[0];
    change.before[0] = old < 0 ? Set::none() : a_.ranks[old];
    change.before[1] = a_.ranks[c.expert[0]];
    change.after[0] = change.before[0].without(rank);
    change.after[1] = change.before[1].with(rank);
    if (c.is_exchange) {
      const int other = c.slot[1] / a_.slots;
      change.after[0] = change.after[0].with(other);
      change.after[1] = change.after[1].without(other);
    }
    return change;
  }

  /// HomesSearch::try_replacements() but for the trials. Returns how many are listed. Begins and
  /// ends in a barrier, as exchanges() does.
  __device__ __forceinline__ int replacements(const Cuts& cuts, const SearchJob& job,
                                              const int* slots, const SearchLimitsNow& now) {
    of_homes_ = false;
    begin();
    const int pairs = job.num_free * a_.num_logical;
#pragma unroll 1
    for (int i = thread(); i < pairs; i += num_threads()) {
      const int slot = slots[i / a_.num_logical];
      const int e = i % a_.num_logical;
      if (cuts.may_gain(e, slot / a_.slots)) add(SearchEdits::pack(slot, e), now);
    }
    return finish(cuts, now);
  }

  /// HomesSearch::try_exchanges() but for the trials.
  __device__ __forceinline__ int exchanges(const Cuts& cuts, const int* slots, int count,
                                           bool of_homes, const SearchLimitsNow& now) {
    of_homes_ = of_homes;
    begin();
    // Row i of the triangle and row count - 1 - i together have `count` - 1 pairs.
    const int pairs = (count + 1) / 2 * count;
#pragma unroll 1
    for (int i = thread(); i < pairs; i += num_threads()) {
      int p = i / count;
      int q = i % count;
      if (q <= p) {
        p = count - 1 - p;
        q = count - 1 - q;
        if (2 * p < count) continue;  // the middle row, which is there once
      }
      if (q <= p) continue;
      const int a = a_.expert[slots[p]];
      const int b = a_.expert[slots[q]];
      if (a == b || a < 0 || b < 0) continue;
      add(SearchEdits::pack(slots[p], b, slots[q], a), now);
    }
    return finish(cuts, now);
  }

 private:
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int num_threads() { return static_cast<int>(blockDim.x); }

  __device__ __forceinline__ void begin() const {
    __syncthreads();
    if (threadIdx.x == 0) *a_.scalars = {0, 0, kNoBatch};
    __syncthreads();
  }

  /// Notes a candidate whose bound is to be found.
  __device__ __forceinline__ void add(unsigned long long packed, const SearchLimitsNow& now) const {
    const SearchEdits edits(packed);
    int moves;
    if (!is_allowed(edits) || !may_move(edits, now, moves)) return;
    raw_[atomicAdd(&a_.scalars->num_raw, 1u)] = {0, packed};
  }

  /// Lists those whose bound promises what they need, and sorts them.
  __device__ __forceinline__ int finish(const Cuts& cuts, const SearchLimitsNow& now) const {
    __syncthreads();
    const int num_raw = static_cast<int>(a_.scalars->num_raw);
#pragma unroll 1
    for (int i = thread(); i < num_raw; i += num_threads()) {
      const unsigned long long packed = raw_[i].edits;
      const SearchEdits edits(packed);
      int moves;
      may_move(edits, now, moves);
      const long long bound = cuts.bound(change_of(edits)) + now.needed(moves, of_homes_);
      if (bound <= now.value) list_[atomicAdd(&a_.scalars->num_listed, 1u)] = {bound, packed};
    }
    __syncthreads();
    const int count = static_cast<int>(a_.scalars->num_listed);
    sort(count);
    return count;
  }

  static __device__ __forceinline__ bool is_before(const SearchCandidate& a,
                                                   const SearchCandidate& b) {
    return a.bound < b.bound || (a.bound == b.bound && a.edits < b.edits);
  }

  /// A bitonic sort. Ends in a barrier.
  __device__ __forceinline__ void sort(int count) const {
    int size = 1;
    while (size < count) size *= 2;
#pragma unroll 1
    for (int i = count + thread(); i < size; i += num_threads()) {
      list_[i] = {0x7FFFFFFFFFFFFFFF, ~0ull};
    }
    __syncthreads();
#pragma unroll 1
    for (int run = 2; run <= size; run *= 2) {
#pragma unroll 1
      for (int far = run / 2; far > 0; far /= 2) {
#pragma unroll 1
        for (int k = thread(); k < size / 2; k += num_threads()) {
          const int low = k / far * 2 * far + k % far;
          const int high = low + far;
          const SearchCandidate a = list_[low];
          const SearchCandidate b = list_[high];
          const bool descends = (low & run) != 0;
          if (is_before(b, a) != descends) {
            list_[low] = b;
            list_[high] = a;
          }
        }
        __syncthreads();
      }
    }
  }

  const SearchArrays<kWords> a_;
  SearchCandidate *const raw_, *const list_;
  bool of_homes_ = false;
};

}  // namespace lplb::placement
