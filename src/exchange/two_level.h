// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "lplb/device_exchange.h"

// Between the exchange of two levels and its kernel.
namespace lplb {

/// What has become of its rounds, in device memory; written by one thread a round.
struct TwoLevelControl {
  unsigned long long rounds;
  unsigned long long timed_out;
  unsigned long long behind;
  unsigned long long mismatched;
};

struct TwoLevelArgs {
  /// [num_lanes, num_domains * num_counts + 1]: what each rank of the domain got along its rail,
  /// and how that went.
  const std::int32_t* rows;
  const std::int32_t* outcome;  ///< of the domain's round
  std::int32_t* all;            ///< DeviceGather's
  std::int32_t* all_outcome;    ///< DeviceGather's
  TwoLevelControl* control;
  int num_domains;
  int num_lanes;
  int num_counts;
};

/// Loads the kernel, as prepare_gather() does. Throws CudaError.
void prepare_two_level();
/// Puts the rows in order of rank. Throws CudaError.
void launch_two_level(const TwoLevelArgs& args, StreamHandle stream);

}  // namespace lplb
