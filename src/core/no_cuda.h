// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/backend.h"

namespace lplb {

/// Throws CudaError, which says why there is no CUDA. In a build without CUDA, all functions that
/// need the device call it: see the stages' *none.cc files.
[[noreturn]] inline void refuse_without_cuda() {
  throw CudaError("backend cuda: " + cuda_support().missing);
}

}  // namespace lplb
