// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/launch.cuh"
#include "exchange/weights/fetch.cuh"
#include "exchange/weights/kernels.h"
#include "exchange/weights/reduce.cuh"

namespace lplb::exchange {
namespace {

extern __shared__ __align__(128) unsigned char tile_buffers[];

__global__ void __launch_bounds__(kFetchThreads)
    fetch_kernel(const __grid_constant__ FetchArgs args) {
  __shared__ SharedFetch shared;
  Fetch(args, shared).run<device::kHasBulkCopies>(tile_buffers);
}

template <class Type>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_kernel(const __grid_constant__ ReduceArgs args) {
  __shared__ SharedReduce shared;
  Reduce(args, shared).run<Type, device::kHasBulkCopies>(tile_buffers);
}

struct UpdateArgs {
  unsigned long long* versions;
  int count;
};

__global__ void update_kernel(const __grid_constant__ UpdateArgs args) {
  for (int i = threadIdx.x; i < args.count; i += device::kWarpSize) ++args.versions[i];
}

/// Lets a kernel use all shared memory that a block can have. Returns how much is left for tiles.
template <class Args>
std::size_t load_with_tiles(void (*kernel)(Args), int most) {
  cudaFuncAttributes attributes{};
  const auto* const function = reinterpret_cast<const void*>(kernel);
  LPLB_CUDA_CHECK(cudaFuncGetAttributes(&attributes, function));
  const int room = most - static_cast<int>(attributes.sharedSizeBytes);
  const int bytes = std::min(room / kTile, kMaxBuffers) * kTile;
  LPLB_CUDA_CHECK(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  return static_cast<std::size_t>(bytes);
}

}  // namespace

int prepare_weights() {
  int current = 0;
  int most = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&current));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, current));
  device::load(update_kernel);
  const std::size_t bytes = std::min({load_with_tiles(fetch_kernel, most),
                                      load_with_tiles(reduce_kernel<Float32Gradients>, most),
                                      load_with_tiles(reduce_kernel<BFloat16Gradients>, most)});
  return static_cast<int>(bytes / kTile);
}

void launch_fetch(const FetchArgs& args, int num_blocks, StreamHandle stream) {
  device::launch(fetch_kernel,
                 {.num_blocks = num_blocks,
                  .num_threads = kFetchThreads,
                  .shared_bytes = static_cast<std::size_t>(args.num_buffers) * kTile},
                 static_cast<cudaStream_t>(stream), args);
}

void launch_reduce(const ReduceArgs& args, GradientType type, int num_blocks, StreamHandle stream) {
  const device::LaunchShape shape{
      .num_blocks = num_blocks,
      .num_threads = kReduceThreads,
      .shared_bytes = static_cast<std::size_t>(args.num_buffers) * kTile};
  auto* const kernel = type == GradientType::kFloat32 ? reduce_kernel<Float32Gradients>
                                                      : reduce_kernel<BFloat16Gradients>;
  device::launch(kernel, shape, static_cast<cudaStream_t>(stream), args);
}

void launch_update(unsigned long long* versions, int count, StreamHandle stream) {
  device::launch(update_kernel, {.num_threads = device::kWarpSize},
                 static_cast<cudaStream_t>(stream), UpdateArgs{versions, count});
}

}  // namespace lplb::exchange
