// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"

namespace lplb::device {

LPLB_HOST_DEVICE inline int div_up(int a, int b) { return a / b + (a % b != 0 ? 1 : 0); }

/// Slices of each warp if `num_warps` share `num_entries`. A slice is kWarpSize neighbouring
/// entries of topk_idx, one a lane. The last warps may have fewer slices, or none.
LPLB_HOST_DEVICE inline int slices_per_warp(int num_entries, int num_warps) {
  return div_up(div_up(num_entries, kWarpSize), num_warps);
}

}  // namespace lplb::device
