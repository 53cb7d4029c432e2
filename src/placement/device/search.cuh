// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "placement/device/candidates.cuh"
#include "placement/device/cuts.cuh"
#include "placement/device/flow.cuh"

namespace lplb::placement {

/// HomesSearch with a WindowJudge, for one block, with the same trials in the same order. Warps
/// share the batches of a trial, and look for the next trial side by side. What follows from
/// barriers is the same in all threads: value_, trials_, moves_ and which flows are in force.
template <int kWords>
class LayerSearch {
 public:
  using Set = RankSet<kWords>;

  /// `memory`: the block's shared memory.
  __device__ __forceinline__ LayerSearch(const SearchArgs& args, unsigned char* memory)
      : args_(args), a_(args, memory), cuts_(a_), list_(args, a_) {}

  /// Searches layer after layer.
  __device__ __forceinline__ void run() {
    const unsigned long long begin = args_.nanoseconds < 0 ? 0 : device::now_ns();
    const int step = static_cast<int>(gridDim.x);
    for (int i = static_cast<int>(blockIdx.x); i < args_.num_jobs; i += step) {
      deadline_ = ~0ull;
      if (args_.nanoseconds >= 0) {
        // Each layer gets its part of what is left.
        const unsigned long long end = begin + static_cast<unsigned long long>(args_.nanoseconds);
        const unsigned long long now = device::now_ns();
        const int left = (args_.num_jobs - i + step - 1) / step;
        deadline_ = now >= end ? end : now + (end - now) / static_cast<unsigned>(left);
      }
      __syncthreads();
      open(i);
      assign();
      const long long start = value_;
      bool gains = true;
      while (gains && !is_used_up()) {
        gains = false;
#pragma unroll 1
        for (int kind = 0; kind < 3 && !gains; ++kind) gains = try_listed(list_kind(kind));
      }
      close(i, start);
    }
  }

 private:
  __device__ __forceinline__ SearchLimitsNow limits() const {
    return {value_, moves_, job_.max_moves, job_.least_gain, job_.move_gain, job_.home_gain};
  }
  __device__ __forceinline__ bool is_used_up() const {
    return stopped_ || trials_ >= job_.max_trials;
  }

  /// Lists other experts in a slot, exchanges of two slots, or of two homes. Returns how many.
  __device__ __forceinline__ int list_kind(int kind) {
    if (kind == 0) return list_.replacements(cuts_, job_, lists_, limits());
    const int* const slots = lists_ + (kind == 2 ? job_.num_free : 0);
    const int count = kind == 2 ? job_.num_homes : job_.num_free;
    return list_.exchanges(cuts_, slots, count, kind == 2, limits());
  }

  template <class Body>
  __device__ __forceinline__ void for_each(int count, Body body) const {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
      body(i);
    }
  }

