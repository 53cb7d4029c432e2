// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/device.h"
#include "solve/device/device_tables.h"
#include "solve/solvers.h"

namespace lplb::solvers {

struct SolveArgs;
struct DeviceOutcome;
struct TimeOutcome;

/// The pointers of a launch, to device memory. All but `load` may be null. SolveArgs has the
/// shapes.
struct SolvePointers {
  const std::int32_t* load = nullptr;
  std::int32_t* physical_load = nullptr;
  std::int32_t* take = nullptr;
  std::int32_t* rank_load = nullptr;
  std::uint32_t* proof = nullptr;
  DeviceOutcome* outcome = nullptr;
  TimeOutcome* time = nullptr;  ///< with costs
};

/// One placement on the current device, and launches of its solvers.
class DeviceProblem {
 public:
  /// Copies the tables to the device on `stream`, if they are not there yet, and waits. `model`:
  /// what tokens cost, or null.
  void assign(const SplitProblem::Tables& tables, cudaStream_t stream,
              const TimeModel* model = nullptr);

  /// Whether a block of this device can hold the problem.
  bool fits() const;

  /// Solves `num_batches` batches on `stream`, one in each block. It neither allocates nor
  /// synchronises. `solver` is kCut (up to kMaxCutRanks ranks), kFlow, or with a model kFastTime.
  /// max_steps < 0: device_steps().
  void launch(cudaStream_t stream, const SolvePointers& pointers, int num_batches, Solver solver,
              std::int64_t max_steps) const;

  const DeviceTablesHeader& header() const { return image_.header(); }

 private:
  std::uint64_t version_ = 0;
  std::uint64_t model_version_ = 0;  // 0: no model
  DeviceImage image_;
  device::Array<unsigned char> bytes_;
  int shared_bytes_ = 0;
  int most_shared_bytes_ = 0;
};

}  // namespace lplb::solvers
