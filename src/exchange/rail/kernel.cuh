// SPDX-License-Identifier: MIT
#pragma once

#include "core/launch.cuh"
#include "exchange/rail/round.cuh"
#include "lplb/device_exchange.h"

// The kernel of a rail. Each library that makes a rail compiles it for its own Network.
namespace lplb::exchange {

template <class Network>
struct RailKernelArgs {
  RailArgs round;
  Network network;
};

/// Runs one round in one block.
template <class Network>
__global__ void __launch_bounds__(kRailThreads)
    rail_kernel(const __grid_constant__ RailKernelArgs<Network> args) {
  __shared__ RailShared<Network> shared;
  gather_along_rail(args.round, args.network, shared);
}

template <class Network>
void prepare_rail() {
  device::load(rail_kernel<Network>);
}

template <class Network>
void launch_rail(const RailArgs& args, const Network& network, StreamHandle stream) {
  device::launch(rail_kernel<Network>, {.num_blocks = 1, .num_threads = kRailThreads},
                 static_cast<cudaStream_t>(stream), RailKernelArgs<Network>{args, network});
}

}  // namespace lplb::exchange
