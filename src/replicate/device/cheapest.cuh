// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/copy_cost.h"
#include "replicate/device/search.cuh"

// What a CopyCost adds: Replicator::State::plan_cheapest().
namespace lplb::replicas {

/// All threads of the block call its functions.
template <int kWords>
class CheapestPlan {
 public:
  __device__ CheapestPlan(const CopyArgs& args, unsigned char* memory)
      : args_(args), memory_(memory), m_(memory, args.sizes, args.layout), thread_(threadIdx.x) {
    m_.open();
  }

  /// `own` is the plan for the caller's target, which the arrays hold. Chooses the sources, too.
  /// Ends in a barrier.
  __device__ CopyPlan run(int total, const CopyPlan& own) {
    const CopyPlan none{own.without, 0, divide_up(total, m_.num_live), 0, own.without};
    const double bound = price(none.bound, 1);
    double least = price(none.max, 0);
    CopyPlan best = none;
    int best_level = kNoCopies;
    int level = kNoCopies;
#pragma unroll 1
    for (int c = 0; c < args_.num_candidates && least > bound; ++c) {
      const int next = max(level_of(*m_.header, args_.targets[c], total), none.bound);
      if (none.max <= next) break;  // no copies are needed for it
      level = next;
      const CopyPlan its = c == 0 ? own : plan_for(level, none);
      const double us = price(its.max, busiest());
      if (us < least || (us == least && its.copies < best.copies)) {
        least = us;
        best = its;
        best_level = level;
      }
      if (its.copies == 0) break;
    }
    if (best_level == kNoCopies) return plan_none(none);
    if (best_level != level) plan_for(best_level, none);
    return best;
  }

 private:
  static constexpr int kNoCopies = -1;

  __device__ double price(int max, int busiest) const {
    return batch_us(args_.cost, max / m_.header->speed, busiest);
  }

  /// The copies that the busiest rank sends or receives, on all threads.
  __device__ int busiest() const {
    int most = 0;
#pragma unroll 1
    for (int g = thread_ % device::kWarpSize; g < m_.sizes.num_ranks; g += device::kWarpSize) {
      most = max(most, max(m_.sent[g], m_.received(g)));
    }
    return __reduce_max_sync(~0u, most);
  }

  __device__ CopyPlan plan_for(int level, CopyPlan plan) {
    __syncthreads();  // all have read what the plan before has left
    if (thread_ < device::kWarpSize) {
      const Attempt first = fill_in_warp<kWords>(args_, memory_, 0, level, -1, true, false);
      if (thread_ == 0) m_.results[0] = first;
    }
    clear_sent();
    __syncthreads();
    const Attempt first = m_.results[0];
    if (first.max > plan.bound) {
      plan = search_copies<kWords>(args_, memory_, level, first, plan);
    } else {
      plan.max = first.max;
      plan.copies = first.copies;
    }
    if (m_.replicated) {
      choose_sources<kWords>(args_, memory_);
    } else {
      send_from_homes(m_);
    }
    return plan;
  }

  __device__ void clear_sent() const {
#pragma unroll 1
    for (int g = thread_; g < m_.sizes.num_ranks; g += kCopyThreads) m_.sent[g] = 0;
  }

  __device__ CopyPlan plan_none(CopyPlan none) {
    __syncthreads();  // all have read what the plan before has left
    m_.clear_plan(thread_, kCopyThreads);
    clear_sent();
    __syncthreads();
    return none.max > none.bound ? raise_bound<kWords>(args_, memory_, none) : none;
  }

  const CopyArgs& args_;
  unsigned char* const memory_;
  CopyMemory m_;
  const int thread_;
};

/// CheapestPlan::run() as a function of its own.
template <int kWords>
__device__ __noinline__ CopyPlan plan_cheapest(const CopyArgs& args, unsigned char* memory,
                                               int total, CopyPlan own) {
  return CheapestPlan<kWords>(args, memory).run(total, own);
}

}  // namespace lplb::replicas
