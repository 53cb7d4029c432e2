// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "placement/device/launch.h"
#include "placement/device/search.cuh"

namespace lplb::placement {
namespace {

template <int kWords>
__global__ void __launch_bounds__(kSearchThreads, 1)
    search_kernel(const __grid_constant__ SearchArgs args) {
  LayerSearch<kWords>(args, nullptr).run();
}

using Kernel = void (*)(SearchArgs);

Kernel kernel_of(const SearchArgs& args) {
  return args.sizes.rank_words() == 2 ? search_kernel<2> : search_kernel<4>;
}

int attribute(cudaDeviceAttr name) {
  int device = 0;
  int value = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device));
  return value;
}

}  // namespace

int most_search_bytes() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

void prepare_search(const SearchArgs& args) {
  LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel_of(args)),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       most_search_bytes()));
}

int most_search_blocks(const SearchArgs& args) {
  int blocks = 0;
  LPLB_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &blocks, reinterpret_cast<const void*>(kernel_of(args)), kSearchThreads,
      static_cast<std::size_t>(args.at.bytes)));
  return blocks * attribute(cudaDevAttrMultiProcessorCount);
}

void launch_search(const SearchArgs& args, int num_blocks, cudaStream_t stream) {
  device::launch(kernel_of(args),
                 {.num_blocks = num_blocks,
                  .num_threads = kSearchThreads,
                  .shared_bytes = static_cast<std::size_t>(args.at.bytes)},
                 stream, args);
}

}  // namespace lplb::placement
