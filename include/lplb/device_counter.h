// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include "lplb/device_planner.h"
#include "lplb/load_history.h"
#include "lplb/types.h"

namespace lplb {

/// Where DeviceCounter writes a batch's counts, in device memory. Null: not wanted.
struct CountOutputs {
  std::int32_t* counts = nullptr;  ///< [num_logical]
  /// [PackedLayout::size()]: this rank's row of DeviceBatch::all_counts, for the exchange that
  /// comes before DevicePlanner::run().
  std::int32_t* packed = nullptr;
  bool remember = false;  ///< add the batch to the history
};

/// Counts a rank's batches on the device: for an exchange by other means (NCCL), and for the slow
/// loop. One kernel a batch. Not thread-safe; of the device that was current at construction.
///
/// Streams, captures and errors as DevicePlanner: count() enqueues on the caller's stream, does not
/// wait and does not allocate. Batches of one counter must follow each other on the device.
class DeviceCounter {
 public:
  /// `max_redundants` as PlannerOptions has it (0: those of `placement`). Throws ArgumentError,
  /// CudaError.
  DeviceCounter(const Placement& placement, Index max_redundants = 0,
                const LoadHistoryOptions& history = {});
  ~DeviceCounter();
  DeviceCounter(DeviceCounter&&) noexcept;
  DeviceCounter& operator=(DeviceCounter&&) noexcept;

  /// Counts `topk_idx` of `batch`: what pads, -1 and bad ids are not counted. What is written
  /// besides (physical_idx, target_rank, all_counts) plays no part. The batch's num_topk is given
  /// here. O(entries) over as many blocks as help.
  void count(StreamHandle stream, const DeviceBatch& batch, const CountOutputs& outputs);

  /// For the batches that are enqueued later, replays included; not within a capture. The history
  /// stays.
  void update_placement(StreamHandle stream, const Placement& placement);

  /// The history's load [num_logical], in device memory, for as long as the counter lives: read it
  /// on the counter's stream, or behind an event. LoadHistory::load() of the same batches.
  const double* history() const;
  /// Forgets the history.
  void clear_history(StreamHandle stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
