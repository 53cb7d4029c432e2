// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Between DeviceCounter and its kernel.
namespace lplb::count {

inline constexpr int kCounterThreads = 512;
inline constexpr int kMaxCounterBlocks = 64;

/// What lies in device memory beside the lists of a batch, all zero at first.
struct CounterState {
  unsigned finished;         ///< blocks of the running batch that have added their part
  std::int32_t num_columns;  ///< PackedLayout::size()
  std::int64_t num_batches;  ///< in the history
};

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
  const std::int32_t* columns;  ///< [num_logical]: of PackedLayout
  std::int32_t* totals;         ///< [num_logical]: zero between batches
  double* load;                 ///< [num_logical]
  std::int32_t* ring;           ///< [window, num_logical]
  std::int32_t* counts;         ///< where wanted, as `packed`
  std::int32_t* packed;
  bool remember;
};

/// Enqueues one kernel. Throws CudaError.
void launch_counter(const CounterArgs& args, int num_blocks, cudaStream_t stream);

}  // namespace lplb::count
