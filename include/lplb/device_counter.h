// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include "lplb/device_planner.h"
#include "lplb/export.h"
#include "lplb/load_history.h"
#include "lplb/types.h"

namespace lplb {

/// Where DeviceCounter writes the counts of a batch, in device memory. Null: not wanted.
struct CountOutputs {
  std::int32_t* counts = nullptr;  ///< [num_logical]
  /// [PackedLayout::size()]: this rank's row of DeviceBatch::all_counts, for an exchange before
  /// DevicePlanner::run().
  std::int32_t* packed = nullptr;
  bool remember = false;  ///< add the batch to the history
};

/// Counts the batches of one rank on the device, by one kernel for each batch: for an exchange of
/// your own (NCCL, say), and for the slow loop. Not thread-safe. A counter uses the device that was
/// current at construction.
///
/// count() enqueues on the caller's stream. It does not wait or allocate, and may be captured in a
/// CUDA graph, like DevicePlanner::run(). Batches of one counter must follow each other on the
/// device: one stream, or events between streams.
class LPLB_API DeviceCounter {
 public:
  /// `max_redundants` as in PlannerOptions; 0: as many as `placement` has. `singles`: how the
  /// counts are packed; kEach for a planner with a cost. Throws ArgumentError if `placement` has
  /// more, or as check_history() does; CudaError if CUDA cannot be used.
  DeviceCounter(const Placement& placement, Index max_redundants = 0,
                const LoadHistoryOptions& history = {}, Singles singles = Singles::kSummed);
  ~DeviceCounter();
  DeviceCounter(DeviceCounter&&) noexcept;
  DeviceCounter& operator=(DeviceCounter&&) noexcept;

  /// Counts `topk_idx` of `batch`. Padding, -1 and bad ids are not counted. The batch's num_topk
  /// must be given (>= 1); physical_idx, target_rank, all_counts and packed are ignored.
  /// O(entries), over as many blocks as help. Throws ArgumentError, with nothing launched, or
  /// CudaError.
  void count(StreamHandle stream, const DeviceBatch& batch, const CountOutputs& outputs);

  /// Takes effect in batches that are enqueued later, and in later replays. Must not be captured.
  /// The history stays. Throws ArgumentError if `placement` has other ranks or logical experts, or
  /// more than max_redundants redundant slots; CudaError.
  void update_placement(StreamHandle stream, const Placement& placement);

  /// The history [num_logical], in device memory, valid as long as the counter lives. Read it on
  /// the counter's stream, or after an event. It equals LoadHistory::load() of the same batches.
  const double* history() const;
  /// Forgets all batches. Throws CudaError.
  void clear_history(StreamHandle stream);

 private:
  struct LPLB_HIDDEN State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
