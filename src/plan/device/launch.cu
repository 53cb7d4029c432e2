// SPDX-License-Identifier: MIT
#include "plan/device/kernels.cuh"
#include "plan/device/launch.h"

namespace lplb::plan {
namespace {

/// The first of three kernels: writes each block's totals.
__global__ void __launch_bounds__(kThreads, 1) count_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  device::let_next_kernel_start();
  Shared shared(args, memory);
  Plan plan(shared);
  plan.begin(true);
  plan.open_image<false, false>(false);
  plan.entries.count();
  plan.rows.put_totals(args.block_totals + block_id() * (args.layout.max_columns + 1));
}

/// Sums the blocks' totals: the packed counts of this rank.
__global__ void __launch_bounds__(kThreads) pack_kernel(const __grid_constant__ PackArgs args) {
  const int num_columns = reinterpret_cast<const Header*>(args.plan.image)->num_columns;
  const int stride = args.plan.layout.max_columns + 1;
  for (int c = threadIdx.x; c < num_columns; c += kThreads) {
    int sum = 0;
    for (int block = 0; block < args.plan.num_blocks; ++block) {
      sum += args.plan.block_totals[block * stride + c];
    }
    args.packed[c] = sum;
  }
}

/// The third kernel: counts again, while the second one solves, and maps.
__global__ void __launch_bounds__(kThreads, 1) map_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  Shared shared(args, memory);
  Plan plan(shared);
  const int num_blocks = static_cast<int>(gridDim.x);
  plan.begin(true);
  plan.open_image<false, false>(false);
  plan.entries.count();
  device::wait_for_kernel();
  fetch_totals(plan.shared, num_blocks);
  for (int i = thread(); i < plan.shared.h.num_replicas; i += kThreads) {
    plan.shared.segments()[i] = args.segments[i];
  }
  plan.entries.number_warps(thread(), kThreads);
  __syncthreads();
  plan.entries.make_heads(num_blocks);
  plan.entries.map();
}

constexpr Kernels kExactKernels = make_kernels<false, false>();

const Kernels& kernels_of(KernelSet set) {
  switch (set) {
    case KernelSet::kStale:
      return stale_kernels();
    case KernelSet::kCost:
      return cost_kernels();
    case KernelSet::kCopies:
      return copy_kernels();
    case KernelSet::kDomainCopies:
      return domain_copy_kernels();
    default:
      return kExactKernels;
  }
}
const Kernels& kernels_of(const Args& args) {
  return kernels_of(args.previous != nullptr         ? KernelSet::kStale
                    : args.layout.has_costs != 0     ? KernelSet::kCost
                    : args.copies.sizes.is_general() ? KernelSet::kDomainCopies
                    : args.layout.has_copies != 0    ? KernelSet::kCopies
                                                     : KernelSet::kExact);
}

/// 1 if the exchange is in the kernel, else 0: an index of Kernels.
int exchanges(const Args& args) { return args.peers.own != nullptr ? 1 : 0; }

int attribute(cudaDeviceAttr which) {
  int device = 0;
  int value = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

}  // namespace

std::int64_t most_shared_bytes() {
  // The system and the kernels' static variables take the rest.
  return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - 2048;
}

namespace {

void allow(Kernel kernel, std::size_t shared_bytes) {
  cudaFuncAttributes now{};
  LPLB_CUDA_CHECK(cudaFuncGetAttributes(&now, reinterpret_cast<const void*>(kernel)));
  if (now.maxDynamicSharedSizeBytes >= static_cast<int>(shared_bytes)) return;
  LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shared_bytes)));
}

}  // namespace

void prepare(std::size_t shared_bytes, KernelSet set) {
  const Kernels& kernels = kernels_of(set);
  for (int cut = 0; cut < 2; ++cut) {
    for (int exchange = 0; exchange < 2; ++exchange) {
      allow(kernels.plan[cut][exchange], shared_bytes);
      if (kernels.solve[cut][exchange] == nullptr) continue;
      allow(kernels.solve[cut][exchange], shared_bytes);
    }
  }
  allow(count_kernel, shared_bytes);
  allow(map_kernel, shared_bytes);
}

bool can_start_early() { return attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }

bool has_clusters(int num_blocks, std::size_t shared_bytes, KernelSet set) {
  if (num_blocks == 1) return true;
  if (attribute(cudaDevAttrClusterLaunch) == 0) return false;
  const device::Launch launch({.num_blocks = num_blocks,
                               .num_threads = kThreads,
                               .shared_bytes = shared_bytes,
                               .cluster_blocks = num_blocks},
                              nullptr);
  int count = 0;
  LPLB_CUDA_CHECK(cudaOccupancyMaxActiveClusters(
      &count, reinterpret_cast<const void*>(kernels_of(set).plan[0][0]), &launch.config));
  return count > 0;
}

void launch_cluster(const Args& args, bool is_cut, cudaStream_t stream) {
  device::launch(kernels_of(args).plan[is_cut ? 1 : 0][exchanges(args)],
                 {.num_blocks = args.num_blocks,
                  .num_threads = kThreads,
                  .shared_bytes = static_cast<std::size_t>(args.layout.bytes),
                  .cluster_blocks = args.num_blocks},
                 stream, args);
}

void launch_count(const PackArgs& args, cudaStream_t stream) {
  device::launch(count_kernel,
                 {.num_blocks = args.plan.num_blocks,
                  .num_threads = kThreads,
                  .shared_bytes = static_cast<std::size_t>(args.plan.layout.bytes)},
                 stream, args.plan);
  device::launch(pack_kernel, {.num_blocks = 1, .num_threads = kThreads}, stream, args);
}

void launch_kernels(const Args& args, bool is_cut, bool early, cudaStream_t stream) {
  device::LaunchShape shape{.num_blocks = args.num_blocks,
                            .num_threads = kThreads,
                            .shared_bytes = static_cast<std::size_t>(args.layout.bytes)};
  device::launch(count_kernel, shape, stream, args);
  shape.is_early = early;
  shape.num_blocks = 1;
  device::launch(kernels_of(args).solve[is_cut ? 1 : 0][exchanges(args)], shape, stream, args);
  shape.num_blocks = args.num_blocks;
  device::launch(map_kernel, shape, stream, args);
}

}  // namespace lplb::plan
