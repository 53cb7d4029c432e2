// SPDX-License-Identifier: MIT
#pragma once

#include <regex>
#include <string>

namespace lplb::bench {

/// --filter, an extended regular expression. Throws ArgumentError.
std::regex parse_filter(const std::string& filter);

}  // namespace lplb::bench
