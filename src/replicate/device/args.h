// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "lplb/device_replicator.h"
#include "lplb/replicate.h"
#include "replicate/copy_cost.h"
#include "replicate/device/layout.h"

namespace lplb::replicas {

/// What a level led to.
struct alignas(16) Attempt {
  int max;     ///< the largest load of a rank
  int copies;  ///< how many
  int closed;  ///< not 0: no rank is above the level
};

/// Single values in shared memory.
struct alignas(16) CopyScalars {
  int high[kMostAttempts],
      low[kMostAttempts];         ///< of each warp: the sum of its loads, in two parts
  int negative[kMostAttempts];    ///< not 0: a load is
  unsigned long long slot_bound;  ///< the best level, and the number of ranks it is for
  int changed, split_max, total;
};

/// The arguments of the kernel. Pointers are to device memory; outputs may be null.
struct CopyArgs {
  CopySizes sizes;
  CopyLayout layout;
  CopyTables tables;
  const unsigned char* image;  ///< of the placement
  const std::int32_t* load;    ///< [num_logical]
  ReplicationOutputs out;
  int min_tokens;
  int target_millionths;  ///< at least a million
  int most_steps;         ///< of the exact split: solvers::device_steps()
  // With a CopyCost.
  int num_candidates;            ///< targets that are compared; 0: no cost
  int targets[1 + kNumTargets];  ///< in millionths, the caller's own first
  CopyCost cost;
};

inline CopySizes copy_sizes(const Placement& placement, Index dynamic_slots) {
  return {placement.num_ranks, placement.num_logical_experts, placement.slots_per_rank(),
          dynamic_slots};
}
/// The arguments but for the pointers. `tables`: those of copy_sizes(). A block may have
/// `most_bytes`, but copies take CopyLayout::bytes of it.
CopyArgs copy_args(const Placement& placement, const ReplicateOptions& options,
                   const CopyTables& tables, int most_bytes);

}  // namespace lplb::replicas
