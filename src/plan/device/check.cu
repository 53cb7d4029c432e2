// SPDX-License-Identifier: MIT
#include "core/expert_id.h"
#include "core/launch.cuh"
#include "core/slices.cuh"
#include "plan/device/args.h"

// Checks a batch after the plan: slow and simple, by the scalar rules, with nothing of block.cuh.
namespace lplb::plan {
namespace {

/// The check, by one block. It counts what is wrong.
class Check {
 public:
  __device__ explicit Check(const CheckArgs& args)
      : c_(args),
        a_(args.plan),
        h_(*reinterpret_cast<const Header*>(args.plan.image)),
        is_stale_(a_.previous != nullptr),
        degraded_(a_.trace.state[kTraceDegraded] != 0),
        map_rank_(is_stale_ || a_.all_counts != nullptr ? a_.rank : 0) {}

  __device__ void run() {
    clear();
    check_entries();
    __syncthreads();
    check_own_replicas();
    if (!degraded_) {
      // With staleness the quotas are those of another batch.
      if (!is_stale_) meet_quotas();
      __syncthreads();
      check_quotas();
      __syncthreads();
      check_rank_loads();
    }
    if (wrong_ != 0) atomicAdd(&a_.status->check_failures, wrong_);
  }

 private:
  template <class T>
  __device__ const T* list(int offset) const {
    return reinterpret_cast<const T*>(a_.image + offset);
  }
  __device__ int num_physical() const { return h_.num_ranks * h_.slots_per_rank; }
  __device__ int begin_of(int k) const { return list<std::uint16_t>(h_.replica_begin)[k]; }
  __device__ Segment* scratch() const {
    return c_.segments + static_cast<long long>(threadIdx.x) * c_.segments_stride;
  }

  template <class Body>
  __device__ static void for_all(int count, Body body) {
    for (int i = threadIdx.x; i < count; i += kThreads) body(i);
  }

  /// Clears the scratch memory, and copies the counts of all ranks, with this rank's own counts in
  /// its row.
  __device__ void clear() {
    for_all(num_physical(), [&](int p) { c_.taken[p] = c_.met[p] = 0; });
    for_all(h_.num_ranks, [&](int g) { c_.rank_load[g] = 0; });
    for_all(h_.num_ranks * h_.num_columns, [&](int i) {
      const int g = i / h_.num_columns;
      const int column = i % h_.num_columns;
      const auto* const row_begin = list<std::uint16_t>(h_.row_begin) + g;
      const bool has_row = a_.all_counts != nullptr && row_begin[0] < row_begin[1];
      c_.counts[i] = g == map_rank_ ? a_.trace.own[column]
                     : has_row      ? a_.all_counts[row_begin[0] * h_.num_columns + column]
                                    : 0;
    });
    __syncthreads();
  }

  /// Checks that each token is at a live replica and, if the logical ids were not overwritten, at
  /// one of its expert.
  __device__ void check_entries() {
    const bool overwritten = a_.topk_idx == a_.physical_idx || a_.topk_idx == a_.target_rank;
    const int valid = a_.trace.state[kTraceValidEntries];
    for_all(a_.num_tokens * a_.num_topk, [&](int i) {
      int physical = device::load_id(a_.physical_idx, a_.id_bytes, i);
      if (a_.target_rank != nullptr) {
        const int rank = device::load_id(a_.target_rank, a_.id_bytes, i);
        if ((rank < 0) != (physical < 0)) ++wrong_;
        if (physical >= 0) physical += rank * h_.slots_per_rank;
      }
      const int id = i < valid && !overwritten ? device::load_id(a_.topk_idx, a_.id_bytes, i) : -1;
      const bool must_be_there = is_expert(id, h_.num_logical);
      if (physical < 0 || physical >= num_physical()) {
        if (physical != -1 || must_be_there) ++wrong_;
        return;
      }
      if (i >= valid || (!overwritten && list<std::uint16_t>(h_.owner)[physical] != id)) ++wrong_;
      if (list<char>(h_.alive)[physical / h_.slots_per_rank] == 0) ++wrong_;
      atomicAdd(&c_.taken[physical], 1);
    });
  }

