// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "lplb/device_replicator.h"
#include "lplb/replicate.h"
#include "replicate/copy_cost.h"
#include "replicate/device/layout.h"

namespace lplb::replicas {

/// What a level led to. Level: int, tokens of any rank, in the quick form; DeviceLevel in the
/// general one.
template <class Level>
struct alignas(16) BasicAttempt {
  Level max;   ///< the largest load of a rank
  int copies;  ///< how many
  int closed;  ///< not 0: no rank is above the level
};
using Attempt = BasicAttempt<int>;
static_assert(sizeof(BasicAttempt<solvers::DeviceLevel>) == sizeof(Attempt));

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
  /// The same targets as given, for unequal speeds; the first one also without a CopyCost.
  double exact_targets[1 + kNumTargets];
};

/// In the general form if speeds are unequal or there are several domains.
CopySizes copy_sizes(const Placement& placement, const ReplicateOptions& options);

/// The arguments but for the pointers. `tables`: those of `sizes`. A block may have `most_bytes`,
/// but copies take CopyLayout::bytes of it.
CopyArgs copy_args(const CopySizes& sizes, const ReplicateOptions& options,
                   const CopyTables& tables, int most_bytes);

}  // namespace lplb::replicas
