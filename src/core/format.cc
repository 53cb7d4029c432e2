// SPDX-License-Identifier: MIT
#include "core/format.h"

namespace lplb {

std::string format_with(fmt::string_view text, fmt::format_args args) {
  return fmt::vformat(text, args);
}

}  // namespace lplb
