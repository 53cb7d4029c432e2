// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"
#include "plan/device/layout.h"

// What DevicePlanner hands to its kernels.
namespace lplb::plan {

/// The status word, in device memory. Written by one thread a batch.
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
  int last_outcome;  ///< Outcome
  int last_optimal;
  int last_max_load;
  int last_bound;
  int last_total;
  int last_steps;
};

enum Outcome { kSolved, kDegraded, kUnplanned };

/// With staleness: what the counts of the batch before were of. In device memory; written by one
/// thread a batch.
struct alignas(16) Previous {
  std::uint32_t fingerprint[2];  ///< Header's, of then
  std::uint32_t layout[2];       ///< likewise
  std::int32_t is_there;         ///< there was one
  std::int32_t unused[3];
};

/// What the checks read beside the batch itself; device memory. Pointers are null without checks.
struct Trace {
  int* own;           ///< [max_columns]
  int* quota;         ///< [max_physical], of experts with several replicas
  int* group_counts;  ///< [max_columns]
  int* state;         ///< [kTraceSize]
};
enum TraceState { kTraceDegraded, kTraceMaxLoad, kTraceValidEntries, kTraceSize };

/// One batch: what a launch takes.
struct Args {
  const void* topk_idx;
  void* physical_idx;
  void* target_rank;
  const int* num_valid_tokens;
  const int* all_counts;
  int id_bytes;
  int num_topk;
  int num_tokens;
  int rank;
  int max_steps;
  int num_blocks;   ///< that count and map
  int num_entries;  ///< num_tokens * num_topk
  int stretch;      ///< entries that a warp of them has, a multiple of 32
  const unsigned char* image;
  Status* status;
  exchange::PeerArgs
      peers;      ///< the exchange within the kernel; its `own` is null where there is none
  int* gathered;  ///< [num_ranks, max_columns]: all_counts, where the kernel gathers them itself
  Previous* previous;  ///< with staleness: all_counts are of the batch before. Null: of this one
  int* packed;  ///< [max_columns], with staleness: this rank's counts, written; may be null. Where
                ///< the kernel gathers, those of the batch before are in it
  Trace trace;
  int* block_totals;  ///< kKernels: [kMaxBlocks, max_columns + 1]
  Segment* segments;  ///< kKernels: [max_replicas]
  Layout layout;
};

/// What the kernel that packs this rank's counts takes beside.
struct PackArgs {
  Args plan;
  int* packed;  ///< [max_columns]
};

/// What the check kernel takes beside: scratch.
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
