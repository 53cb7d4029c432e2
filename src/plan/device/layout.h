// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "lplb/solver.h"
#include "map/rules.h"
#include "plan/device/image.h"

// Sizes that the host and the kernels of DevicePlanner share, and where everything is in the shared
// memory of a block.
namespace lplb::plan {

inline constexpr int kThreads = 512;  // of a block
inline constexpr int kWarps = kThreads / device::kWarpSize;
inline constexpr int kChunk = 4;      // slices that a warp works on at once
inline constexpr int kMaxBlocks = 8;  // of a cluster; every device with clusters can have as many

using Segment = map::BasicSegment<int>;

/// Bytes for the single values of a block (Shared::Common).
inline constexpr int kCommonBytes = 224;

/// The shared memory of a block. Offsets are in bytes from its start, in multiples of 16, and have
/// room for the largest placement within the limits. This is the only copy of these offsets.
struct Layout {
  std::int32_t common;    ///< kCommonBytes
  std::int32_t image;     ///< the first Header::bytes of the image
  std::int32_t state;     ///< solvers::BlockState
  std::int32_t time;      ///< solvers::BlockTimeState; empty without costs
  std::int32_t counters;  ///< what begin() clears: numbers, totals and group_counts
  std::int32_t numbers;   ///< int [kWarps, max_replicated]
  std::int32_t totals;  ///< int [max_columns + kOddColumns]: counts of this block; bad ids, dropped
  std::int32_t group_counts;  ///< int [max_columns]: the sum over all ranks
  std::int32_t received;      ///< int [kMaxBlocks, max_columns + 1]: the totals of all blocks
  std::int32_t own;           ///< int [max_columns]: the counts of this rank
  std::int32_t before_rank;   ///< int [max_replicated]: tokens on earlier ranks of the node
  std::int32_t before_node;   ///< int [max_replicated]: tokens on earlier nodes
  std::int32_t rank_tokens;   ///< int [max_replicas]: tokens on the replica's rank
  std::int32_t node_tokens;   ///< int [max_replicas]: tokens on the replica's node
  std::int32_t quota;         ///< int [max_replicas]
  std::int32_t segments;      ///< Segment [max_replicas]
  std::int32_t heads;  ///< int [max_replicated]: the one replica that takes all tokens, or -1
  std::int32_t rows;  ///< int [num_ranks, max_columns]: counts of all ranks; empty if has_rows is 0
  // With dynamic slots: the replicas of the batch in place of those in the image.
  std::int32_t copies;         ///< replicas::CopyLayout
  std::int32_t copy_column;    ///< int [num_dynamic]: of the expert in each dynamic slot, or -1
  std::int32_t replicas;       ///< Replica [max_replicas]
  std::int32_t physical;       ///< int [max_replicas]
  std::int32_t replica_rank;   ///< uint16 [max_replicas]
  std::int32_t replica_begin;  ///< uint16 [max_replicated + 1]
  std::int32_t has_copies;
  std::int32_t held;   ///< int [held_slices, kThreads]: the entry slots
  std::int32_t bytes;  ///< the size of all
  std::int32_t counters_bytes;
  std::int32_t image_bytes;  ///< the largest size of `image`
  std::int32_t max_replicated;
  std::int32_t max_columns;
  std::int32_t has_costs;
  std::int32_t has_rows;  ///< 0: the rows do not fit and stay in device memory
  /// Slices of int32 ids for which a warp has entry slots, or twice the slices of int64 ids. Whole
  /// chunks of both.
  std::int32_t held_slices;
};

/// Lays out a block for placements within `limits` and batches of `max_entries`, in at most
/// `most_bytes`. If that is too little, the result's `bytes` exceed `most_bytes`.
/// `copy_bytes`: CopyLayout::bytes, with dynamic slots.
Layout lay_out(const Limits& limits, std::int64_t max_entries, int max_blocks,
               std::int64_t most_bytes, int copy_bytes = 0);

/// Sets solver_form and solver_threads for a placement.
void choose_form(const solvers::DeviceTablesHeader& tables, Solver solver, Header* header);

/// The largest size in bytes of a solver's state, for any placement within the limits; and of what
/// costs add to it.
std::size_t max_state_bytes(const Limits& limits);
std::size_t max_time_bytes(const Limits& limits);

}  // namespace lplb::plan
