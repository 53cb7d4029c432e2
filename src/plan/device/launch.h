// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "plan/device/args.h"

// The launches of DevicePlanner's kernels.
namespace lplb::plan {

/// The most shared memory that a block of the kernels can have on the current device.
std::int64_t most_shared_bytes();
/// Allows the kernels, with staleness or without, so much; once a planner. Throws CudaError.
void prepare(std::size_t shared_bytes, bool is_stale);
/// Whether a cluster of so many blocks fits the current device.
bool has_clusters(int num_blocks, std::size_t shared_bytes, bool is_stale);

/// Whether kernels can start before the one ahead has ended.
bool can_start_early();

/// Enqueue one batch. Throw CudaError.
void launch_cluster(const Args& args, bool is_cut, cudaStream_t stream);
void launch_kernels(const Args& args, bool is_cut, bool early, cudaStream_t stream);
/// Counts alone.
void launch_count(const PackArgs& args, cudaStream_t stream);
void launch_check(const CheckArgs& args, cudaStream_t stream);

}  // namespace lplb::plan
