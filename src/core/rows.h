// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"

namespace lplb::device {

/// Neighbours in topk_idx that a warp takes at once.
inline constexpr int kRow = 32;

LPLB_HOST_DEVICE inline int div_up(int a, int b) { return a / b + (a % b != 0 ? 1 : 0); }

/// Rows of each warp where `num_warps` share `num_entries`; the last warps may have fewer, or none.
LPLB_HOST_DEVICE inline int rows_per_warp(int num_entries, int num_warps) {
  return div_up(div_up(num_entries, kRow), num_warps);
}

}  // namespace lplb::device
