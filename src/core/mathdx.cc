// SPDX-License-Identifier: MIT
#include "lplb/backend.h"

namespace lplb {

const MathDxSupport& mathdx_support() {
  static const MathDxSupport support = [] {
    MathDxSupport found{.missing = LPLB_NO_MATHDX_REASON};
    if (found.missing.empty()) {
      found.version = "cuSolverDx " LPLB_MATHDX_VERSION;
      found.architectures = LPLB_MATHDX_ARCHITECTURES;
    }
    return found;
  }();
  return support;
}

}  // namespace lplb
