// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lplb {

/// How many kernels this process has launched so far. Tests use it to see that a backend ran.
std::int64_t num_launches();
/// Counts one launch.
void note_launch();

}  // namespace lplb
