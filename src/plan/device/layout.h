// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "lplb/solver.h"
#include "map/rules.h"
#include "plan/device/image.h"

// Sizes that the host and the kernels of DevicePlanner share, and where everything is in a block's
// shared memory.
namespace lplb::plan {

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kChunk = 4;      // rows of entries that a warp works on at once
inline constexpr int kMaxBlocks = 8;  // what every device with clusters has

using Segment = map::BasicSegment<int>;

/// Room for Block's single values.
inline constexpr int kCommonBytes = 192;

/// The shared memory of a block: bytes from its start, multiples of 16, for the largest placement
/// within the limits. The only copy of these offsets.
struct Layout {
  std::int32_t common;        ///< kCommonBytes
  std::int32_t image;         ///< what Header::bytes says
  std::int32_t state;         ///< solvers::BlockState
  std::int32_t counters;      ///< what a batch begins with zeros in: numbers, totals, group
  std::int32_t numbers;       ///< int [kWarps, max_replicated]
  std::int32_t totals;        ///< int [max_columns + kOddColumns]: this block's counts, and bad ids
  std::int32_t group_counts;  ///< int [max_columns]: of all ranks
  std::int32_t received;      ///< int [kMaxBlocks, max_columns + 1]: those of all blocks
  std::int32_t own;           ///< int [max_columns]: of this rank
  std::int32_t before_rank;   ///< int [max_replicated]: of earlier ranks on the node
  std::int32_t before_node;   ///< int [max_replicated]: of earlier nodes
  std::int32_t rank_tokens;   ///< int [max_replicas]: of the replica's rank
  std::int32_t node_tokens;   ///< int [max_replicas]: of the replica's node
  std::int32_t quota;         ///< int [max_replicas]
  std::int32_t segments;      ///< Segment [max_replicas]
  std::int32_t heads;         ///< int [max_replicated]: the one replica that takes them all, or -1
  std::int32_t rows;          ///< int [max_columns, num_ranks], or nothing: counts of all ranks
  std::int32_t held;          ///< int [held_slices, kThreads]: what became of each entry
  std::int32_t bytes;
  std::int32_t counters_bytes;
  std::int32_t image_bytes;  ///< the most
  std::int32_t max_replicated;
  std::int32_t max_columns;
  std::int32_t has_rows;
  std::int32_t held_slices;  ///< of int32 ids; of int64 ids half as many; chunks of both
};

/// Lays out a block for placements within `limits` and batches of `max_entries`, in at most
/// `most_bytes`; `bytes` is greater where that is too little.
Layout lay_out(const Limits& limits, std::int64_t max_entries, int max_blocks,
               std::int64_t most_bytes);

/// Sets solver_form and solver_threads for a placement.
void choose_form(const solvers::DeviceTablesHeader& tables, Solver solver, Header* header);

/// Bytes of a solver's state that none within the limits exceeds.
std::size_t max_state_bytes(const Limits& limits);

}  // namespace lplb::plan
