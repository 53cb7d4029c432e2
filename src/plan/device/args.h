// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"
#include "plan/device/layout.h"
#include "replicate/device/args.h"

// What DevicePlanner hands to its kernels.
namespace lplb::plan {

/// The status word, in device memory. One thread a batch writes it.
struct Status {
  unsigned long long batches;
  unsigned long long solved;
  unsigned long long optimal;
  unsigned long long degraded;
  unsigned long long out_of_range;
  unsigned long long overflows;
  unsigned long long bad_counts;
  unsigned long long bad_valid;
  unsigned long long lost;
  unsigned long long check_failures;
  unsigned long long unplanned;
  unsigned long long copies;  ///< with dynamic slots, over all batches
  int last_outcome;           ///< Outcome
  int last_optimal;
  int last_max_load;
  int last_bound;
  int last_total;
  int last_steps;
  long long last_max_cost;  ///< with costs, in thousandths
  long long last_cost_bound;
};

enum Outcome { kSolved, kDegraded, kUnplanned };

/// With staleness: what the counts of the previous batch belong to. In device memory; one thread a
/// batch writes it.
struct alignas(16) Previous {
  std::uint32_t fingerprint[2];  ///< Header::fingerprint of that batch
  std::uint32_t layout[2];       ///< Header::layout of that batch
  std::int32_t is_there;         ///< 0: there was no previous batch
  std::int32_t unused[3];
};

/// What the checks and write_quotas() read in addition to the batch. In device memory; pointers are
/// null if neither is wanted.
struct Trace {
  int* own;           ///< [max_columns]
  int* quota;         ///< [max_physical], for experts with several replicas
  int* group_counts;  ///< [max_columns]
  int* state;         ///< [kTraceSize]
  // With dynamic slots: the replicas of the batch, as Header has those of the placement.
  // Unspecified for a degraded batch. Otherwise null.
  int* physical;                 ///< [max_replicas]
  std::uint16_t* replica_begin;  ///< [max_columns + 1]
};
enum TraceState { kTraceDegraded, kTraceMaxLoad, kTraceValidEntries, kTraceSize };

/// What a batch leaves about dynamic slots, in device memory: DevicePlanner::copies().
struct CopyState {
  std::int32_t* slot_expert;  ///< [num_ranks, S]
  std::int32_t* slot_source;
  std::int32_t* is_new;
  std::int32_t* held;  ///< [num_ranks, S]: what the last batches put there; -1: nothing
};

/// One batch: what a launch takes.
struct Args {
  const void* topk_idx;
  void* physical_idx;
  void* target_rank;
  const int* num_valid_tokens;
  const int* all_counts;  ///< [Header::num_rows, num_columns]
  int id_bytes;
  int num_topk;
  int num_tokens;
  int rank;
  int row;  ///< this rank's row of the counts
  int max_steps;
  int num_blocks;   ///< of the launches that count and map
  int num_entries;  ///< num_tokens * num_topk
  int stretch;      ///< entries of each warp of these blocks, a multiple of 32
  const unsigned char* image;
  Status* status;
  exchange::PeerArgs peers;  ///< the exchange in the kernel; its `own` is null if there is none
  /// [Header::num_rows, max_columns]: all_counts, if an exchange gathers them; written
  int* gathered;
  Previous* previous;  ///< with staleness; null: all_counts are those of this batch
  /// [max_columns], with staleness: written with this rank's counts. May be null. If the kernel
  /// gathers, it first holds this rank's counts of the previous batch.
  int* packed;
  Trace trace;
  void* counter;  ///< the user's; may be null
  int counter_bytes;
  int counter_step;
  int* block_totals;  ///< kKernels: [kMaxBlocks, max_columns + 1]
  Segment* segments;  ///< kKernels: [max_replicas]
  Layout layout;
  // With dynamic slots. `load` and `out` of the first are null.
  replicas::CopyArgs copies;
  CopyState copy_state;
};

/// What the kernel takes that packs this rank's counts.
struct PackArgs {
  Args plan;
  int* packed;  ///< [max_columns]
};

/// What the check kernel takes; all but `plan` is scratch memory.
struct CheckArgs {
  Args plan;
  int* taken;         ///< [max_physical]
  int* met;           ///< [max_physical]
  int* rank_load;     ///< [num_ranks]
  int* counts;        ///< [num_ranks, max_columns]
  Segment* segments;  ///< [kThreads, max_redundants + 1]
  int segments_stride;
};

}  // namespace lplb::plan
