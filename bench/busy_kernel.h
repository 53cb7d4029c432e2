// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

namespace lplb::bench {

/// Enqueues work that stands for other kernels: one thread waits that long, and the rest of the
/// device is free.
void launch_busy(int microseconds, cudaStream_t stream);

}  // namespace lplb::bench
