// SPDX-License-Identifier: MIT
#pragma once

#include "core/counter.cuh"
#include "plan/device/entries.cuh"

namespace lplb::plan {

/// Writes to the status word what happened. One warp calls it, after the solver. Only one thread
/// adds to these counters. The additions are atomic so that it need not wait for the old values.
__device__ inline void report(const Shared& s, const Entries& entries, int num_blocks) {
  const bool degraded = s.is_degraded();
  int total = 0;  // the tokens of all ranks; they fit if the batch was solved
  LPLB_ROLLED
  for (int first = 0; first < s.h.num_columns; first += device::kWarpSize) {
    const int c = first + device::lane_id();
    if (c < s.h.num_columns && !degraded) total += s.group_counts()[c];
  }
  total = __reduce_add_sync(~0u, total);
  if (device::lane_id() != 0) return;
  Status& status = *s.a.status;
  unsigned long long bad = 0;
  LPLB_ROLLED
  for (int block = 0; block < num_blocks; ++block) {
    bad += static_cast<unsigned long long>(s.received(block)[s.h.num_columns]);
  }
  atomicAdd(&status.batches, 1ull);
  if (bad != 0) atomicAdd(&status.out_of_range, bad);
  if (entries.is_clamped()) atomicAdd(&status.bad_valid, 1ull);
  const bool unplanned = s.scalars().lost == Shared::kNoPrevious;
  status.last_outcome = !degraded ? kSolved : unplanned ? kUnplanned : kDegraded;
  if (unplanned) {
    atomicAdd(&status.unplanned, 1ull);
  } else if (degraded) {
    atomicAdd(&status.degraded, 1ull);
    const bool lost = (s.scalars().lost | s.scalars().lost_by_one) != 0;
    atomicAdd(lost                 ? &status.lost
              : s.has_bad_counts() ? &status.bad_counts
                                   : &status.overflows,
              1ull);
  } else {
    atomicAdd(&status.solved, 1ull);
    if (s.a.counter != nullptr) {
      device::add_to_counter(s.a.counter, s.a.counter_bytes, s.a.counter_step);
    }
    if (s.a.layout.has_copies != 0) {
      atomicAdd(&status.copies, static_cast<unsigned long long>(s.common().copies));
    }
    if (s.outcome().is_optimal != 0) atomicAdd(&status.optimal, 1ull);
    status.last_optimal = s.outcome().is_optimal;
    status.last_max_load = s.outcome().max_load;
    status.last_bound = s.outcome().bound;
    status.last_total = total;
    status.last_steps = s.outcome().steps;
    if (s.a.layout.has_costs != 0) {
      status.last_max_cost = s.time_outcome().max_cost;
      status.last_cost_bound = s.time_outcome().bound;
    }
  }
}

/// Keeps what later kernels read (Trace). All threads of one block call it, after the segments.
__device__ inline void keep_trace(const Shared& s, const Entries& entries) {
  if (s.a.trace.own == nullptr) return;
  const bool degraded = s.is_degraded();
  LPLB_ROLLED
  for (int c = thread(); c < s.h.num_columns; c += kThreads) {
    s.a.trace.own[c] = s.own()[c];
    s.a.trace.group_counts[c] = s.group_counts()[c];
  }
  LPLB_ROLLED
  for (int i = thread(); i < s.h.num_replicas; i += kThreads) {
    s.a.trace.quota[s.list<int>(s.h.physical)[i]] = degraded ? 0 : s.quota()[i];
  }
  if (s.a.trace.physical != nullptr && !degraded) {
    LPLB_ROLLED
    for (int i = thread(); i < s.h.num_replicas; i += kThreads) {
      s.a.trace.physical[i] = s.list<int>(s.h.physical)[i];
    }
    LPLB_ROLLED
    for (int k = thread(); k <= s.h.num_replicated; k += kThreads) {
      s.a.trace.replica_begin[k] = s.list<std::uint16_t>(s.h.replica_begin)[k];
    }
  }
  if (thread() != 0) return;
  s.a.trace.state[kTraceDegraded] = degraded ? 1 : 0;
  s.a.trace.state[kTraceMaxLoad] = s.outcome().max_load;
  s.a.trace.state[kTraceValidEntries] = entries.valid_entries();
}

}  // namespace lplb::plan
