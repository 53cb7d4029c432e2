// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/rail/rail.h"

// A network for tests. The device can access the memory of all ranks, but writes as a network might
// that keeps no order: signals come before the data that they should follow.
namespace lplb::testing {

struct MemoryNetworkArgs {
  unsigned char* own;
  const unsigned long long* buffers;  ///< [num_domains], addresses of the rail's buffers
  std::int64_t signals;
};

/// Both throw CudaError.
void prepare_memory_rail();
void launch_memory_rail(const exchange::RailArgs& args, const MemoryNetworkArgs& network,
                        void* stream);

}  // namespace lplb::testing
