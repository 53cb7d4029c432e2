// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "exchange/peer_layout.h"
#include "lplb/solver.h"
#include "map/rules.h"
#include "planner_image.h"

// Between DevicePlanner and its kernels.
namespace lplb {

inline constexpr int kPlanThreads = 512;
inline constexpr int kPlanWarps = kPlanThreads / 32;
inline constexpr int kPlanChunk = 4;      // rows of entries that a warp works on at once
inline constexpr int kMaxPlanBlocks = 8;  // what every device with clusters has

using PlanSegment = map::BasicSegment<int>;

/// The status word, in device memory. Written by one thread a batch.
struct PlanStatus {
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
  int last_outcome;  ///< PlanOutcome
  int last_optimal;
  int last_max_load;
  int last_bound;
  int last_total;
  int last_steps;
};

enum PlanOutcome { kPlanSolved, kPlanDegraded, kPlanUnplanned };

/// With staleness: what the counts of the batch before were of. In device memory; written by one
/// thread a batch.
struct alignas(16) PlanLast {
  std::uint32_t fingerprint[2];  ///< PlanHeader's, of then
  std::uint32_t layout[2];       ///< likewise
  std::int32_t is_there;         ///< there was one
  std::int32_t unused[3];
};

/// Room for PlanBlock's single values.
inline constexpr int kPlanCommonBytes = 192;

/// The shared memory of a block: bytes from its start, multiples of 16, for the largest placement
/// within the limits. The only copy of these offsets.
struct PlanLayout {
  std::int32_t common;       ///< kPlanCommonBytes
  std::int32_t image;        ///< what PlanHeader::bytes says
  std::int32_t state;        ///< solvers::BlockState
  std::int32_t counters;     ///< what a batch begins with zeros in: numbers, totals, group
  std::int32_t numbers;      ///< int [kPlanWarps, max_replicated]
  std::int32_t totals;       ///< int [max_columns + kOddColumns]: this block's counts, and bad ids
  std::int32_t group;        ///< int [max_columns]: of all ranks
  std::int32_t received;     ///< int [kMaxPlanBlocks, max_columns + 1]: those of all blocks
  std::int32_t own;          ///< int [max_columns]: of this rank
  std::int32_t before_rank;  ///< int [max_replicated]: of earlier ranks on the node
  std::int32_t before_node;  ///< int [max_replicated]: of earlier nodes
  std::int32_t rank_tokens;  ///< int [max_replicas]: of the replica's rank
  std::int32_t node_tokens;  ///< int [max_replicas]: of the replica's node
  std::int32_t quota;        ///< int [max_replicas]
  std::int32_t segments;     ///< PlanSegment [max_replicas]
  std::int32_t heads;        ///< int [max_replicated]: the one replica that takes them all, or -1
  std::int32_t rows;         ///< int [max_columns, num_ranks], or nothing: counts of all ranks
  std::int32_t held;         ///< int [held_rows, kPlanThreads]: what became of each entry
  std::int32_t bytes;
  std::int32_t counters_bytes;
  std::int32_t image_bytes;  ///< the most
  std::int32_t max_replicated;
  std::int32_t max_columns;
  std::int32_t has_rows;
  std::int32_t held_rows;  ///< of int32 ids; of int64 ids half as many; chunks of both
};

/// Lays out a block for placements within `limits` and batches of `max_entries`, in at most
/// `most_bytes`; `bytes` is greater where that is too little.
PlanLayout lay_out(const PlanLimits& limits, std::int64_t max_entries, int max_blocks,
                   std::int64_t most_bytes);

/// What the checks read beside the batch itself; device memory. Pointers are null without checks.
struct PlanTrace {
  int* own;    ///< [max_columns]
  int* quota;  ///< [max_physical], of experts with several replicas
  int* group;  ///< [max_columns]
  int* state;  ///< [kTraceSize]
};
enum PlanTraceState { kTraceDegraded, kTraceMaxLoad, kTraceValidEntries, kTraceSize };

/// One batch: what a launch takes.
struct PlanArgs {
  const void* topk_idx;
  void* physical_idx;
  void* rank_idx;
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
  PlanStatus* status;
  PeerArgs peers;  ///< the exchange within the kernel; its `own` is null where there is none
  int* gathered;   ///< [num_ranks, max_columns]: all_counts, where the kernel gathers them itself
  PlanLast* last;  ///< with staleness: all_counts are of the batch before. Null: of this one
  int* packed;  ///< [max_columns], with staleness: this rank's counts, written; may be null. Where
                ///< the kernel gathers, those of the batch before are in it
  PlanTrace trace;
  int* block_totals;      ///< kKernels: [kMaxPlanBlocks, max_columns + 1]
  PlanSegment* segments;  ///< kKernels: [max_replicas]
  PlanLayout layout;
};

/// What the kernel that packs this rank's counts takes beside.
struct PlanPackArgs {
  PlanArgs plan;
  int* packed;  ///< [max_columns]
};

/// What the check kernel takes beside: scratch.
struct PlanCheckArgs {
  PlanArgs plan;
  int* taken;             ///< [max_physical]
  int* met;               ///< [max_physical]
  int* rank_load;         ///< [num_ranks]
  int* counts;            ///< [num_ranks, max_columns]
  PlanSegment* segments;  ///< [kPlanThreads, max_redundants + 1]
  int segments_stride;
};

/// Sets solver_form and solver_threads for a placement.
void choose_form(const solvers::DeviceTablesHeader& tables, Solver solver, PlanHeader* header);

/// Bytes of a solver's state that none within the limits exceeds.
std::size_t max_state_bytes(const PlanLimits& limits);

/// The most shared memory that a block of the kernels can have on the current device.
std::int64_t most_plan_bytes();
/// Allows the kernels, with staleness or without, so much; once a planner. Throws CudaError.
void prepare_plan(std::size_t shared_bytes, bool is_stale);
/// Whether a cluster of so many blocks fits the current device.
bool has_clusters(int num_blocks, std::size_t shared_bytes, bool is_stale);

/// Whether kernels can start before the one ahead has ended.
bool can_start_early();

/// Enqueue one batch. Throw CudaError.
void launch_plan_cluster(const PlanArgs& args, bool is_cut, cudaStream_t stream);
void launch_plan_kernels(const PlanArgs& args, bool is_cut, bool early, cudaStream_t stream);
/// Counts alone.
void launch_plan_count(const PlanPackArgs& args, cudaStream_t stream);
void launch_plan_check(const PlanCheckArgs& args, cudaStream_t stream);

}  // namespace lplb
