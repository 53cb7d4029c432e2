// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// How a batch changes an expert's past load: the same on all backends, in every bit.
namespace lplb::count {

/// `slot`: the expert's entry of the oldest batch in the window, which the new one replaces; null
/// where there is no window.
LPLB_HOST_DEVICE inline double remember(double load, double decay, std::int32_t count,
                                        std::int32_t* slot) {
  if (slot == nullptr) return load * decay + count;
  const std::int32_t oldest = *slot;
  *slot = count;
  return load + (count - static_cast<double>(oldest));
}

}  // namespace lplb::count
