// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "placement/keys.h"

namespace lplb::eplb {

/// Sorts keys[0, n) by value alone, leaving equal values in the order in which PyTorch's sort()
/// leaves them on a CPU: for more than 16 items it is not stable, and the order of an expert's
/// replicas (equal loads) depends on it. That order is libstdc++'s std::sort: Musser's introsort
/// with a median of three and a final insertion sort. It is spelled out here so that a placement is
/// the same with every standard library.
void introsort(Key* keys, std::size_t n);

}  // namespace lplb::eplb
