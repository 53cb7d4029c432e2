// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "placement/keys.h"

namespace lplb::placement {

inline constexpr std::size_t kMaxKeys = 4096;

/// Sorts keys[0, n), n <= kMaxKeys, by value only. Equal values end in the order in which PyTorch's
/// sort() leaves them on a CPU. That sort is not stable for more than 16 items, and the order of an
/// expert's replicas, which have equal loads, depends on it.
///
/// The order is that of std::sort in libstdc++: Musser's introsort (1997) with a median of three,
/// Hoare's partition, and an insertion sort at the end. This is an implementation of its own, so
/// that a placement is the same with every standard library.
void introsort(Key* keys, std::size_t n);

}  // namespace lplb::placement
