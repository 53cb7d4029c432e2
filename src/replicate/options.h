// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/replicate.h"

namespace lplb::replicas {

/// Throws ArgumentError if an option is out of range, or does not fit the placement.
void check_options(const Placement& placement, const ReplicateOptions& options);

/// Throws ArgumentError if the placement has too many ranks for copies on the device.
void check_for_device(const Placement& placement);
/// Throws ArgumentError if the speeds are not equal, which the quick form of the device needs.
void check_speeds(const Placement& placement);

}  // namespace lplb::replicas
