// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"
#include "lplb/device_exchange.h"

// Between the exchange of two levels and its kernel.
namespace lplb::exchange {

struct TwoLevelArgs {
  /// [domain_size, num_domains * num_counts + 1]: what each rank of the domain got along its rail,
  /// and how that went.
  const std::int32_t* rows;
  const std::int32_t* outcome;  ///< of the domain's round
  std::int32_t* all;            ///< DeviceGather's
  std::int32_t* all_outcome;    ///< DeviceGather's
  ExchangeControl* control;     ///< its counters alone
  int num_domains;
  int domain_size;
  int num_counts;
};

/// The rank that a round lacked: one of the domain, else one of the rail; -1: none.
/// `rank_in_domain` of `domain_size` in `domain` is this rank; NOTE: what another rank lacked only
/// that one knows.
inline Index missing_of_levels(Index domain, Index rank_in_domain, Index domain_size,
                               Index missing_in_domain, Index missing_domain) {
  if (missing_in_domain >= 0) return domain * domain_size + missing_in_domain;
  return missing_domain >= 0 ? missing_domain * domain_size + rank_in_domain : -1;
}

/// Loads the kernel, as prepare_gather() does. Throws CudaError.
void prepare_two_level();
/// Puts the rows in order of rank. Throws CudaError.
void launch_two_level(const TwoLevelArgs& args, StreamHandle stream);

}  // namespace lplb::exchange
