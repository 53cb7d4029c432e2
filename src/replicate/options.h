// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/replicate.h"

namespace lplb::replicas {

/// Throws ArgumentError if an option is out of range, or does not fit the placement.
void check_options(const Placement& placement, const ReplicateOptions& options);

}  // namespace lplb::replicas
