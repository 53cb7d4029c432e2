// SPDX-License-Identifier: MIT
#pragma once

#include <nccl.h>
#include <nccl_device.h>

#include "exchange/rail/rail.h"
#include "lplb/device_exchange.h"

// Between the rail of NCCL's GPU-initiated networking and its kernel.
namespace lplb::exchange {

struct GinRailArgs {
  ncclDevComm comm;
  ncclWindow_t window;
  int first_rank;  ///< the rail's, of domain 0
  int rank_stride;
};

/// Loads the kernel. Throws CudaError.
void prepare_gin_rail();
/// Throws CudaError.
void launch_gin_rail(const RailArgs& args, const GinRailArgs& network, StreamHandle stream);

}  // namespace lplb::exchange
