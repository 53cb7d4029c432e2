// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

namespace lplb::bench {

/// Enqueues other work: one thread that waits so long, while the rest of the device is free.
void launch_busy(int microseconds, cudaStream_t stream);

}  // namespace lplb::bench
