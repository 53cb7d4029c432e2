// SPDX-License-Identifier: MIT
#pragma once

#include <nccl.h>
#include <nccl_device.h>

#include "exchange/rail/rail.h"
#include "lplb/device_exchange.h"

// What the rail of NCCL's GPU-initiated networking and its kernel share.
namespace lplb::exchange {

struct GinRailArgs {
  ncclDevComm comm;
  ncclWindow_t window;
  int first_rank;  ///< the rank of this rail in domain 0
  int rank_stride;
};

/// Loads the kernel. Throws CudaError.
void prepare_gin_rail();
/// Enqueues one round. Throws CudaError.
void launch_gin_rail(const RailArgs& args, const GinRailArgs& network, StreamHandle stream);

}  // namespace lplb::exchange
