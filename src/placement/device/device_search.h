// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "placement/device/jobs.h"

namespace lplb::placement {

/// Searches all layers on the device, as HomesSearch with a WindowJudge does on the CPU, with the
/// same trials and results. The search ends after `max_seconds`; infinity: there is no limit.
/// `jobs` may be empty. Waits for the device. Throws CudaError, and ArgumentError, which names
/// `backend`, if the device does not take the shape.
std::vector<FoundLayer> search_on_device(const HomesShape& shape, std::span<const LayerJob> jobs,
                                         double max_seconds);

}  // namespace lplb::placement
