// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"
#include "lplb/device_exchange.h"

// Between the exchange of two levels and its kernel.
namespace lplb::exchange {

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

/// The rank that a round lacked: one of the domain, else one of the rail; -1: none. `lane` of
/// `num_lanes` in `domain` is this rank; NOTE: what another rank lacked only that one knows.
inline Index missing_of_levels(Index domain, Index lane, Index num_lanes, Index missing_lane,
                               Index missing_domain) {
  if (missing_lane >= 0) return domain * num_lanes + missing_lane;
  return missing_domain >= 0 ? missing_domain * num_lanes + lane : -1;
}

/// Loads the kernel, as prepare_gather() does. Throws CudaError.
void prepare_two_level();
/// Puts the rows in order of rank. Throws CudaError.
void launch_two_level(const TwoLevelArgs& args, StreamHandle stream);

}  // namespace lplb::exchange
