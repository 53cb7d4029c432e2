// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lplb::bench {

/// Adds the solve/ benchmarks of recorded_cases(trace). Throws what recorded_cases() throws.
void register_recorded(const std::string& trace);

}  // namespace lplb::bench
