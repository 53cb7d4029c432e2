// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"
#include "lplb/replicate.h"

// What a CopyCost makes of a plan, on the CPU and on the device: the same doubles.
namespace lplb::replicas {

/// With a CopyCost, plans for these targets are compared with that for the caller's own.
inline constexpr int kNumTargets = 6;
inline constexpr double kTargets[kNumTargets] = {1.02, 1.05, 1.1, 1.2, 1.4, 1.7};

/// The time for which the busiest rank sends or receives `busiest` copies, as far as nothing hides
/// it.
LPLB_HOST_DEVICE inline double exposed_us(const CopyCost& cost, int busiest) {
  const double us = busiest * cost.expert_bytes / (cost.gigabytes_per_s * 1e3) - cost.hidden_us;
  return us > 0 ? us : 0;
}

/// What a batch takes; `max_load` as in Replication. With a bound of max_load and one copy it is a
/// bound for all plans with copies.
LPLB_HOST_DEVICE inline double batch_us(const CopyCost& cost, double max_load, int busiest) {
  return max_load * cost.us_per_token + exposed_us(cost, busiest);
}

}  // namespace lplb::replicas
