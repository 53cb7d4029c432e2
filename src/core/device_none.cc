// SPDX-License-Identifier: MIT
#include "lplb/backend.h"

namespace lplb {

const CudaSupport& cuda_support() {
  static const CudaSupport support{.missing = LPLB_NO_CUDA_REASON};
  return support;
}

}  // namespace lplb
