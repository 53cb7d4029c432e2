// SPDX-License-Identifier: MIT
#pragma once

#include "map/sums.h"
#include "plan/device/entries.cuh"

namespace lplb::plan {

/// Divides this rank's tokens of each expert into segments, from the split and the counts of all
/// ranks.
class Segments {
 public:
  __device__ explicit Segments(Shared& shared) : s_(shared) {}

  /// Makes the sums over ranks that the segments need, in parallel with the solver. Called by
  /// thread `worker` of `num_workers`.
  __device__ void sum_ranks(int worker, int num_workers) {
    const int per_node = s_.h.ranks_per_node;
    LPLB_ROLLED
    for (int i = worker; i < s_.h.num_replicas; i += num_workers) {
      const int k = s_.list<Replica>(s_.h.replicas)[i].column;
      const int rank = s_.list<std::uint16_t>(s_.h.replica_rank)[i];
      const int first = rank / per_node * per_node;
      rank_tokens()[i] = sum_tokens(rank, rank + 1, k);
      node_tokens()[i] = per_node == s_.h.num_ranks ? s_.group_counts()[k]
                                                    : sum_tokens(first, first + per_node, k);
    }
    const int first = s_.map_rank() / per_node * per_node;
    LPLB_ROLLED
    for (int k = worker; k < s_.h.num_replicated; k += num_workers) {
      before_rank()[k] = sum_tokens(first, s_.map_rank(), k);
      before_node()[k] = sum_tokens(0, first, k);
    }
  }

  /// Makes the quotas; then the segments and the head of each replicated expert of which this rank
  /// has tokens. In parallel, the last warp of block 0 calls in_parallel() before it makes segments
  /// of its own, which it has only if more than 480 experts are replicated. kCopies: the quotas are
  /// there already. Ends in a barrier.
  template <bool kStale, bool kCopies = false, class Work>
  __device__ void make(Entries& entries, Work in_parallel) {
    // The quota of each replica, from what the solver gave to its place.
    const bool degraded = s_.is_degraded();
    if (!kCopies && !degraded) {
      const int* const take = s_.state().take;
      LPLB_ROLLED
      for (int i = thread(); i < s_.h.num_replicas; i += kThreads)
        s_.quota()[i] = quota_of(i, take);
      __syncthreads();
    }
    if (block_id() == 0 && thread() >= kThreads - device::kWarpSize) in_parallel();
    // The segments of each expert, by the rules of map/rules.h.
    const int turn = kStale ? s_.a.rank : s_.map_rank();
    const bool is_one_node = s_.h.ranks_per_node == s_.h.num_ranks;
    const int first_rank =
        is_one_node ? 0 : s_.map_rank() / s_.h.ranks_per_node * s_.h.ranks_per_node;
    LPLB_ROLLED
    for (int k = thread(); k < s_.h.num_replicated; k += kThreads) {
      if (s_.own()[k] == 0) continue;
      const int begin = s_.list<std::uint16_t>(s_.h.replica_begin)[k];
      const int count = s_.list<std::uint16_t>(s_.h.replica_begin)[k + 1] - begin;
      const int* const physical = s_.list<int>(s_.h.physical) + begin;
      if (degraded) {
        divide_evenly(physical, count, s_.list<char>(s_.h.alive), s_.h.slots_per_rank, s_.own()[k],
                      s_.list<std::uint16_t>(s_.h.logical)[k] + turn, s_.segments() + begin);
      } else if constexpr (kStale) {
        map::divide_by_split(
            physical, count, [&](int i) { return s_.quota()[begin + i]; },
            s_.list<char>(s_.h.alive), s_.h.slots_per_rank, s_.own()[k], turn,
            s_.list<std::uint16_t>(s_.h.logical)[k], s_.segments() + begin);
      } else {
        const map::SummedExpert<int> expert{physical,
                                            s_.list<std::uint16_t>(s_.h.replica_rank) + begin,
                                            s_.quota() + begin,
                                            rank_tokens() + begin,
                                            node_tokens() + begin,
                                            count,
                                            s_.h.ranks_per_node,
                                            s_.own()[k],
                                            before_rank()[k],
                                            before_node()[k]};
        map::assign_by_sums(expert, s_.map_rank(), first_rank, s_.segments() + begin);
      }
      entries.make_head(k, s_.own()[k]);
    }
    __syncthreads();
    // NOTE: this second barrier is for compute-sanitizer's racecheck only. After a loop whose
    // lanes diverge, it takes the first barrier for passed while other threads have yet to arrive
    // (docs/notes/2026-11-plan-kernel.md).
    __syncthreads();
  }

 private:
  __device__ int* rank_tokens() const { return &s_.at<int>(s_.a.layout.rank_tokens); }
  __device__ int* node_tokens() const { return &s_.at<int>(s_.a.layout.node_tokens); }
  __device__ int* before_rank() const { return &s_.at<int>(s_.a.layout.before_rank); }
  __device__ int* before_node() const { return &s_.at<int>(s_.a.layout.before_node); }

  /// The tokens of column k on the ranks [begin, end).
  __device__ int sum_tokens(int begin, int end, int k) const {
    int sum = begin <= s_.map_rank() && s_.map_rank() < end ? s_.own()[k] : 0;
    if (s_.a.all_counts == nullptr) return sum;
    const auto* const row_begin = s_.list<std::uint16_t>(s_.h.row_begin);
    LPLB_ROLLED
    for (int row = row_begin[begin]; row < row_begin[end]; ++row) {
      if (row != s_.a.row) sum += s_.row_count(row, k);
    }
    return sum;
  }

  __device__ int quota_of(int i, const int* take) const {
    const Replica replica = s_.list<Replica>(s_.h.replicas)[i];
    if (replica.count == 0) return 0;
    const int tokens = replica.place != solvers::kNoPlace ? take[replica.place]
                                                          : s_.group_counts()[replica.column];
    if (replica.count == 1) return tokens;
    const int each = tokens / replica.count;
    return each + (replica.index < tokens - each * replica.count ? 1 : 0);
  }

  /// Rare, so it is kept out of the code that every batch fetches.
  __device__ __noinline__ static void divide_evenly(const int* physical, int count,
                                                    const char* alive, int slots_per_rank,
                                                    int tokens, int turn, Segment* to) {
    map::divide_evenly(physical, count, alive, slots_per_rank, tokens, turn, to);
  }

  Shared& s_;
};

}  // namespace lplb::plan
