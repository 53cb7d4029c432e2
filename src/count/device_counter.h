// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// What DeviceCounter and its kernel share.
namespace lplb::count {

inline constexpr int kCounterThreads = 512;
inline constexpr int kMaxCounterBlocks = 64;

/// A counter's state in device memory. All fields are zero at first.
struct CounterState {
  unsigned finished;         ///< blocks of the current batch that have added their counts
  std::int32_t num_columns;  ///< PackedLayout::size()
  std::int64_t num_batches;  ///< batches in the history
};

/// All pointers are to device memory. Fields without a comment are as in DeviceBatch and
/// CountOutputs.
struct CounterArgs {
  const void* topk_idx;
  const std::int32_t* num_valid_tokens;
  int id_bytes;
  int num_topk;
  int num_tokens;
  int num_logical;
  int window;
  double decay;
  CounterState* state;
  const std::int32_t* columns;  ///< [num_logical]: where an expert counts in PackedLayout
  std::int32_t* totals;         ///< [num_logical]: sums of the batch; zero between batches
  double* load;                 ///< [num_logical]: the history
  std::int32_t* ring;           ///< [window, num_logical]
  std::int32_t* counts;         ///< null: not wanted
  std::int32_t* packed;         ///< null: not wanted
  bool remember;
};

/// Enqueues one kernel. Throws CudaError.
void launch_counter(const CounterArgs& args, int num_blocks, cudaStream_t stream);

}  // namespace lplb::count
