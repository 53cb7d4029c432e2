// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// How a batch changes the history of an expert. All backends use this code, so their results are
// equal, bit for bit.
namespace lplb::count {

/// The expert's new history, given the old one (`load`) and its `count` in the batch. `slot` is the
/// expert's entry for the oldest batch in the ring buffer of the window; it is overwritten with
/// `count`. Null: there is no window, and `load` decays exponentially.
LPLB_HOST_DEVICE inline double remember(double load, double decay, std::int32_t count,
                                        std::int32_t* slot) {
  if (slot == nullptr) return load * decay + count;
  const std::int32_t oldest = *slot;
  *slot = count;
  return load + (count - static_cast<double>(oldest));
}

}  // namespace lplb::count
