// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "lplb/device_exchange.h"
#include "lplb/types.h"

namespace lplb::solvers {

/// The placement of deepseek-ai/LPLB, in which each expert has an original and at most one copy.
struct OriginalTables {
  Index num_shares = 0;             ///< redundants of all ranks that are combined into one share
  std::span<const Index> original;  ///< [num_logical]: the physical expert of each original
  std::span<const Index> combined;  ///< [num_shares, experts of a share]: logical experts
};

/// The share of its tokens that each original keeps, on the device: what solve_probs() of
/// deepseek-ai/LPLB returns. Two launches: the solver, and one block that divides.
class KeptShares {
 public:
  /// Device memory that run() writes.
  struct Outputs {
    float* share;       ///< [num_shares]: kept by the originals over all; 1 if there are no tokens
    float* scaled;      ///< [num_logical]: the load divided by its largest entry
    void* counter;      ///< grows by `step` if the load was solved; null: no counter
    int counter_bytes;  ///< 4 or 8
    int step;
  };

  /// Allocates on the current device. Throws ArgumentError if a block of threads cannot hold the
  /// placement, or its speeds differ; CudaError if CUDA cannot be used.
  KeptShares(const Placement& placement, const OriginalTables& tables);
  ~KeptShares();

  /// Splits `load` [num_logical], in device memory, and writes the outputs, on `stream`. Neither
  /// allocates nor synchronises, so it may be captured. A load with a negative entry or a sum past
  /// 2^31 - 1 is not solved: its shares are 1.
  void run(StreamHandle stream, const std::int32_t* load, const Outputs& outputs) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb::solvers
