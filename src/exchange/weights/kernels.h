// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/weights/layout.h"
#include "lplb/device_weights.h"

// The host side of the kernels (weights_cuda.cu), and the layout of a buffer (layout.cc).
namespace lplb::exchange {

/// Computes where everything is. `placement` is one of the layers' placements, which have the same
/// sizes. All arguments have been checked.
WeightsLayout lay_out(const Placement& placement, Index num_layers, Index num_members,
                      const DeviceWeightLayout& tensors, const DeviceWeightOptions& options);

/// Loads the kernels onto the current device. Returns how many buffers of kTile bytes a block can
/// have in shared memory, at most kMaxBuffers. Throws CudaError.
int prepare_weights();

/// All launch one kernel on `stream`: with `num_blocks` blocks, or one. Throw CudaError.
void launch_fetch(const FetchArgs& args, int num_blocks, StreamHandle stream);
void launch_reduce(const ReduceArgs& args, GradientType type, int num_blocks, StreamHandle stream);
void launch_update(unsigned long long* versions, int count, StreamHandle stream);

}  // namespace lplb::exchange
