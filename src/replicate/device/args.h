// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "lplb/device_replicator.h"
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
  int changed, split_max, num_colours, most_places;
  int max_sent, max_received;
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
};

}  // namespace lplb::replicas
