// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/rail/rail.h"

// A network for tests: ranks whose memory this device sees, written as if through a network that
// orders nothing: signals come before what they are to follow.
namespace lplb::testing {

struct MemoryNetworkArgs {
  unsigned char* own;
  const unsigned long long* buffers;  ///< [num_domains]: where the rail's buffers are
  std::int64_t signals;
};

/// Throw CudaError.
void prepare_memory_rail();
void launch_memory_rail(const exchange::RailArgs& args, const MemoryNetworkArgs& network,
                        void* stream);

}  // namespace lplb::testing
