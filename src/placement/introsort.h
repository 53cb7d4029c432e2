// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "placement/keys.h"

namespace lplb::placement {

inline constexpr std::size_t kMaxKeys = 4096;

/// Sorts keys[0, n), n <= kMaxKeys, by value alone, leaving equal values in the order in which
/// PyTorch's sort() leaves them on a CPU: beyond 16 items it is not stable, and which of an
/// expert's replicas (equal loads) comes first depends on it. That order is the one of libstdc++'s
/// std::sort: Musser's introsort (1997) with a median of three, Hoare's partition, and insertion at
/// the end. It is built here so that a placement is the same with every standard library.
void introsort(Key* keys, std::size_t n);

}  // namespace lplb::placement
