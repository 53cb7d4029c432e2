// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/backend.h"

namespace lplb {

/// What every function of the device does in a build without CUDA: throws CudaError, which says why
/// there is none. The stages' *none.cc files call it.
[[noreturn]] inline void refuse_without_cuda() {
  throw CudaError("backend cuda: " + cuda_support().missing);
}

}  // namespace lplb
