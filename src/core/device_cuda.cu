// SPDX-License-Identifier: MIT
#include <string>

#include "core/device.h"
#include "lplb/backend.h"

namespace lplb {
namespace {

__global__ void probe_kernel() {}

CudaDevice describe(int device) {
  cudaDeviceProp prop{};
  LPLB_CUDA_CHECK(cudaGetDeviceProperties(&prop, device));
  return {prop.name,
          prop.major,
          prop.minor,
          prop.multiProcessorCount,
          static_cast<std::int64_t>(prop.totalGlobalMem),
          static_cast<int>(prop.sharedMemPerBlockOptin)};
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string find_missing(CudaSupport& support) {
  (void)cudaDriverGetVersion(&support.driver);
  if (support.driver == 0) return "no NVIDIA driver on this machine";
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    return std::string("cudaGetDeviceCount: ") + cudaGetErrorString(status) + " (driver for CUDA " +
           version_text(support.driver) + ", compiled with " + version_text(support.toolkit) + ")";
  }
  if (count == 0) return "no CUDA device is visible";
  for (int device = 0; device < count; ++device) support.devices.push_back(describe(device));
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, probe_kernel) != cudaSuccess) {
    (void)cudaGetLastError();
    return "the current device is of an architecture that this build was not compiled for (" +
           support.architectures + ")";
  }
  return "";
}

}  // namespace

const CudaSupport& cuda_support() {
  static const CudaSupport support = [] {
    CudaSupport found{
        .compiled = true, .toolkit = CUDART_VERSION, .architectures = LPLB_CUDA_ARCHITECTURES_TEXT};
    found.missing = find_missing(found);
    return found;
  }();
  return support;
}

namespace device {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  throw CudaError(std::string(call) + ": " + cudaGetErrorString(status));
}

void require() {
  if (!cuda_support().missing.empty()) {
    throw CudaError("backend cuda: " + cuda_support().missing);
  }
}

}  // namespace device
}  // namespace lplb
