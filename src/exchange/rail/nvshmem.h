// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/rail/rail.h"
#include "lplb/device_exchange.h"

// What the rail of NVSHMEM's puts and its kernel share.
namespace lplb::exchange {

struct NvshmemRailArgs {
  unsigned char* own;  ///< symmetric memory
  std::int64_t signals;
  int first_pe;  ///< the PE of this rail in domain 0
  int pe_stride;
};

/// The version of NVSHMEM's code in the kernel.
struct NvshmemVersion {
  int major, minor, patch;
};
NvshmemVersion nvshmem_kernel_version();

/// Lets the kernel join the world that has been started, and loads the kernel. Throws ExchangeError
/// or CudaError.
void join_nvshmem();
/// Enqueues one round. Throws CudaError.
void launch_nvshmem_rail(const RailArgs& args, const NvshmemRailArgs& network, StreamHandle stream);

}  // namespace lplb::exchange
