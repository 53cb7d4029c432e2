// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lplb {

/// Launches of kernels by this process so far: how a test tells that a backend ran.
std::int64_t num_launches();
void note_launch();

}  // namespace lplb