  /// Writes the segments of expert k on `rank` to scratch(); returns how many.
  __device__ int assign(int k, int rank) const {
    const int begin = begin_of(k);
    const int count = begin_of(k + 1) - begin;
    const int* const physical = list<int>(h_.physical) + begin;
    if (degraded_) {
      return map::divide_evenly(physical, count, list<char>(h_.alive), h_.slots_per_rank,
                                a_.trace.own[k], list<std::uint16_t>(h_.logical)[k] + rank,
                                scratch());
    }
    if (is_stale_) {
      return map::divide_by_split(
          physical, count, [&](int i) { return a_.trace.quota[physical[i]]; }, list<char>(h_.alive),
          h_.slots_per_rank, a_.trace.own[k], rank, list<std::uint16_t>(h_.logical)[k], scratch());
    }
    const map::BasicExpertBatch<int> batch{
        c_.counts + k, h_.num_columns, a_.trace.quota,    physical,
        count,         h_.num_ranks,   h_.ranks_per_node, h_.slots_per_rank};
    return map::assign_exactly(batch, rank, scratch());
  }

  /// Checks that the number of this rank's tokens at each replica is what the rules say.
  __device__ void check_own_replicas() {
    for_all(h_.num_replicated, [&](int k) {
      const int count = assign(k, map_rank_);
      int sum = 0;
      int begin = 0;
      for (int i = 0; i < count; ++i) {
        const Segment segment = scratch()[i];
        if (c_.taken[segment.physical] != segment.end - begin) ++wrong_;
        begin = segment.end;
      }
      for (int i = begin_of(k); i < begin_of(k + 1); ++i) {
        sum += c_.taken[list<int>(h_.physical)[i]];
      }
      if (begin != a_.trace.own[k] || sum != a_.trace.own[k]) ++wrong_;
    });
  }

  /// Sums what all ranks together give to each replica.
  __device__ void meet_quotas() {
    for_all(h_.num_replicated * h_.num_ranks, [&](int i) {
      const int count = assign(i / h_.num_ranks, i % h_.num_ranks);
      int begin = 0;
      for (int s = 0; s < count; ++s) {
        const Segment segment = scratch()[s];
        atomicAdd(&c_.met[segment.physical], segment.end - begin);
        begin = segment.end;
      }
    });
  }

  /// Checks that the quotas are met, lie on live ranks and sum to the counts. Sums the rank loads.
  __device__ void check_quotas() {
    for_all(h_.num_replicated, [&](int k) {
      int sum = 0;
      for (int i = begin_of(k); i < begin_of(k + 1); ++i) {
        const int physical = list<int>(h_.physical)[i];
        const int rank = physical / h_.slots_per_rank;
        const int quota = a_.trace.quota[physical];
        if (quota < 0 || (!is_stale_ && quota != c_.met[physical])) ++wrong_;
        if (quota > 0 && list<char>(h_.alive)[rank] == 0) ++wrong_;
        sum += quota;
        atomicAdd(&c_.rank_load[rank], quota);
      }
      if (sum != a_.trace.group_counts[k]) ++wrong_;
    });
    for_all(h_.num_columns - h_.num_replicated, [&](int i) {
      const int column = h_.num_replicated + i;
      const int target = list<int>(h_.targets)[column];
      if ((target & ~kTargetMask) != kTargetFixed) return;
      atomicAdd(&c_.rank_load[target & kTargetMask], a_.trace.group_counts[column]);
    });
  }

  /// Checks that the reported T is the largest rank load.
  __device__ void check_rank_loads() {
    if (threadIdx.x != 0) return;
    int most = 0;
    for (int g = 0; g < h_.num_ranks; ++g) most = max(most, c_.rank_load[g]);
    if (most != a_.trace.state[kTraceMaxLoad]) ++wrong_;
  }

  const CheckArgs& c_;
  const Args& a_;
  const Header& h_;
  const bool is_stale_;
  const bool degraded_;
  const int map_rank_;
  unsigned long long wrong_ = 0;
};

__global__ void __launch_bounds__(kThreads) check_kernel(const __grid_constant__ CheckArgs args) {
  Check(args).run();
}

}  // namespace

void launch_check(const CheckArgs& args, cudaStream_t stream) {
  device::launch(check_kernel, {.num_blocks = 1, .num_threads = kThreads}, stream, args);
}

}  // namespace lplb::plan
