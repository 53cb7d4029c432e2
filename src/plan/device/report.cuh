// SPDX-License-Identifier: MIT
#pragma once

#include "core/counter.cuh"
#include "plan/device/block.cuh"

namespace lplb::plan {

/// Only one thread adds to these counters. The additions are atomic so that it need not wait for
/// the old values.
__device__ inline void Block::report(int num_blocks) {
  const bool degraded = is_degraded();
  int total = 0;  // the tokens of all ranks; they fit if the batch was solved
  LPLB_ROLLED
  for (int first = 0; first < h_.num_columns; first += device::kWarpSize) {
    const int c = first + device::lane_id();
    if (c < h_.num_columns && !degraded) total += group_counts()[c];
  }
  total = __reduce_add_sync(~0u, total);
  if (device::lane_id() != 0) return;
  Status& status = *a_.status;
  unsigned long long bad = 0;
  LPLB_ROLLED
  for (int block = 0; block < num_blocks; ++block) {
    bad += static_cast<unsigned long long>(received(block)[h_.num_columns]);
  }
  atomicAdd(&status.batches, 1ull);
  if (bad != 0) atomicAdd(&status.out_of_range, bad);
  if (is_clamped()) atomicAdd(&status.bad_valid, 1ull);
  const bool unplanned = scalars().lost == kNoPrevious;
  status.last_outcome = !degraded ? kSolved : unplanned ? kUnplanned : kDegraded;
  if (unplanned) {
    atomicAdd(&status.unplanned, 1ull);
  } else if (degraded) {
    atomicAdd(&status.degraded, 1ull);
    const bool lost = (scalars().lost | scalars().lost_by_one) != 0;
    atomicAdd(lost               ? &status.lost
              : has_bad_counts() ? &status.bad_counts
                                 : &status.overflows,
              1ull);
  } else {
    atomicAdd(&status.solved, 1ull);
    if (a_.counter != nullptr) {
      device::add_to_counter(a_.counter, a_.counter_bytes, a_.counter_step);
    }
    if (outcome().is_optimal != 0) atomicAdd(&status.optimal, 1ull);
    status.last_optimal = outcome().is_optimal;
    status.last_max_load = outcome().max_load;
    status.last_bound = outcome().bound;
    status.last_total = total;
    status.last_steps = outcome().steps;
    if (a_.layout.has_costs != 0) {
      status.last_max_cost = time_outcome().max_cost;
      status.last_cost_bound = time_outcome().bound;
    }
  }
}

__device__ inline void Block::keep_trace() {
  if (a_.trace.own == nullptr) return;
  const bool degraded = is_degraded();
  LPLB_ROLLED
  for (int c = thread(); c < h_.num_columns; c += kThreads) {
    a_.trace.own[c] = own()[c];
    a_.trace.group_counts[c] = group_counts()[c];
  }
  LPLB_ROLLED
  for (int i = thread(); i < h_.num_replicas; i += kThreads) {
    a_.trace.quota[list<int>(h_.physical)[i]] = degraded ? 0 : quota()[i];
  }
  if (thread() != 0) return;
  a_.trace.state[kTraceDegraded] = degraded ? 1 : 0;
  a_.trace.state[kTraceMaxLoad] = outcome().max_load;
  a_.trace.state[kTraceValidEntries] = valid_entries();
}

}  // namespace lplb::plan
