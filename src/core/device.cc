// SPDX-License-Identifier: MIT
#include "core/device.h"

#include <cstdint>

#include "core/check.h"

namespace lplb::device {

unsigned long long capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  LPLB_CUDA_CHECK(cudaStreamGetCaptureInfo(stream, &status, &id));
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

void check_no_capture(cudaStream_t stream, const char* what) {
  check_argument(capture_of(stream) == 0, "stream",
                 "is being captured, expected {} outside of a capture", what);
}

void check_aligned(const void* pointer, std::size_t bytes, const char* name) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  check_argument(address % bytes == 0, name, "is at {:#x}, expected a multiple of {}", address,
                 bytes);
}

}  // namespace lplb::device
