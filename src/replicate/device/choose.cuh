// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/cheapest.cuh"
#include "replicate/device/copy_block.cuh"

namespace lplb::replicas {

/// Replicator::run() for one block of kCopyThreads threads, with the same integers, in the quick
/// form. Most batches take the steps of this file only: the first attempt, by one warp, reaches the
/// bound. search.cuh has what follows otherwise. All threads call its functions.
template <int kWords>
class CopyChoice : public CopyBlock {
 public:
  using CopyBlock::CopyBlock;

  /// A batch by itself: reads it, plans it and writes the results.
  __device__ void run() {
    bring_image();
    if (!read_batch()) {
      refuse();
      return;
    }
    const CopyPlan its = plan([](int, int) {});
    const bool is_optimal = its.max <= its.bound;
    write({is_optimal ? ReplicationStatus::kOptimal : ReplicationStatus::kBounded, its.max,
           is_optimal ? its.max : its.bound, its.copies, 0, 0, its.without, -1, -1, -1},
          [&](int g) {
            return m_.is_alive(g) && (its.outside == 0 || m_.order_of_rank[g] >= its.outside);
          });
  }

  /// Plans what is in `want`, whose sum is at most 2^31 - 1; the arrays hold what the plan takes.
  /// Needs the image and `want`, and a barrier after them. While one warp makes the first attempt,
  /// the others call in_parallel(worker, num_workers). Ends in a barrier.
  template <class Work>
  __device__ CopyPlan plan(Work in_parallel) {
    m_.open();
    if (m_.replicated) {
      split_main_slots<kWords>(args_, memory_);
    } else {
      give_to_homes(m_);
    }
    m_.clear_plan(thread_, kCopyThreads);
    for_each(m_.sizes.num_ranks, [&](int g) { m_.sent[g] = 0; });
    measure_ranks(m_);
    const CopyPlan plan = choose(in_parallel);
    if (m_.replicated) {
      choose_sources<kWords>(args_, memory_);
    } else {
      send_from_homes(m_);
    }
    return args_.num_candidates > 0 ? plan_cheapest<kWords>(args_, memory_, total_, plan) : plan;
  }

 private:
  template <class Work>
  __device__ CopyPlan choose(Work in_parallel) {
    const int most = read_ranks();
    CopyPlan plan{most, 0, divide_up(total_, m_.num_live), 0, most};
    const int start = max(target_level(), plan.bound);
    if (warp_ != 0) in_parallel(thread_ - device::kWarpSize, kCopyThreads - device::kWarpSize);
    if (plan.max <= start) {
      __syncthreads();
      // Without copies, and above the bound: the target allows it.
      return plan.max > plan.bound ? raise_bound<kWords>(args_, memory_, plan) : plan;
    }
    if (warp_ == 0) {
      const bool is_packed = !m_.replicated && PackedFill<kWords>::fits(total_);
      const Attempt first =
          is_packed ? PackedFill<kWords>(m_, args_.min_tokens, 0, true).run(start, -1, true)
                    : fill_in_warp<kWords>(args_, memory_, 0, start, -1, true, true);
      if (lane_ == 0) m_.results[0] = first;
    }
    __syncthreads();
    const Attempt first = m_.results[0];
    if (first.max > plan.bound) return search_copies<kWords>(args_, memory_, start, first, plan);
    plan.max = first.max;
    plan.copies = first.copies;
    return plan;
  }

  /// Finds the tokens of all ranks. Returns those of the heaviest one.
  __device__ int read_ranks() {
    int most = 0;
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = lane_ + device::kWarpSize * w;
      const int load = g < m_.sizes.num_ranks ? m_.rank_load[g] : 0;
      most = max(most, load);
      sum += load;
    }
    total_ = __reduce_add_sync(~0u, sum);
    device::store_shared_if(thread_ == 0, device::hold_address(&m_.scalars->total), total_);
    return __reduce_max_sync(~0u, most);
  }

  __device__ int target_level() const {
    if (args_.target_millionths == 1'000'000) return 0;  // the bound is as high
    return level_of(*m_.header, args_.target_millionths, total_);
  }

  int total_ = 0;
};

}  // namespace lplb::replicas
