// SPDX-License-Identifier: MIT
#pragma once

#include <fmt/format.h>

#include <string>

namespace lplb {

/// fmt::vformat(), compiled in one file.
std::string format_with(fmt::string_view text, fmt::format_args args);

/// fmt::format(), with its checks at compile time. NOTE: fmt is used header-only, so that what is
/// installed does not need it; each file that calls fmt::format() itself compiles all of it, which
/// takes longer than the rest of the file.
template <class... Args>
std::string formatted(fmt::format_string<Args...> text, Args&&... args) {
  return format_with(text, fmt::make_format_args(args...));
}

}  // namespace lplb
