// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"
#include "lplb/device_exchange.h"

// What the exchange of two levels and its kernel share.
namespace lplb::exchange {

struct TwoLevelArgs {
  /// [domain_size, num_domains * num_counts + 1]: the counts that each rank of the domain got along
  /// its rail, and the outcome of that round.
  const std::int32_t* rows;
  const std::int32_t* outcome;  ///< outcome of the domain's round
  std::int32_t* all;            ///< DeviceGather's
  std::int32_t* all_outcome;    ///< DeviceGather's
  ExchangeControl* control;     ///< only its counters are used
  int num_domains;
  int domain_size;
  int num_counts;
};

/// The rank that a round lacked: one of this domain, otherwise one of this rail; -1: none.
/// `domain`, `rank_in_domain` and `domain_size` describe this rank. NOTE: a rank does not know
/// which rank another one lacked.
inline Index missing_of_levels(Index domain, Index rank_in_domain, Index domain_size,
                               Index missing_in_domain, Index missing_domain) {
  if (missing_in_domain >= 0) return domain * domain_size + missing_in_domain;
  return missing_domain >= 0 ? missing_domain * domain_size + rank_in_domain : -1;
}

/// Loads the kernel before its first launch, for the reason given at prepare_gather(). Throws
/// CudaError.
void prepare_two_level();
/// Enqueues the kernel that puts the rows in the order of ranks. Throws CudaError.
void launch_two_level(const TwoLevelArgs& args, StreamHandle stream);

}  // namespace lplb::exchange
