// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer_layout.h"
#include "lplb/device_exchange.h"

// Between the exchange of two levels and its kernel.
namespace lplb {

struct TwoLevelArgs {
  /// [num_lanes, num_domains * num_counts + 1]: what each rank of the domain got along its rail,
  /// and how that went.
  const std::int32_t* rows;
  const std::int32_t* outcome;  ///< of the domain's round
  std::int32_t* all;            ///< DeviceGather's
  std::int32_t* all_outcome;    ///< DeviceGather's
  ExchangeControl* control;     ///< its counters alone
  int num_domains;
  int num_lanes;
  int num_counts;
};

/// Loads the kernel, as prepare_gather() does. Throws CudaError.
void prepare_two_level();
/// Puts the rows in order of rank. Throws CudaError.
void launch_two_level(const TwoLevelArgs& args, StreamHandle stream);

}  // namespace lplb
