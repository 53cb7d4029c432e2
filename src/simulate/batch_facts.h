// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/simulate.h"
#include "simulate/batcher.h"

namespace lplb::replay {

/// Collects what a report says of the batches themselves, whatever the policy: where each domain
/// begins, and the load of each expert in the batches that the figures are of.
class BatchFacts {
 public:
  explicit BatchFacts(std::int64_t warm_up) : warm_up_(warm_up) {}

  void add(const Batch& batch);  ///< the batches in order of time
  void finish(SimulateReport& report);

 private:
  std::int64_t warm_up_;
  std::int64_t num_batches_ = 0;
  std::vector<DomainStart> domains_;
  std::vector<double> expert_load_;
};

}  // namespace lplb::replay
