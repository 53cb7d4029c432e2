// SPDX-License-Identifier: MIT
#include "bench/filter.h"

#include "core/check.h"

namespace lplb::bench {

std::regex parse_filter(const std::string& filter) try {
  return std::regex(filter, std::regex_constants::extended);
} catch (const std::regex_error&) {
  throw ArgumentError("--filter", fmt::format("\"{}\" is not a regular expression", filter));
}

}  // namespace lplb::bench
