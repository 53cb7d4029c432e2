// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lplb::testing {

/// Calls of operator new by this thread so far. Linking allocations.cc into a test replaces the
/// global operator new and delete by counting ones.
std::int64_t num_allocations();

}  // namespace lplb::testing
