// SPDX-License-Identifier: MIT
#include "exchange/rail/kernel.cuh"
#include "exchange/rail/test_network.cuh"

namespace lplb::testing {

void prepare_memory_rail() { exchange::prepare_rail<MemoryNetwork>(); }

void launch_memory_rail(const exchange::RailArgs& args, const MemoryNetworkArgs& network,
                        void* stream) {
  exchange::launch_rail(args, MemoryNetwork{network}, stream);
}

}  // namespace lplb::testing
