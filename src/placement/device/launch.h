// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "placement/device/args.h"

namespace lplb::placement {

/// The most shared memory of a block of the current device, in bytes.
int most_search_bytes();

/// Allows the kernel for these arguments its shared memory. It belongs to kernel and device, so
/// every user may call it. Throws CudaError.
void prepare_search(const SearchArgs& args);

/// How many blocks the current device runs at once, after prepare_search(). Throws CudaError.
int most_search_blocks(const SearchArgs& args);

/// Enqueues one kernel. Throws CudaError.
void launch_search(const SearchArgs& args, int num_blocks, cudaStream_t stream);

}  // namespace lplb::placement
