// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lplb::bench {

/// Adds solve/ benchmarks of recorded_cases(trace). Throws what that does.
void register_recorded(const std::string& trace);

}  // namespace lplb::bench
