// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lplb::testing {

/// How often this thread has called operator new so far. If allocations.cc is linked into a test,
/// it replaces the global operator new and delete by ones that count.
std::int64_t num_allocations();

}  // namespace lplb::testing
