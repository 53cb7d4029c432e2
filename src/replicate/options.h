// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/replicate.h"

namespace lplb::replicas {

/// Throws ArgumentError if an option is out of range, or does not fit the placement.
void check_options(const Placement& placement, const ReplicateOptions& options);

/// Throws ArgumentError if the device has no twin of what Replicator does with these.
void check_for_device(const Placement& placement, const ReplicateOptions& options);
/// The same for a placement's speeds alone.
void check_speeds(const Placement& placement);

}  // namespace lplb::replicas
