// SPDX-License-Identifier: MIT
#pragma once

#include "planner_block.cuh"

namespace lplb {

/// Counters that one thread alone adds to; atomic only so that it need not wait for them.
__device__ inline void PlanBlock::report(int num_blocks) {
  const bool degraded = is_degraded();
  int total = 0;  // not of use where it overflows
  LPLB_ROLLED
  for (int first = 0; first < h_.num_columns; first += device::kRow) {
    const int c = first + device::lane_id();
    if (c < h_.num_columns && !degraded) total += group()[c];
  }
  total = __reduce_add_sync(~0u, total);
  if (device::lane_id() != 0) return;
  PlanStatus& status = *a_.status;
  unsigned long long bad = 0;
  LPLB_ROLLED
  for (int block = 0; block < num_blocks; ++block) {
    bad += static_cast<unsigned long long>(received(block)[h_.num_columns]);
  }
  atomicAdd(&status.batches, 1ull);
  if (bad != 0) atomicAdd(&status.out_of_range, bad);
  if (is_clamped()) atomicAdd(&status.bad_valid, 1ull);
  const bool unplanned = scalars_().lost == kNoLast;
  status.last_outcome = !degraded ? kPlanSolved : unplanned ? kPlanUnplanned : kPlanDegraded;
  if (unplanned) {
    atomicAdd(&status.unplanned, 1ull);
  } else if (degraded) {
    atomicAdd(&status.degraded, 1ull);
    const bool lost = (scalars_().lost | scalars_().lost_by_one) != 0;
    atomicAdd(lost               ? &status.lost
              : has_bad_counts() ? &status.bad_counts
                                 : &status.overflows,
              1ull);
  } else {
    atomicAdd(&status.solved, 1ull);
    if (outcome_().is_optimal != 0) atomicAdd(&status.optimal, 1ull);
    status.last_optimal = outcome_().is_optimal;
    status.last_max_load = outcome_().max_load;
    status.last_bound = outcome_().bound;
    status.last_total = total;
    status.last_steps = outcome_().steps;
  }
}

__device__ inline void PlanBlock::keep_trace() {
  if (a_.trace.own == nullptr) return;
  const bool degraded = is_degraded();
  LPLB_ROLLED
  for (int c = thread(); c < h_.num_columns; c += kPlanThreads) {
    a_.trace.own[c] = own()[c];
    a_.trace.group[c] = group()[c];
  }
  LPLB_ROLLED
  for (int i = thread(); i < h_.num_replicas; i += kPlanThreads) {
    a_.trace.quota[list<int>(h_.physical)[i]] = degraded ? 0 : quota()[i];
  }
  if (thread() != 0) return;
  a_.trace.state[kTraceDegraded] = degraded ? 1 : 0;
  a_.trace.state[kTraceMaxLoad] = outcome_().max_load;
  a_.trace.state[kTraceValidEntries] = valid_entries();
}

}  // namespace lplb
