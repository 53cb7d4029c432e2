// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "replicate/device/args.h"

namespace lplb::replicas {

using CopyKernel = void (*)(CopyArgs);

/// The kernel of the general form.
CopyKernel general_kernel();

/// The most shared memory of a block of the current device, in bytes.
int most_copy_bytes();

/// The tables of a problem.
CopyTables copy_tables(const CopySizes& sizes);

/// Allows the kernel for these sizes that much shared memory. It belongs to kernel and device, so
/// every user may call it. Throws CudaError.
void prepare_copies(const CopySizes& sizes);

/// Enqueues one kernel. Throws CudaError.
void launch_copies(const CopyArgs& args, cudaStream_t stream);

}  // namespace lplb::replicas