  /// Reads the layer. Ends in a barrier.
  __device__ __forceinline__ void open(int number) {
    const unsigned char* const image = args_.image + std::size_t{1} * number * args_.image_at.bytes;
    const SearchImage& at = args_.image_at;
    job_ = *reinterpret_cast<const SearchJob*>(image);
    lists_ = reinterpret_cast<const int*>(image + at.lists);
    const auto* const weight = reinterpret_cast<const long long*>(image + at.weight);
    const auto* const load = reinterpret_cast<const int*>(image + at.load);
    const auto* const held = reinterpret_cast<const Set*>(image + at.held);
    const auto* const experts = reinterpret_cast<const int*>(image + at.experts);
    for_each(job_.num_batches, [&](int b) { a_.weight[b] = weight[b]; });
    for_each(job_.num_batches * a_.num_logical, [&](int i) { a_.want[i] = load[i]; });
    for_each(a_.num_logical, [&](int e) {
      a_.held[e] = held[e];
      a_.ranks[e] = Set::none();
      a_.any[e] = -1;
    });
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int slot = 0; slot < a_.num_slots; ++slot) a_.put(slot, experts[slot]);
    }
    __syncthreads();
  }

  /// WindowJudge::assign(). Ends in a barrier.
  __device__ __forceinline__ void assign() {
    side_ = 0;
    turn_ = 0;
    trials_ = 0;
    moves_ = job_.moves_of_start;
    stopped_ = false;
    cuts_.clear(job_.num_batches);
    for_each_batch([&](int b) {
      int* const take = a_.take_of(0, b);
      int* const load = a_.load_of(0, b);
      for (int i = a_.lane; i < a_.num_slots; i += device::kWarpSize) take[i] = 0;
      for (int i = a_.lane; i < a_.num_ranks; i += device::kWarpSize) load[i] = 0;
      __syncwarp();
      int total = 0;
      for (int e = a_.lane; e < a_.num_logical; e += device::kWarpSize) {
        const int tokens = a_.want_of(b, e);
        total += tokens;
        take[a_.any[e]] = tokens;
        atomicAdd(&load[a_.any[e] / a_.slots], tokens);
      }
      total = __reduce_add_sync(kAllLanes, total);
      const int mean = total / a_.num_ranks + (total % a_.num_ranks != 0 ? 1 : 0);
      const int level = BatchFlow<kWords>(a_, 0, b).solve(mean, nullptr, 0, 0);
      if (a_.lane == 0) a_.level_of(0, b) = level;
    });
    __syncthreads();
    value_ = 0;
    Set all = Set::none();
    for (int g = 0; g < a_.num_ranks; ++g) all = all.with(g);
    cuts_.keep(all);
    for (int b = 0; b < job_.num_batches; ++b) {
      value_ += a_.weight[b] * a_.level_of(0, b);
      keep_found(b, a_.num_found[b]);
    }
    note_highest();
  }

  template <class Body>
  __device__ __forceinline__ void for_each_batch(Body body) const {
#pragma unroll 1
    for (int b = a_.warp; b < job_.num_batches; b += a_.num_warps) body(b);
  }

  __device__ __forceinline__ void keep_found(int batch, int count) {
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const unsigned* const cut = a_.found_cut(batch, i);
      Set set;
#pragma unroll
      for (int w = 0; w < kWords; ++w) set.word[w] = cut[w];
      cuts_.keep(set);
    }
  }

  /// Begins and ends in a barrier.
  __device__ __forceinline__ void note_highest() {
    __syncthreads();
    cuts_.find_highest();
    __syncthreads();
    cuts_.use_highest();
  }

  /// HomesSearch::try_candidates() for the first `count` of the list.
  __device__ __forceinline__ bool try_listed(int count) {
    bool any = false;
    int next = 0;
#pragma unroll 1
    while (next < count && !is_used_up()) {
      // Each warp looks at one of the next candidates; the first that passes is tried.
      SearchVote* const votes = a_.votes + turn_ * a_.num_warps;
      turn_ ^= 1;
      const int mine = next + a_.warp;
      SearchVote vote{0, 0, 0};
      if (mine < count) {
        const SearchEdits edits(list_.at(mine).edits);
        int moves;
        if (list_.is_allowed(edits) && list_.may_move(edits, limits(), moves)) {
          vote.sum = cuts_.bound(list_.change_of(edits), a_.lower + a_.warp * a_.padded);
          const long long needed = limits().needed(moves, of_homes(edits));
          vote.passes = vote.sum <= value_ - needed ? 1 : 0;
        }
      }
      if (deadline_ != ~0ull && a_.warp == 0) vote.stops = device::now_ns() >= deadline_ ? 1 : 0;
      if (a_.lane == 0) votes[a_.warp] = vote;
      __syncthreads();
      if (votes[0].stops != 0) {
        stopped_ = true;
        break;
      }
      const bool passes = a_.lane < a_.num_warps && votes[a_.lane].passes != 0;
      const int first = __ffs(static_cast<int>(__ballot_sync(kAllLanes, passes))) - 1;
      if (first < 0) {
        next += a_.num_warps;
        continue;
      }
      ++trials_;
      const SearchEdits edits(list_.at(next + first).edits);
      int moves;
      list_.may_move(edits, limits(), moves);
      const long long limit = value_ - limits().needed(moves, of_homes(edits));
      if (try_edits(edits, votes[first].sum, limit, a_.lower + first * a_.padded)) {
        moves_ += moves;
        any = true;
      }
      next += first + 1;
    }
    return any;
  }

  __device__ __forceinline__ bool of_homes(const SearchEdits& edits) const {
    return edits.is_exchange && list_.is_of_homes();
  }

  /// WindowJudge::try_edits() after bound(), which has found `sum` and `lower`. Ends in a barrier.
  __device__ __forceinline__ bool try_edits(const SearchEdits& edits, long long sum,
                                            long long limit, const int* lower) {
    const CutChange<kWords> change = list_.change_of(edits);
    const int count = edits.is_exchange ? 2 : 1;
    bool alone[2] = {false, false};  // the expert has no other slot
    int old[2] = {-1, -1};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i == count) break;
      const int slot = edits.slot[i];
      old[i] = a_.expert[slot];
      alone[i] = old[i] >= 0 && a_.next_of(a_.hop[slot]) == slot;
    }
    for_each_batch([&](int b) {
      copy_flow(b);
      if (a_.lane == 0) a_.reached[b] = lower[b];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (old[i] >= 0 && !alone[i]) drop_tokens(edits.slot[i], b);
      }
    });
    __syncthreads();
    if (threadIdx.x == 0) {
      a_.scalars->failed = kNoBatch;
      replace(edits, edits.expert);
    }
    __syncthreads();
    for_each_batch([&](int b) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (alone[i]) carry(a_.want_of(b, old[i]), edits.slot[i], a_.any[old[i]], b);
      }
      const int level =
          BatchFlow<kWords>(a_, 1 - side_, b).solve(lower[b], lower, limit - sum, job_.num_batches);
      if (a_.lane == 0) a_.level_of(1 - side_, b) = level;
    });
    __syncthreads();
    int last = 0;  // the batch that is too high, and how many of its cuts are kept
    int last_cuts = 0;
    const bool good = decide(sum, limit, lower, last, last_cuts);
    if (good) {
      side_ = 1 - side_;
      cuts_.move(change);
    } else if (threadIdx.x == 0) {
      replace(edits, old);
    }
    __syncthreads();
    for (int b = 0; b < last; ++b) keep_found(b, a_.num_found[b]);
    if (!good) keep_found(last, last_cuts);
    note_highest();
    return good;
  }

  /// Puts other experts into the slots of the edits, by one thread.
  __device__ __forceinline__ void replace(const SearchEdits& edits, const int (&experts)[2]) const {
    a_.lift(edits.slot[0]);
    if (edits.is_exchange) a_.lift(edits.slot[1]);
    a_.put(edits.slot[0], experts[0]);
    if (edits.is_exchange) a_.put(edits.slot[1], experts[1]);
  }

  /// Goes through the batches in order, as WindowJudge::try_edits() solves them, and finds the
  /// first cut with which their sum passes the limit. Without one the sum becomes the value. Those
  /// before the batch of that cut are solved; it and later ones may have been given up.
  __device__ __forceinline__ bool decide(long long sum, long long limit, const int* lower,
                                         int& last, int& last_cuts) {
    for (int b = 0; b < job_.num_batches; ++b) {
      const long long slack = limit - sum;
      const long long more = a_.weight[b] * (a_.level_of(1 - side_, b) - lower[b]);
      if (more <= slack) {
        sum += more;
        continue;
      }
      last = b;
      last_cuts = 0;
      for (bool above = false; !above; ++last_cuts) {
        const int level = static_cast<int>(a_.found_cut(b, last_cuts)[kWords]);
        above = a_.weight[b] * (level - lower[b]) > slack;
      }
      return false;
    }
    last = job_.num_batches;
    value_ = sum;
    return true;
  }

  __device__ __forceinline__ void copy_flow(int b) const {
    const int* const take = a_.take_of(side_, b);
    const int* const load = a_.load_of(side_, b);
    int* const trial_take = a_.take_of(1 - side_, b);
    int* const trial_load = a_.load_of(1 - side_, b);
#pragma unroll 4
    for (int i = a_.lane; i < a_.num_slots; i += device::kWarpSize) trial_take[i] = take[i];
    for (int i = a_.lane; i < a_.num_ranks; i += device::kWarpSize) trial_load[i] = load[i];
    __syncwarp();
  }

  /// WindowJudge::drop_tokens() and carry(), by one warp.
  __device__ __forceinline__ void drop_tokens(int slot, int b) const {
    const int* const load = a_.load_of(1 - side_, b);
    const int tokens = a_.take_of(1 - side_, b)[slot];
    if (tokens == 0) return;
    unsigned hop = a_.hop[slot];
    int best = a_.next_of(hop);
    int least = load[a_.rank_of(hop)];
    for (hop = a_.hop[best]; a_.next_of(hop) != slot; hop = a_.hop[a_.next_of(hop)]) {
      const int other = load[a_.rank_of(hop)];
      best = other < least ? a_.next_of(hop) : best;
      least = min(least, other);
    }
    __syncwarp();
    carry(tokens, slot, best, b);
  }
  __device__ __forceinline__ void carry(int tokens, int from, int to, int b) const {
    int* const take = a_.take_of(1 - side_, b);
    int* const load = a_.load_of(1 - side_, b);
    if (a_.lane == 0) {
      take[from] -= tokens;
      load[from / a_.slots] -= tokens;
      take[to] += tokens;
      load[to / a_.slots] += tokens;
    }
    __syncwarp();
  }

  /// Writes the result.
  __device__ __forceinline__ void close(int number, long long start) const {
    unsigned char* const to = args_.results + std::size_t{1} * number * args_.image_at.result_bytes;
    if (threadIdx.x == 0) {
      *reinterpret_cast<SearchResult*>(to) = {start, value_, moves_, trials_};
    }
    int* const experts = reinterpret_cast<int*>(to + sizeof(SearchResult));
    for_each(a_.num_slots, [&](int slot) { experts[slot] = a_.expert[slot]; });
  }

  const SearchArgs& args_;
  const SearchArrays<kWords> a_;
  SearchCutSet<kWords> cuts_;
  CandidateList<kWords> list_;
  SearchJob job_{};
  const int* lists_ = nullptr;
  unsigned long long deadline_ = 0;
  long long value_ = 0, trials_ = 0, moves_ = 0;
  int side_ = 0, turn_ = 0;
  bool stopped_ = false;
};

}  // namespace lplb::placement
