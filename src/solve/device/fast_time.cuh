// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_sweeps.cuh"
#include "solve/time/fast.h"

// The twin of fast.cc, for a block of kTimeThreads, with the same result.
//
// NOTE: all functions are inlined (DeviceCostTables says why), so each is called in one place for
// each type of costs.
namespace lplb::solvers {

class BlockFastTime {
 public:
  __device__ __forceinline__ BlockFastTime(const unsigned char* image, const DeviceTablesHeader& h,
                                           const BlockState& state, const BlockTimeState& time,
                                           int thread)
      : c_(image, h), t_(image, h), s_(state), m_(time), thread_(thread) {}

  /// Replaces the solver's split, with `found` as its outcome, by that of the least cost. All
  /// threads of the block call it, after a barrier; `found` and `out` are in shared memory, and
  /// ready after the next one. `is_units`: the solver had 1 for each active expert in place of its
  /// tokens, because none passes the first step. `found` is of tokens afterwards, and is_optimal of
  /// the cost.
  __device__ __forceinline__ void run(bool is_units, BlockOutcome* found, TimeOutcome* out) {
    if (is_units) {
      take_units(found, out);
    } else if (found->max_load <= c_.narrow_load()) {
      CostSweeps<int>(c_, t_, s_, m_, thread_).run(found, out);
    } else {
      CostSweeps<long long>(c_, t_, s_, m_, thread_).run(found, out);
    }
  }

 private:
  /// One token for each expert.
  __device__ __forceinline__ void take_units(BlockOutcome* found, TimeOutcome* out) const {
    LPLB_ROLLED
    for (int i = thread_; i < t_.place_begin[t_.num_replicated]; i += kTimeThreads) {
      s_.take[t_.incident[i]] *= m_.want[t_.incident_owner[i]];
    }
    __syncthreads();
    LPLB_ROLLED
    for (int g = thread_; g < t_.num_ranks; g += kTimeThreads) {
      s_.rank_load[g] = sum_over_places(t_, g, m_.fixed_tokens[g], s_.take);
    }
    __syncthreads();
    if (thread_ >= kWarpSize) return;
    int total = 0;
    int most = 0;
    int most_fixed = 0;
    LPLB_ROLLED
    for (int g = thread_; g < t_.num_ranks; g += kWarpSize) {
      total += s_.rank_load[g];
      most = max(most, s_.rank_load[g]);
      most_fixed = max(most_fixed, m_.fixed_tokens[g]);
    }
    total = __reduce_add_sync(~0u, total);
    most = __reduce_max_sync(~0u, most);
    most_fixed = __reduce_max_sync(~0u, most_fixed);
    if (thread_ != 0) return;
    const DeviceCurve& curve = c_.curve(t_.live_rank[0]);
    const long long step = c_.first_cost(curve);
    const auto price_of = [&](int experts) {
      return c_.with_constant<long long>(curve.rank, experts * step);
    };
    *out = {price_of(found->max_load), price_of(found->bound)};
    const int equal = static_cast<int>((static_cast<unsigned>(total) + t_.num_live - 1) /
                                       static_cast<unsigned>(t_.num_live));
    *found = {max(equal, most_fixed), most, 0, out->max_cost <= out->bound ? 1 : 0};
  }

  DeviceCostTables c_;
  BlockTables t_;
  const BlockState& s_;
  const BlockTimeState& m_;
  int thread_;
};

}  // namespace lplb::solvers
