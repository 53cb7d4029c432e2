// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>

#include "core/device.h"
#include "core/launches.h"

namespace lplb::device {

struct LaunchShape {
  int num_blocks = 1;
  int num_threads = 1;
  std::size_t shared_bytes = 0;  ///< dynamic shared memory of a block
  int cluster_blocks = 1;        ///< blocks of a cluster; > 1 needs compute capability 9.0
  /// The kernel may start before the previous one in the stream has ended. It must call
  /// wait_for_kernel() (ptx.cuh) before it reads what the previous one writes. Needs compute
  /// capability 9.0.
  bool is_early = false;
};

/// The arguments of a launch for the runtime. It cannot be copied, because `config` points into it.
struct Launch {
  cudaLaunchConfig_t config{};
  std::array<cudaLaunchAttribute, 2> attributes{};

  Launch(const LaunchShape& shape, cudaStream_t stream) {
    config.gridDim = dim3(static_cast<unsigned>(shape.num_blocks));
    config.blockDim = dim3(static_cast<unsigned>(shape.num_threads));
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream;
    config.attrs = attributes.data();
    if (shape.cluster_blocks > 1) {
      cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
      cluster.id = cudaLaunchAttributeClusterDimension;
      cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster_blocks);
      cluster.val.clusterDim.y = 1;
      cluster.val.clusterDim.z = 1;
    }
    if (shape.is_early) {
      cudaLaunchAttribute& early = attributes[config.numAttrs++];
      early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      early.val.programmaticStreamSerializationAllowed = 1;
    }
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
};

/// Loads a kernel onto the device. Throws CudaError. NOTE: CUDA would load it at its first launch,
/// and would wait for all running kernels of the device before that. If one of them waits for this
/// kernel, neither would ever end.
template <class Args>
void load(void (*kernel)(Args)) {
  cudaFuncAttributes attributes{};
  LPLB_CUDA_CHECK(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
}

/// Launches a kernel that takes one argument. Throws CudaError.
template <class Args>
void launch(void (*kernel)(Args), const LaunchShape& shape, cudaStream_t stream, Args args) {
  const Launch launch(shape, stream);
  void* arguments[] = {&args};
  LPLB_CUDA_CHECK(
      cudaLaunchKernelExC(&launch.config, reinterpret_cast<const void*>(kernel), arguments));
  note_launch();
}

}  // namespace lplb::device
