// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "replicate/device/choose.cuh"
#include "replicate/device/launch.h"

namespace lplb::replicas {
namespace {

template <int kWords>
__global__ void __launch_bounds__(kCopyThreads, 1)
    copies_kernel(const __grid_constant__ CopyArgs args) {
  CopyChoice<kWords>(args, shared_memory(nullptr)).run();
}

CopyKernel kernel_of(const CopySizes& sizes) {
  if (sizes.is_general()) return general_kernel();
  switch (sizes.rank_words()) {
    case 1:
      return copies_kernel<1>;
    case 2:
      return copies_kernel<2>;
    default:
      return copies_kernel<4>;
  }
}

}  // namespace

int most_copy_bytes() {
  int device = 0;
  int bytes = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes;
}

CopyTables copy_tables(const CopySizes& sizes) { return make_copy_tables(sizes); }

void prepare_copies(const CopySizes& sizes) {
  LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel_of(sizes)),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       most_copy_bytes()));
}

void launch_copies(const CopyArgs& args, cudaStream_t stream) {
  device::launch(
      kernel_of(args.sizes),
      {.num_threads = kCopyThreads, .shared_bytes = static_cast<std::size_t>(args.layout.bytes)},
      stream, args);
}

}  // namespace lplb::replicas
