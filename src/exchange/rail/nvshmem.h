// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/rail/rail.h"
#include "lplb/device_exchange.h"

// Between the rail of NVSHMEM's puts and its kernel.
namespace lplb::exchange {

struct NvshmemRailArgs {
  unsigned char* own;  ///< symmetric memory
  std::int64_t signals;
  int first_pe;  ///< the rail's, of domain 0
  int pe_stride;
};

/// Of NVSHMEM's code in the kernel.
struct NvshmemVersion {
  int major, minor, patch;
};
NvshmemVersion nvshmem_kernel_version();

/// Makes the world that is up known to the kernel, and loads it. Throws ExchangeError, CudaError.
void join_nvshmem();
/// Throws CudaError.
void launch_nvshmem_rail(const RailArgs& args, const NvshmemRailArgs& network, StreamHandle stream);

}  // namespace lplb::exchange
