// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_tables.cuh"

namespace lplb::solvers {

/// Takes the counts of experts in a kernel that splits by costs, beside BlockState: what a rank's
/// fixed experts cost, and what the solver by tokens is given.
class CostIntake {
 public:
  __device__ CostIntake(const unsigned char* image, const DeviceTablesHeader& h,
                        const BlockState& state, const BlockTimeState& time)
      : costs_(image, h), h_(h), s_(state), m_(time) {}

  /// Clears the sums of rank g.
  __device__ static void clear(const BlockTimeState& time, int g) {
    time.fixed[g] = {};
    time.active[g] = 0;
  }

  /// Takes the tokens of a fixed expert. The image must be there.
  __device__ void add_fixed(int rank, int tokens) const {
    if (tokens <= 0) return;
    m_.fixed[rank].add(costs_.of(costs_.curve(rank), tokens));
    atomicAdd(&m_.active[rank], 1);
  }
  /// Takes the tokens of replicated expert k.
  __device__ void add_replicated(int k, int tokens) const { m_.want[k] = tokens; }
  /// Whether an expert does not cost one step of a uniform model.
  __device__ bool passes_step(int tokens) const { return tokens > costs_.one_step(); }

  /// After all experts and a barrier: keeps the tokens of fixed experts. With `is_units` gives the
  /// solver 1 for each active expert in place of its tokens. All threads call it.
  __device__ void hand_over(bool is_units, int thread, int num_threads) const {
    LPLB_ROLLED
    for (int g = thread; g < h_.num_ranks; g += num_threads) {
      m_.fixed_tokens[g] = s_.fixed[g];
      if (is_units) s_.fixed[g] = m_.active[g];
    }
    LPLB_ROLLED
    for (int k = thread; k < h_.num_replicated && is_units; k += num_threads) {
      s_.want[k] = m_.want[k] > 0 ? 1 : 0;
    }
  }

 private:
  DeviceCostTables costs_;
  const DeviceTablesHeader& h_;
  const BlockState& s_;
  const BlockTimeState& m_;
};

}  // namespace lplb::solvers
