// SPDX-License-Identifier: MIT
#pragma once

#include "core/format.h"
#include "lplb/error.h"

namespace lplb {

/// Throws ArgumentError(argument, problem) if `ok` is false. The message is formatted only then.
template <class... Args>
void check_argument(bool ok, const char* argument, fmt::format_string<Args...> problem,
                    Args&&... args) {
  if (!ok) [[unlikely]] {
    throw ArgumentError(argument, format_with(problem, fmt::make_format_args(args...)));
  }
}

}  // namespace lplb
