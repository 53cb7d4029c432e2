// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"

namespace lplb::device {

/// a / b, rounded up. For a >= 0 and b > 0.
LPLB_HOST_DEVICE inline int div_up(int a, int b) { return a / b + (a % b != 0 ? 1 : 0); }

/// How many slices each warp has if `num_warps` share `num_entries`. A slice is kWarpSize
/// neighbouring entries of topk_idx, one for each lane. The last warps may have fewer slices, or
/// none.
LPLB_HOST_DEVICE inline int slices_per_warp(int num_entries, int num_warps) {
  return div_up(div_up(num_entries, kWarpSize), num_warps);
}

}  // namespace lplb::device
