// SPDX-License-Identifier: MIT
#pragma once

namespace lplb::device {

/// Adds `step` to the user's counter, an integer of 4 or 8 bytes, without waiting for its old
/// value.
__device__ inline void add_to_counter(void* counter, int bytes, int step) {
  if (bytes == 8) {
    atomicAdd(static_cast<unsigned long long*>(counter), static_cast<unsigned long long>(step));
  } else {
    atomicAdd(static_cast<int*>(counter), step);
  }
}

}  // namespace lplb::device
