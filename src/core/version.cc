// SPDX-License-Identifier: MIT
#include "lplb/version.h"

#define LPLB_STRING_(x) #x
#define LPLB_STRING(x) LPLB_STRING_(x)

namespace lplb {

const char* version() noexcept {
  return LPLB_STRING(LPLB_VERSION_MAJOR) "." LPLB_STRING(LPLB_VERSION_MINOR) "." LPLB_STRING(
      LPLB_VERSION_PATCH);
}

}  // namespace lplb
