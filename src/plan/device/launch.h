// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "plan/device/args.h"

// Launches of DevicePlanner's kernels.
namespace lplb::plan {

/// The kernels that solve, by the planners that need them.
enum class KernelSet {
  kExact,
  kStale,         ///< with staleness
  kCost,          ///< with costs
  kCopies,        ///< with dynamic slots: launch_cluster() only
  kDomainCopies,  ///< the same in several domains
};

/// The most shared memory, in bytes, that a block of the kernels can have on the current device.
std::int64_t most_shared_bytes();
/// Allows the kernels this much shared memory. Called once for each planner. Throws CudaError.
void prepare(std::size_t shared_bytes, KernelSet set);
/// Whether a cluster of `num_blocks` blocks fits on the current device.
bool has_clusters(int num_blocks, std::size_t shared_bytes, KernelSet set);

/// Whether a kernel can start before the previous one in the stream has ended.
bool can_start_early();

/// These enqueue one batch. They throw CudaError.
void launch_cluster(const Args& args, bool is_cut, cudaStream_t stream);
void launch_kernels(const Args& args, bool is_cut, bool early, cudaStream_t stream);
/// Only counts: this rank's counts, packed.
void launch_count(const PackArgs& args, cudaStream_t stream);
void launch_check(const CheckArgs& args, cudaStream_t stream);

}  // namespace lplb::plan
